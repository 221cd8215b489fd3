"""What rules that keep few keys would keep of a head's attention: masses on the full pattern of a window, [heads, n, n], causal.

Each gives the kept mass of every row; rows with so few keys that nothing is dropped count as kept whole. Sources: METHODS C7
(Double Sparsity), C9 (H2O, the local policy), C10 (Keyformer), C12 (ALISA), C14 (Sparsifiner's keep rate with an oracle), C18 (SSA).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis.stats.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor


ROUNDING = 1e-6
"""Of a number of keys: above what a share times a length loses to rounding, below what any level asks for."""


def h2o_mask(weights: Tensor, heavy: int, recent: int, allowed: Tensor | None = None) -> Tensor:
    """bool [heads, n, n]: keys kept at each step by H2O's local policy.

    At step t the ``recent`` last keys stay, and of those before the ``heavy`` with the largest accumulated attention; what is evicted
    never returns. Scores add up the attention over the kept keys, renormalised. T4 with one of each: rows [1], [1 1], [1 0 1],
    [1 0 0 1]. ``allowed`` bool [heads, n, n]: pairs within a window of the model's own; None: every earlier key may be seen.
    """
    return _evicting(weights, heavy, recent, lambda row, t: row, allowed)  # noqa: ARG005 - as Keyformer's


def keyformer_mask(weights: Tensor, heavy: int, recent: int, noise: Tensor, warmest: float = 2.0, allowed: Tensor | None = None) -> Tensor:
    """bool [..., heads, n, n]: keys kept at each step by Keyformer's policy, as H2O's but for the scores.

    These add up softmax((x + zeta) / tau) over the kept keys: x the logits, ``noise`` zeta standard Gumbel [..., 1 or heads, n, n], tau
    rising evenly from 1 at the first query to ``warmest`` at the last (the paper's 1 to 2; its code adds .01 a generated token). Without
    noise and with tau = 1 throughout: H2O's. ``allowed``: as there. Source: METHODS C10.
    """
    logs = weights.clamp(min=1e-30).log()
    last = max(1, weights.shape[-1] - 1)

    def scored(row: Tensor, t: int) -> Tensor:
        tau = 1 + (warmest - 1) * t / last
        found = (logs[..., t, :] + noise[..., t, :]) / tau
        return (found - found.amax(-1, keepdim=True)).exp() * (row > 0)

    return _evicting(weights.expand(*noise.shape[:-3], *weights.shape[-3:]), heavy, recent, scored, allowed)


def _evicting(weights: Tensor, heavy: int, recent: int, scored: Callable[[Tensor, int], Tensor], allowed: Tensor | None) -> Tensor:
    """Keys kept where at each step all but the last ``recent`` and the ``heavy`` with the largest score are evicted for good.

    ``scored(row, t)``: what the keys of row t score, [..., n], before it is renormalised over those kept.
    """
    import torch

    n = weights.shape[-1]
    alive = torch.zeros(*weights.shape[:-2], n, dtype=torch.bool, device=weights.device)
    score = torch.zeros(*weights.shape[:-2], n, device=weights.device)
    kept = torch.zeros(weights.shape, dtype=torch.bool, device=weights.device)
    with one_thread():
        for t in range(n):
            alive[..., t] = True
            if allowed is not None:
                alive &= allowed[..., t, :]  # what a window has left behind takes no place of the budget
            old = t + 1 - recent
            if old > heavy:
                candidates = torch.where(alive[..., :old], score[..., :old], -math.inf)
                best = candidates.topk(heavy, dim=-1).indices
                among = torch.zeros_like(candidates, dtype=torch.bool).scatter_(-1, best, True)
                alive[..., :old] &= among
            kept[..., t, :] = alive
            row = scored(weights[..., t, :], t).where(alive, 0.0)
            score += row / row.sum(-1, keepdim=True).clamp(min=1e-30)
    return kept


def gumbel(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard Gumbel noise, seeded: -ln(-ln u)."""
    import torch

    made = torch.Generator().manual_seed(seed)
    return -(-torch.rand(shape, generator=made).clamp_(1e-9, 1 - 1e-7).log()).log()


def subsampled(weights: Tensor, value: Tensor, share: float, draws: int, seed: int) -> Tensor:
    """[draws, heads, n, d]: what heads give where each query sees a random ``share`` of its keys, its weights renormalised over them.

    The own key and the first one are always seen (the first, since dropping a sink changes all else). Keys are drawn alike for all heads.
    ``share`` 1: weights @ value. Uniform weights and values of variance s^2: each differs from it by variance s^2 (1 - share) / (share
    n), for many keys n. Source: METHODS C18, on a head instead of the loss.
    """
    import torch

    n = weights.shape[-1]
    made = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        seen = torch.rand(n, n, generator=made) < share
        seen |= torch.eye(n, dtype=torch.bool)
        seen[:, 0] = True
        kept = weights * seen.to(weights.device)
        found.append(kept / kept.sum(-1, keepdim=True).clamp(min=1e-30) @ value)
    return torch.stack(found)


def agreement(outputs: Tensor, whole: Tensor, rows: slice) -> Tensor:
    """Mean cosine over draws and rows [heads] of outputs [draws, heads, n, d] with those of the whole attention [heads, n, d]."""
    import torch

    return torch.nn.functional.cosine_similarity(outputs[:, :, rows], whole[None, :, rows], dim=-1).mean((0, 2)).clamp(-1, 1)


def alisa_mask(weights: Tensor, ratio: float, counts: Sequence[int] | None = None) -> Tensor:
    """bool [1, n, n]: keys kept for each row by ALISA's sparse-window attention, one choice for all heads.

    k = floor((r + 1) ratio / 2); the last k keys, and of those before the k with the most attention from the last k rows, summed over
    heads. Everything where k is 0. T4, last row, ratio 1/2: keys 2 and 3. ``counts``: how many keys up to its own each row may see,
    where a window leaves fewer than r + 1; only these are kept.
    """
    import torch

    n = weights.shape[-1]
    sums = torch.cat([weights.new_zeros(1, n), weights.sum(0).cumsum(0)])
    kept = torch.ones(n, n, dtype=torch.bool, device=weights.device).tril()
    for r in range(n):
        seen = r + 1 if counts is None else counts[r]
        k, begin = int(seen * ratio / 2 + ROUNDING), r + 1 - seen
        kept[r, :begin] = False
        if not k or 2 * k >= seen:
            continue
        recent = sums[r + 1] - sums[r + 1 - k]
        kept[r] = False
        kept[r, r + 1 - k : r + 1] = True
        kept[r, begin + recent[begin : r + 1 - k].topk(k).indices] = True
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


def kept_mass(weights: Tensor, mask: Tensor, rows: slice | Tensor) -> Tensor:
    """Mean over rows of the attention on kept keys [heads]; range 0 to 1."""
    return weights.where(mask, 0.0).sum(-1)[:, rows].mean(-1)
