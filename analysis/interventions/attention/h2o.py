"""H2O: keep the latest keys and the heavy hitters, evict the rest for good (METHODS C9, the local policy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.spec import Source
from analysis.stats.attention_policies import h2o_mask

if TYPE_CHECKING:
    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class HeavyHitters(AttentionIntervention):
    """K keys: the larger half the latest, the rest those with the largest accumulated attention among those still held."""

    slug: ClassVar[str] = "h2o"
    title: ClassVar[str] = "Heavy hitters (H2O)"
    sources: ClassVar[tuple[Source, ...]] = (papers.H2O,)
    causal_only: ClassVar[bool] = True
    nested: ClassVar[bool] = False  # a key evicted early leaves its score to others
    notes: ClassVar[tuple[str, ...]] = ("The local policy: scores add up the queries so far; each head evicts for itself.",)

    def keep(self, pattern: Pattern) -> Kept:
        """Scores are sums of the attention itself: no product is computed for them."""
        heavy = pattern.keys // 2
        return Kept(h2o_mask(pattern.weights, heavy, pattern.keys - heavy, pattern.allowed), evicts=True)
