"""Which keys a pattern of a few per query would keep, and how much of a head's attention they hold: MInference's three classes.

Patterns are [heads, n, n] of one window, rows of queries. A budget is a number of keys per query; where columns and diagonals cross, or
a block reaches past the query, fewer are kept, and `density` says how many. Sources: METHODS C2 (MInference), C6 (AdaSpa).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from analysis.stats.attention_policies import kept_mass

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = ("A-shape", "vertical-slash", "block-sparse")
FIRST_SHARE = 100 / 900
"""Share of the budget that the A-shape spends on the first keys: 100 of 100 + 800."""
COLUMN_SHARES = (30 / 830, 100 / 850, 500 / 1200, 3500 / 3600)
"""Shares of the budget that vertical-slash spends on columns: its four candidates."""
LAST_QUERIES = 64
TIE = 1e-3
"""Classes whose recall is within this of the best count as equal, and the simplest, the first, is taken."""


class Searched(NamedTuple):
    """What the search found, [heads, classes] each."""

    recall: Tensor
    density: Tensor


def a_shape(n: int, first: int, last: int, causal: bool = True) -> Tensor:
    """bool [n, n]: the first ``first`` keys and the ``last`` keys up to the query's own; of a head that also looks ahead, as many
    around it. T4 with one of each: rows keep 1, 1, .7, .5 of the attention."""
    import torch

    row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    behind = last - 1 if causal else last // 2
    near = (row - key <= behind) & (row - key > behind - last)
    return (key < first) | near


def lines_mask(columns: Tensor, diagonals: Tensor) -> Tensor:
    """bool [heads, n, n]: these columns [heads, n] and these diagonals [heads, 2 n - 1], of which number n - 1 + d holds the keys d
    before the query. T4 with columns 0 and 1 and the main diagonal: rows keep 1, 1, 1, .7."""
    return columns[:, None, :] | diagonals[:, offsets(columns.shape[1]).to(columns.device)]


def offsets(n: int) -> Tensor:
    """int64 [n, n]: the number of each pair's diagonal, n - 1 + row - key."""
    import torch

    places = torch.arange(n)
    return n - 1 + places[:, None] - places[None, :]


def diagonal_sums(weights: Tensor) -> Tensor:
    """[heads, 2 n - 1]: sum of the weights on each diagonal."""
    heads, n, _ = weights.shape
    return weights.new_zeros(heads, 2 * n - 1).index_add_(1, offsets(n).to(weights.device).flatten(), weights.flatten(1))


def best(scores: Tensor, count: int) -> Tensor:
    """bool, the shape of ``scores`` [..., m]: the ``count`` largest along the last axis; of equal ones the first."""
    import torch

    chosen = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(-1, chosen, True)


def block_means(logits: Tensor, valid: Tensor, block: int) -> Tensor:
    """[heads, blocks, blocks]: mean logit of the valid pairs of each block, -inf where it has none.

    Without masks and biases this is the product of mean-pooled queries and keys, which MInference takes. The last block may be narrower.
    """
    import torch
    import torch.nn.functional as F

    spare = -logits.shape[-1] % block
    seen = F.pad(valid.to(logits.dtype), (0, spare, 0, spare)).expand(len(logits), -1, -1)
    filled = F.pad(logits.masked_fill(~valid, 0.0), (0, spare, 0, spare))
    sums, counts = (x.unflatten(1, (-1, block)).unflatten(-1, (-1, block)).sum((2, 4)) for x in (filled, seen))
    return torch.where(counts > 0, sums / counts.clamp(min=1), -math.inf)


def block_mask(scores: Tensor, kept: int, block: int, n: int) -> Tensor:
    """bool [heads, n, n]: the ``kept`` blocks with the highest score of each row of blocks. T4, blocks of 2, their sums, one kept:
    .8 of the attention."""
    chosen = best(scores, kept).repeat_interleave(block, 1).repeat_interleave(block, 2)
    return chosen[:, :n, :n]


def block_sums(weights: Tensor, block: int) -> Tensor:
    """[heads, blocks, blocks]: attention summed over each block. T4, blocks of 2: [[2, 0], [.8, 1.2]]."""
    import torch.nn.functional as F

    spare = -weights.shape[-1] % block
    return F.pad(weights, (0, spare, 0, spare)).unflatten(1, (-1, block)).unflatten(-1, (-1, block)).sum((2, 4))


def block_sum_recall(weights: Tensor, valid: Tensor, keys: int, block: int, causal: bool) -> Tensor:
    """[heads]: attention on the keys // block blocks of each row of blocks with the largest sum, mean over `counted_rows`: the most that
    whole blocks can hold. T4, blocks of 2, one kept: .8. Source: METHODS C6 (AdaSpa)."""
    n = weights.shape[-1]
    block = min(block, max(1, keys))
    kept = block_mask(block_sums(weights, block), max(1, keys // block), block, n)
    return kept_mass(weights, kept, counted_rows(valid, causal))


def search(weights: Tensor, logits: Tensor, valid: Tensor, keys: int, block: int, causal: bool) -> Searched:
    """Recall of each class with ``keys`` keys per query: mean over `counted_rows` of the attention on what it keeps, its best candidate.

    Candidates are MInference's, scaled to the budget: the A-shape spends a ninth on the first keys, vertical-slash the shares of
    `COLUMN_SHARES` on columns, chosen by the last `LAST_QUERIES` queries; none is forced in. Block-sparse keeps keys // block blocks.
    Of a head that also looks ahead all rows count, and all choose.

    weights, logits [heads, n, n]; valid bool [n, n] -> recall and density (kept / valid pairs of these rows), 0 to 1.
    """
    import torch

    n = weights.shape[-1]
    rows = counted_rows(valid, causal)
    keys, block = min(keys, n), min(block, max(1, keys))
    first = max(1, round(keys * FIRST_SHARE))
    shape = a_shape(n, first, max(1, keys - first), causal).to(weights.device)
    blocks = block_mask(block_means(logits, valid, block), max(1, keys // block), block, n)
    found = [_kept(weights, valid, shape[None], rows), _lines(weights, valid, keys, rows, causal), _kept(weights, valid, blocks, rows)]
    return Searched(*(torch.stack([f[i] for f in found], 1) for i in range(2)))


def _lines(weights: Tensor, valid: Tensor, keys: int, rows: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Recall and density of the best split of the budget between columns and diagonals."""
    import torch

    n = weights.shape[-1]
    telling = weights.clone()
    telling[:, : max(n - LAST_QUERIES, later_rows(n, causal).start) if causal else 0] = 0.0
    columns, diagonals = telling.sum(1), diagonal_sums(telling)
    found = []
    for share in COLUMN_SHARES:
        vertical = min(max(1, round(keys * share)), max(1, keys - 1))
        mask = lines_mask(best(columns, vertical), best(diagonals, max(1, keys - vertical)))
        found.append(_kept(weights, valid, mask, rows))
    recall, density = (torch.stack([f[i] for f in found]) for i in range(2))
    which = recall.argmax(0, keepdim=True)
    return recall.gather(0, which)[0], density.gather(0, which)[0]


def _kept(weights: Tensor, valid: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean mass on kept pairs and kept / valid pairs of some rows, [heads] each."""
    pairs = (mask & valid)[:, rows].sum((1, 2)) / valid[rows].sum().clamp(min=1)
    return kept_mass(weights, mask, rows), pairs.to(weights.dtype).expand(len(weights))


def later_rows(n: int, causal: bool) -> slice:
    """Rows that count: from n // 2 on where none sees a later key (early rows have few keys and flatter every pattern), else all."""
    return slice(n // 2 if causal else 0, n)


def counted_rows(valid: Tensor, causal: bool) -> Tensor:
    """Numbers of the rows that means are over: `later_rows` that may use a key; where none of these may, all that do. valid bool [n, n]."""
    import torch

    seeing = valid.any(1)
    later = torch.zeros_like(seeing)
    later[later_rows(len(seeing), causal)] = True
    return (seeing & later if bool((seeing & later).any()) else seeing).nonzero()[:, 0]


def chosen_class(recalls: list[float]) -> str:
    """The class with the best recall; of those within `TIE` of it the simplest, in the order of `CLASSES`."""
    return next(name for name, recall in zip(CLASSES, recalls, strict=True) if recall >= max(recalls) - TIE)
