"""Zero-TPrune: prune the tokens of least weighted page rank in the attention graph (METHODS C13, the importance stage), or of those that
matter less the ones most like a token that matters more (the similarity stage)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.tokens import papers
from analysis.interventions.tokens.base import FROZEN, TokenPruning, mean_keys
from analysis.spec import Source
from analysis.stats.page_rank import over_heads, page_rank

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.tokens.state import Tokens

ITERATIONS = (50, 10, 1)
"""In the first, second and last third of the blocks after which tokens go; the paper gives 30 to 50, 5 to 10 and 1."""


@dataclass(frozen=True)
class ZeroTPrune(TokenPruning):
    """A token is worth what important tokens look at it."""

    slug: ClassVar[str] = "zero-tprune"
    title: ClassVar[str] = "Token pruning by weighted page rank (Zero-TPrune)"
    sources: ClassVar[tuple[Source, ...]] = (papers.ZERO_TPRUNE,)
    notes: ClassVar[tuple[str, ...]] = (
        FROZEN,
        "The importance stage alone, from equal starting weights; tokens go behind the block, and shares of tokens come from the level "
        "instead of a search.",
    )

    def scores(self, tokens: Tokens) -> Tensor:
        """Root mean square over heads that are neither flat nor degenerate [alive]; over all heads where none is left."""
        assert tokens.weights is not None
        iterations = ITERATIONS[int(len(ITERATIONS) * tokens.depth)]
        tokens.products += iterations * tokens.weights.numel() / tokens.key_width
        ranks = page_rank(tokens.weights, iterations)
        scores, counted = over_heads(ranks)
        return scores if bool(counted.any()) else (ranks**2).mean(0).sqrt()


@dataclass(frozen=True)
class ZeroTPruneSimilar(ZeroTPrune):
    """Of the less important half a token is worth the less the more its keys are like those of a token of the other half."""

    slug: ClassVar[str] = "zero-tprune-similar"
    title: ClassVar[str] = "Token pruning by likeness to more important tokens (Zero-TPrune)"
    notes: ClassVar[tuple[str, ...]] = (
        FROZEN,
        "The similarity stage alone, its halves by page rank from equal starting weights; once the less important half is gone, importance "
        "decides. Keys are the mean of heads; tokens go behind the block.",
    )

    def scores(self, tokens: Tokens) -> Tensor:
        """Less important half: minus the largest cosine to the other half, -1 to 1; that half: 2 and more, by importance [alive]."""
        importance = super().scores(tokens)
        keys = mean_keys(self.slug, tokens)
        order = importance.argsort(descending=True, stable=True)
        upper = -(-len(order) // 2)
        tokens.products += upper * (len(order) - upper)
        worth = 2 + importance / importance.max().clamp_min(1e-300)
        if len(order) > upper:
            worth[order[upper:]] = -likeness(keys[order[upper:]], keys[order[:upper]]).to(worth)
        return worth


def likeness(tokens: Tensor, others: Tensor) -> Tensor:
    """Largest cosine of each row [a, d] to any of the other rows [b, d]: [a], -1 to 1; 0 of a row of zeros."""
    from torch.nn.functional import normalize

    return (normalize(tokens.double(), dim=-1) @ normalize(others.double(), dim=-1).T).amax(-1)
