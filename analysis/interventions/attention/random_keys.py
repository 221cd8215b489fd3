"""Random subsampling: each query sees a random part of its keys (METHODS C18, SSA): what any choice must beat."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.interventions.spec import one_draw
from analysis.spec import Source

if TYPE_CHECKING:
    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class RandomKeys(AttentionIntervention):
    """Each pair stays with probability 1 - level, a draw for each layer, alike in its heads; itself and the first key always."""

    slug: ClassVar[str] = "attention-random"
    title: ClassVar[str] = "Random keys (SSA)"
    sources: ClassVar[tuple[Source, ...]] = (papers.RANDOM_KEYS, papers.SSA)
    notes: ClassVar[tuple[str, ...]] = (
        "The first key always stays, since dropping a sink changes all else; one mask for each layer, the same in all documents and heads.",
        one_draw(8),
    )

    def keep(self, pattern: Pattern) -> Kept:
        """Nothing is computed for it."""
        import torch

        place = f"{self.seed}/{pattern.place.site.name}/{pattern.place.turn}"
        made = torch.Generator().manual_seed(zlib.crc32(place.encode()))
        seen = torch.rand(pattern.n, pattern.n, generator=made) < 1 - pattern.level
        seen.fill_diagonal_(True)
        seen[:, 0] = True
        return Kept(seen[None].to(pattern.logits.device))
