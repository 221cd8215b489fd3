"""Token pruning by the attention that tokens receive: from all tokens (PoWER-BERT), or from the first one (EViT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.tokens import papers
from analysis.interventions.tokens.base import FROZEN, TokenPruning
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.tokens.state import Tokens


@dataclass(frozen=True)
class ReceivedAttention(TokenPruning):
    """A token is worth what all tokens still there look at it, summed over queries and heads."""

    slug: ClassVar[str] = "token-attention"
    title: ClassVar[str] = "Token pruning by attention received (PoWER-BERT)"
    sources: ClassVar[tuple[Source, ...]] = (papers.POWER_BERT,)
    notes: ClassVar[tuple[str, ...]] = (
        FROZEN,
        "Without training, numbers of tokens from the level instead of learned ones, tokens go behind the FFN instead of before it.",
    )

    def scores(self, tokens: Tokens) -> Tensor:
        """s_j = sum_h sum_i A_hij [alive], A [heads, alive, alive]. An addition a weight."""
        assert tokens.weights is not None
        tokens.products += 0.5 * tokens.weights.numel() / tokens.key_width
        return tokens.weights.sum((0, 1))


@dataclass(frozen=True)
class ClassAttention(ReceivedAttention):
    """A token is worth what the first token looks at it, summed over heads."""

    slug: ClassVar[str] = "token-class-attention"
    title: ClassVar[str] = "Token pruning by the class token's attention (EViT)"
    sources: ClassVar[tuple[Source, ...]] = (papers.EVIT,)
    notes: ClassVar[tuple[str, ...]] = (
        FROZEN,
        "Without training, tokens go behind the FFN instead of before it, and those that are gone are not fused into one.",
    )

    def scores(self, tokens: Tokens) -> Tensor:
        """s_j = sum_h A_h0j [alive]. An addition a weight of the first row."""
        assert tokens.weights is not None
        tokens.products += 0.5 * tokens.weights[:, 0].numel() / tokens.key_width
        return tokens.weights[:, 0].sum(0)
