"""Keyformer: as H2O, with noise in the scores and a temperature that rises (METHODS C10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.interventions.spec import one_draw
from analysis.spec import Source
from analysis.stats.attention_policies import gumbel, keyformer_mask

if TYPE_CHECKING:
    from analysis.interventions.attention.pattern import Pattern

RECENT = 0.3
"""Share of the K keys that are the latest."""


@dataclass(frozen=True)
class Keyformer(AttentionIntervention):
    """K keys: the latest and those with the largest accumulated noisy score among those still held."""

    recent: float = RECENT
    noise: float = 1.0
    warmest: float = 2.0
    slug: ClassVar[str] = "keyformer"
    title: ClassVar[str] = "Keyformer"
    sources: ClassVar[tuple[Source, ...]] = (papers.KEYFORMER,)
    causal_only: ClassVar[bool] = True
    nested: ClassVar[bool] = False  # as in H2O
    notes: ClassVar[tuple[str, ...]] = (
        "Noise is the same for all heads and documents; the temperature rises over the whole window.",
        one_draw(5),
    )

    def keep(self, pattern: Pattern) -> Kept:
        """Scores come from the logits of the attention itself: no product is computed for them."""
        keys, n = pattern.keys, pattern.n
        if ("gumbel", n) not in pattern.memory:
            pattern.memory["gumbel", n] = self.noise * gumbel((1, n, n), self.seed)
        recent = max(1, round(keys * self.recent))
        drawn = pattern.memory["gumbel", n].to(pattern.logits.device)
        return Kept(keyformer_mask(pattern.weights, keys - recent, recent, drawn, self.warmest, pattern.allowed), evicts=True)
