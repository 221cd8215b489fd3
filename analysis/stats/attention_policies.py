"""What rules that keep few keys would keep of a head's attention: masses on the full pattern of a window, [heads, n, n], causal.

Each gives the kept mass of every row; rows with so few keys that nothing is dropped count as kept whole. Sources: METHODS C7
(Double Sparsity), C9 (H2O, the local policy), C12 (ALISA), C14 (Sparsifiner's keep rate with an oracle).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def h2o_mask(weights: Tensor, heavy: int, recent: int) -> Tensor:
    """bool [heads, n, n]: keys kept at each step by H2O's local policy.

    At step t the ``recent`` last keys stay, and of those before the ``heavy`` with the largest accumulated attention; what is evicted
    never returns. Scores add up the attention over the kept keys, renormalised. T4 with one of each: rows [1], [1 1], [1 0 1],
    [1 0 0 1].
    """
    import torch

    heads, n, _ = weights.shape
    alive = torch.zeros(heads, n, dtype=torch.bool, device=weights.device)
    score = torch.zeros(heads, n, device=weights.device)
    kept = torch.zeros_like(weights, dtype=torch.bool)
    for t in range(n):
        alive[:, t] = True
        old = t + 1 - recent
        if old > heavy:
            candidates = torch.where(alive[:, :old], score[:, :old], -math.inf)
            best = candidates.topk(heavy, dim=1).indices
            among = torch.zeros_like(candidates, dtype=torch.bool).scatter_(1, best, True)
            alive[:, :old] &= among
        kept[:, t] = alive
        row = weights[:, t].where(alive, 0.0)
        score += row / row.sum(1, keepdim=True).clamp(min=1e-30)
    return kept


def alisa_mask(weights: Tensor, ratio: float) -> Tensor:
    """bool [1, n, n]: keys kept for each row by ALISA's sparse-window attention, one choice for all heads.

    k = floor((r + 1) ratio / 2); the last k keys, and of those before the k with the most attention from the last k rows, summed over
    heads. Everything where k is 0. T4, last row, ratio 1/2: keys 2 and 3.
    """
    import torch

    n = weights.shape[-1]
    sums = torch.cat([weights.new_zeros(1, n), weights.sum(0).cumsum(0)])
    kept = torch.ones(n, n, dtype=torch.bool, device=weights.device).tril()
    for r in range(n):
        k = int((r + 1) * ratio / 2 + 1e-9)
        if not k or 2 * k >= r + 1:
            continue
        recent = sums[r + 1] - sums[r + 1 - k]
        kept[r] = False
        kept[r, r + 1 - k : r + 1] = True
        kept[r, recent[: r + 1 - k].topk(k).indices] = True
    return kept[None]


def top_mask(scores: Tensor, keep: float) -> Tensor:
    """bool [..., n, n]: the ceil(keep (r + 1)) keys with the highest score in each causal row."""
    import torch

    n = scores.shape[-1]
    lower = torch.ones(n, n, dtype=torch.bool, device=scores.device).tril()
    order = scores.where(lower, -math.inf).argsort(dim=-1, descending=True, stable=True)
    counts = torch.tensor([math.ceil(keep * (r + 1) - 1e-9) for r in range(n)], device=scores.device)
    chosen = (torch.arange(n, device=scores.device) < counts[:, None]).expand(scores.shape)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, chosen) & lower


def channel_scores(query: Tensor, key: Tensor, share: float) -> Tensor:
    """[heads, n, n] of q . k over the ``share`` of channels (rounded up) with the largest mean |q_c k_c| in the window (Double Sparsity).

    query, key [heads, n, d], the same tokens. All channels: q . k itself.
    """
    strength = (query * key).abs().mean(1)
    kept = strength.topk(math.ceil(share * query.shape[-1] - 1e-9), dim=1).indices[:, None]
    q, k = (x.gather(2, kept.expand(-1, x.shape[1], -1)) for x in (query, key))
    return q @ k.transpose(1, 2)


def kept_mass(weights: Tensor, mask: Tensor, rows: slice) -> Tensor:
    """Mean over rows of the attention on kept keys [heads]; range 0 to 1."""
    return weights.where(mask, 0.0).sum(-1)[:, rows].mean(-1)
