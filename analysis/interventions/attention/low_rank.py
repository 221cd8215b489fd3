"""Attention by random features, alone or beside a sparse part that is exact (METHODS C15, Scatterbrain with Performer features)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.channels import both
from analysis.interventions.attention.pattern import keys_at
from analysis.interventions.attention.tally import Kept, last_keys
from analysis.interventions.spec import one_draw
from analysis.spec import Source
from analysis.stats.attention_measures import SINKS
from analysis.stats.pattern_masks import a_shape

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern

FEATURE_PAIRS = 2
"""Pairs of query and key that one feature of one token is worth: two projections and two products with values, of a head's width each."""


def features(values: Tensor, directions: Tensor) -> Tensor:
    """log phi [.., n, m]: directions . x - |x|^2 / 2, so that the mean of phi(q) phi(k) over standard normal directions is exp(q . k)."""
    return values @ directions.T - values.square().sum(-1, keepdim=True) / 2


def directions_of(m: int, width: int, seed: int) -> Tensor:
    """float64 [m, width]: standard normal, orthogonal within each ``width`` of them."""
    import torch

    made = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, -(-m // width), width, width, generator=made, dtype=torch.float64)
    turns, triangle = torch.linalg.qr(drawn[0])
    turns = turns * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # else some directions are likelier than others
    return (turns * drawn[1].norm(dim=-1, keepdim=True)).flatten(0, 1)[:m]


def mixed(logits: Tensor, log_q: Tensor, log_k: Tensor, exact: Tensor, allowed: Tensor) -> Tensor:
    """Weights [heads, n, n]: exp(logits) on ``exact``, mean of phi(q) phi(k) on the other ``allowed`` pairs, rows renormalised.

    Everything exact: the softmax. Nothing exact: Performer's attention. float64 [heads, n, n], [heads, n, m] twice.
    """
    top_q, top_k = log_q.amax(-1, keepdim=True), log_k.amax()
    low = (log_q - top_q).exp() @ (log_k - top_k).exp().transpose(1, 2) / log_q.shape[-1]
    own = (logits.double() - top_q - top_k).clamp(max=600).exp()
    found = own.where(exact, low).masked_fill(~allowed, 0.0)
    return found / found.sum(-1, keepdim=True).clamp(min=1e-300)


@dataclass(frozen=True)
class LowRank(AttentionIntervention):
    """Features worth the level's pairs, as many for every head; ``sparse``: share of the budget that sinks and a window have exactly."""

    sparse: float = 0.0
    slug: ClassVar[str] = "low-rank-attention"
    title: ClassVar[str] = "Low-rank attention"
    sources: ClassVar[tuple[Source, ...]] = (papers.SCATTERBRAIN,)
    notes: ClassVar[tuple[str, ...]] = (
        "Positive random features of a model that was not trained with them; biases by position are no part of them.",
        "Pairs are the work's worth: a feature of a token counts as two pairs, and as half a key to be read and held.",
        one_draw(5),
    )

    def keep(self, pattern: Pattern) -> Kept:
        """The exact part."""
        import torch

        if not self.sparse:
            return Kept(torch.zeros(1, 1, 1, dtype=torch.bool))
        keys = keys_at(1 - self.sparse * (1 - pattern.level), pattern.counts)
        first = min(SINKS, keys - 1)
        return Kept(a_shape(pattern.n, first, keys - first, pattern.causal)[None].to(pattern.logits.device))

    def n_features(self, pattern: Pattern, exact: float = 0.0) -> int:
        """m, at least 1: a budget of (1 - level) of the pairs, less those that are ``exact``."""
        left = (1 - pattern.level) * float(pattern.allowed.sum()) - exact
        return max(1, math.floor(left / (FEATURE_PAIRS * pattern.n * pattern.heads)))

    def attend(self, pattern: Pattern) -> tuple[Tensor, Kept]:
        """Weights as the features and the exact part give them; what that is worth in pairs and keys."""
        query, key = both(pattern)
        exact = self.keep(pattern).mask.to(pattern.logits.device) & pattern.allowed
        m, root = self.n_features(pattern, float(exact.sum())), math.sqrt(abs(pattern.call.scale))
        found = directions_of(m, query.shape[-1], self.seed).to(query.device)
        sign = math.copysign(1.0, pattern.call.scale)
        log_q, log_k = features(query.double() * root * sign, found), features(key.double() * root, found)
        weights = mixed(pattern.logits, log_q, log_k, exact, pattern.allowed).float()
        pairs = float(exact.sum()) + FEATURE_PAIRS * m * pattern.n * pattern.heads
        last = float(last_keys(pattern, exact).sum())
        return weights, Kept(exact, pairs=pairs, keys=last + m / 2 * pattern.groups, evicts=True)


@dataclass(frozen=True)
class SparseLowRank(LowRank):
    """Half of the budget for each part."""

    sparse: float = 0.5
    slug: ClassVar[str] = "scatterbrain"
    title: ClassVar[str] = "Sparse and low-rank attention (Scatterbrain)"
