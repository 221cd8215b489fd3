"""Hierarchical selection: keys found by halving ranges instead of scoring all (METHODS C8, HiP)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.spec import Source
from analysis.stats.pattern_hierarchy import halving

if TYPE_CHECKING:
    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class Halving(AttentionIntervention):
    """K keys per query; a range is scored by its middle key."""

    slug: ClassVar[str] = "hip"
    title: ClassVar[str] = "Hierarchical selection (HiP)"
    sources: ClassVar[tuple[Source, ...]] = (papers.HIP,)
    nested: ClassVar[bool] = False  # fewer ranges have other middles
    notes: ClassVar[tuple[str, ...]] = ("Query and key blocks of one, a range is scored by its middle key, and no window stays beside.",)

    def keep(self, pattern: Pattern) -> Kept:
        """Each halving asks 2 K keys of every query that has more than K; at most all of them."""
        import torch

        n, keys = pattern.n, pattern.keys
        counts, first = pattern.counts, pattern.shared.long().argmax(-1)
        places = (first[:, None] + torch.arange(n, device=first.device)).remainder(n).expand_as(pattern.logits)
        found = halving(pattern.logits.gather(-1, places), counts, keys)  # ranges begin where a query's window does
        mask = torch.zeros_like(found).scatter_(-1, places, found)
        asked = 2 * keys * math.ceil(math.log2(max(1, math.ceil(int(counts.max()) / keys))))
        further = (counts.clamp(max=asked) - keys).clamp(min=0)  # every kept key is among those asked
        return Kept(mask, float(further.sum()) * pattern.heads, 0.5 * float(further[-1]) / max(1, int(counts[-1])))
