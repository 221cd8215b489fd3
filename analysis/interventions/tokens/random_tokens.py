"""Tokens removed at random: what any choice of tokens must beat."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.spec import one_draw
from analysis.interventions.tokens import papers
from analysis.interventions.tokens.base import FROZEN, TokenPruning
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.tokens.state import Tokens


@dataclass(frozen=True)
class RandomTokens(TokenPruning):
    """One order of its tokens for each example, drawn from the seed and the example's number since the level was set."""

    slug: ClassVar[str] = "token-random"
    title: ClassVar[str] = "Tokens at random"
    sources: ClassVar[tuple[Source, ...]] = (papers.RANDOM,)
    notes: ClassVar[tuple[str, ...]] = (FROZEN, one_draw(8))
    nested: ClassVar[bool] = True  # the order does not depend on the level

    def scores(self, tokens: Tokens) -> Tensor:
        """[alive], between 0 and 1; nothing is computed for it."""
        import torch

        made = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{tokens.number}".encode()))
        return torch.rand(tokens.n, generator=made).to(tokens.at.device)[tokens.left]
