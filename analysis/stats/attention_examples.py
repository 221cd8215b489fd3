"""One window of one place for display: each query's few largest weights, a coarse picture of the pattern, and what stands out in it.

Taken a block of queries at a time: the whole pattern is never held. Sources: our own operational choices; the masses as METHODS C17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

VALID = -1e9
"""Logits above this are of valid keys."""
SHOWN = ("first", "current", "previous", "next", "same", "after_same", "special", "spread")
"""What may stand out in a window: attention on the first key, the own token, the one before, the one after, the same token elsewhere,
the token after such a one, special tokens; and the entropy relative to uniform."""
FIRST, CURRENT, PREVIOUS, NEXT, SAME, AFTER_SAME, SPECIAL, SPREAD = range(len(SHOWN))
LITTLE = 0.05
"""A standard deviation over heads that is little."""


@dataclass(frozen=True)
class Looked:
    """One window of one place. Q: queries kept; k: keys kept of each."""

    queries: NDArray[np.int64]
    """[Q]: their rows."""
    valid: NDArray[np.int64]
    """[heads, Q]: keys that each may look at; 0 where masked out wholly."""
    keys: NDArray[np.int64]
    weights: NDArray[np.float64]
    """[heads, Q, k]: those with the largest weights, largest first; beyond ``valid`` meaningless."""
    moved: NDArray[np.float64] | None
    """[heads, Q, k]: their shares of A |v W_O|; None where it could not be had."""
    entropy: NDArray[np.float64]
    """[heads, Q], nats."""
    cells: NDArray[np.float64]
    """[heads, rows of cells, columns of cells]."""
    cell_rows: NDArray[np.int64]
    """[heads, rows of cells]: queries behind each row."""
    cell_size: tuple[int, int]
    """Queries and keys a cell is wide."""
    shown: NDArray[np.float64]
    """[heads, SHOWN]: means over queries with two or more valid keys; NaN where it does not apply."""
    rows: NDArray[np.int64]
    """[heads]: such queries."""


class Looking:
    """Adds up one window of one place from blocks of its logits."""

    def __init__(
        self,
        heads: int,
        shape: tuple[int, int],
        queries: NDArray[np.int64],
        *,
        k: int,
        cells: int,
        is_self: bool,
        causal: bool,
        keep: Tensor,
        first: int = 0,
        tokens: Tensor | None = None,
        special: Tensor | None = None,
        moved: Tensor | None = None,
    ) -> None:
        """``shape``: queries and keys; ``queries``: rows whose keys are kept, ascending; ``keep`` [queries]: real tokens; ``first``: the
        first key that is no padding; ``tokens`` [n] ids where queries and keys are the same tokens; ``special`` [keys]; ``moved``
        [heads, keys]: |v W_O|."""
        import torch

        n, keys = shape
        self._heads, self._keys, self._k, self._wanted = heads, keys, min(k, keys), torch.from_numpy(queries).to(keep.device)
        self._size = math.ceil(n / cells), math.ceil(keys / cells)
        self._cells = torch.zeros(heads, math.ceil(n / self._size[0]), math.ceil(keys / self._size[1]), dtype=torch.float64)
        self._cell_rows = torch.zeros(heads, self._cells.shape[1], dtype=torch.int64)
        self._is_self, self._causal, self._keep, self._first = is_self, causal, keep, first
        self._tokens, self._special, self._moved = tokens, special, moved
        self._sums = torch.zeros(heads, len(SHOWN), dtype=torch.float64)
        self._known = [True, *(is_self,) * 3, *(tokens is not None,) * 2, special is not None, True]
        if causal:
            self._known[NEXT] = False
        self._rows = torch.zeros(heads, dtype=torch.int64)
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, start: int, logits: Tensor) -> None:
        """Rows ``start ..`` [heads, rows, keys]; keys left off at the end are excluded."""
        import torch

        valid = logits > VALID
        weights = logits.softmax(-1) * valid
        rows = torch.arange(start, start + logits.shape[1], device=logits.device)
        n = valid.sum(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1)
        real = self._keep[rows] & (n > 0)
        self._keep_largest(rows, weights, valid, n * self._keep[rows], entropy)
        self._picture(rows, weights, real)
        self._stand_out(rows, weights, n, entropy, real & (n > 1))

    def _keep_largest(self, rows: Tensor, weights: Tensor, valid: Tensor, n: Tensor, entropy: Tensor) -> None:
        import torch

        at = torch.isin(rows, self._wanted).nonzero().squeeze(1)
        if not len(at):
            return
        chosen, k = weights[:, at], min(self._k, weights.shape[-1])
        largest, keys = top_keys(chosen.masked_fill(~valid[:, at], -1.0), k)  # a valid key of weight 0 comes before one that is masked
        largest = largest.clamp(min=0)
        moved = torch.zeros_like(largest)
        if self._moved is not None:
            share = chosen * self._moved[:, None, : weights.shape[-1]]
            moved = share.gather(2, keys) / share.sum(-1, keepdim=True).clamp(min=1e-30)
        wide = [torch.nn.functional.pad(x, (0, self._k - k)).cpu() for x in (keys, largest, moved)]
        self._parts.append((*wide, n[:, at].cpu(), entropy[:, at].cpu()))

    def _picture(self, rows: Tensor, weights: Tensor, real: Tensor) -> None:
        """Sums of weights by cell, over real rows."""
        import torch

        by_column = torch.nn.functional.pad(weights * real[..., None], (0, self._cells.shape[2] * self._size[1] - weights.shape[-1]))
        by_column = by_column.unflatten(2, (-1, self._size[1])).sum(-1, dtype=torch.float64).cpu()
        self._cells.index_add_(1, (rows // self._size[0]).cpu(), by_column)
        self._cell_rows.index_add_(1, (rows // self._size[0]).cpu(), real.long().cpu())

    def _stand_out(self, rows: Tensor, weights: Tensor, n: Tensor, entropy: Tensor, counted: Tensor) -> None:
        import torch

        keys = torch.arange(weights.shape[-1], device=weights.device)
        looks: list[tuple[int, Tensor]] = [(FIRST, (keys == self._first)[None])]
        if self._is_self:
            looks += [(place, keys[None] == rows[:, None] + off) for place, off in ((CURRENT, 0), (PREVIOUS, -1), (NEXT, 1))]
        if self._tokens is not None:
            looks += [(place, mask[:, keys]) for place, mask in zip((SAME, AFTER_SAME), repeats(self._tokens, rows, self._causal))]
        if self._special is not None:
            looks.append((SPECIAL, self._special[keys][None]))
        for place, mask in looks:
            self._sums[:, place] += (torch.where(mask, weights, 0.0).sum(-1) * counted).sum(-1, dtype=torch.float64).cpu()
        self._sums[:, SPREAD] += (entropy / n.clamp(min=2).log() * counted).sum(-1, dtype=torch.float64).cpu()
        self._rows += counted.sum(-1).cpu()

    def found(self) -> Looked:
        """Everything, once all blocks were added."""
        import torch

        keys, weights, moved, valid, entropy = (torch.cat(part, 1).numpy() for part in zip(*self._parts, strict=True))
        n = np.maximum(self._rows.numpy(), 1)[:, None]
        known = np.array(self._known)[None] & (self._rows.numpy() > 0)[:, None]
        return Looked(
            queries=self._wanted.cpu().numpy(),
            valid=valid.astype(np.int64),
            keys=keys,
            weights=weights.astype(np.float64),
            moved=None if self._moved is None else moved.astype(np.float64),
            entropy=entropy.astype(np.float64),
            cells=(self._cells / self._cell_rows.clamp(min=1)[..., None]).numpy(),
            cell_rows=self._cell_rows.numpy(),
            cell_size=self._size,
            shown=np.where(known, self._sums.numpy() / n, np.nan),
            rows=self._rows.numpy(),
        )


def top_keys(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest weights of every row, largest first, equal ones by key, and their keys; [..., keys] -> [..., k] each.

    T4, k = 2: masses 1, 1, .8, .7. Source: METHODS C0.
    """
    largest, keys = weights.topk(k, dim=-1)
    by_key = keys.argsort(dim=-1)
    largest, keys = largest.gather(-1, by_key), keys.gather(-1, by_key)
    order = largest.argsort(dim=-1, descending=True, stable=True)
    return largest.gather(-1, order), keys.gather(-1, order)


def repeats(tokens: Tensor, rows: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """For each of these rows which keys hold the row's token elsewhere, and which hold the token after such a one; bool [rows, n].

    The key before the second kind is a copy of the row's token and not the row itself; causal: both before the row. Tokens
    ``a b a b``, row 2: key 0, and key 1.
    """
    import torch

    n = len(tokens)
    keys = torch.arange(n, device=tokens.device)
    same = (tokens[rows][:, None] == tokens[None]) & (keys[None] != rows[:, None])
    if causal:
        same &= keys[None] < rows[:, None]
    after = torch.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    return same, after


def characteristic(shown: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each head the measure by which it exceeds the other heads most: the largest (x - mean) / (standard deviation + 0.05), over heads.

    ``shown`` [heads, measures], shares, NaN where one does not apply. By the 0.05 a measure in which heads hardly differ stands out in
    none. Ours.
    """
    known = ~np.isnan(shown)
    n = np.maximum(known.sum(0), 1)
    mean = np.where(known, shown, 0.0).sum(0) / n
    off = np.where(known, shown - mean, 0.0)
    spread = np.sqrt((off**2).sum(0) / n)
    return np.where(known, off / (spread + LITTLE), -np.inf).argmax(1)
