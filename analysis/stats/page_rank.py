"""Importance of tokens as the attention graph gives it: a token is important if important tokens attend to it.

Meaningful only where every token sees every other: under a causal mask all of it ends at token 0. Source: METHODS C13 (Zero-TPrune's
weighted page rank, read as s <- A^T s).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ITERATIONS = 50
FLAT, DEGENERATE = 0.01, 0.7
"""Zero-TPrune counts heads whose variance of N s lies between these (N: ours, the scale is not stated)."""


def page_rank(weights: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """[heads, n], sums to 1: s <- A^T s from 1 / n, the mean of the last two iterates (bipartite patterns oscillate).

    weights [heads, n, n], rows sum to 1; a row of zeros (a query that sees no key) counts as even, as the web's dangling pages do.
    Doubly stochastic: uniform. [[.5 .5 0], [.25 .5 .25], [0 .5 .5]]: .25, .5, .25.
    """
    import torch

    heads, n, _ = weights.shape
    empty = ~weights.any(2, keepdim=True)
    turned = weights.double().masked_fill(empty, 1 / n).transpose(1, 2)
    now = torch.full((heads, n, 1), 1 / n, dtype=torch.float64, device=weights.device)
    before = now
    for _ in range(iterations):
        before, now = now, turned @ now
    return ((before + now) / 2)[..., 0]


def top_share(ranks: Tensor, share: float) -> Tensor:
    """[heads]: importance of the ceil(share n) most important tokens; share to 1. Uniform: about ``share``."""
    import math

    n = ranks.shape[-1]
    return ranks.topk(max(1, math.ceil(share * n - 1e-9)), dim=-1).values.sum(-1)


def rank_variance(ranks: Tensor) -> Tensor:
    """[heads]: variance of n s over tokens; 0 for uniform importance, n - 1 where one token has all."""
    return (ranks * ranks.shape[-1]).var(-1, correction=0)


def over_heads(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Importance over heads [n], and which heads were counted [heads]: sqrt of the mean square over heads whose variance of n s lies
    between `FLAT` and `DEGENERATE`; 0 where no head is counted."""
    variance = rank_variance(ranks)
    counted = (variance >= FLAT) & (variance <= DEGENERATE)
    return (ranks.where(counted[:, None], 0.0) ** 2).sum(0).div(counted.sum().clamp(min=1)).sqrt(), counted
