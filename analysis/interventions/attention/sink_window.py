"""Sinks and a window: the first keys and the last ones, whatever they hold (METHODS C11, StreamingLLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.interventions.attention.top_k import top_keys
from analysis.spec import Source
from analysis.stats.attention_measures import SINKS
from analysis.stats.pattern_masks import a_shape

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class SinkWindow(AttentionIntervention):
    """K keys: the first `sinks` of them at the start, the rest up to the query's own; none at the start where K is 1."""

    sinks: int = SINKS
    slug: ClassVar[str] = "sink-window"
    title: ClassVar[str] = "Sinks and a window"
    sources: ClassVar[tuple[Source, ...]] = (papers.STREAMING,)
    notes: ClassVar[tuple[str, ...]] = ("Keys keep their positions; the published cache numbers them anew once it is full.",)

    def keep(self, pattern: Pattern) -> Kept:
        """Known beforehand: nothing is computed, and the rest need not be held."""
        first = min(self.sinks, pattern.keys - 1)
        simple = pattern.causal and pattern.whole
        mask = a_shape(pattern.n, first, pattern.keys - first)[None].to(pattern.logits.device) if simple else nearest(pattern, first)
        return Kept(mask, evicts=pattern.causal)


def nearest(pattern: Pattern, first: int) -> Tensor:
    """bool [1, n, n]: K keys of those that a query may see (both sides, or a window of the model's own): the ``first`` of the text while
    they are among them, else the nearest, also where the text ends on one side."""
    import torch

    places = torch.arange(pattern.n, device=pattern.logits.device)
    near = -(places[:, None] - places[None, :]).abs().float() - 0.5 * (places[None, :] > places[:, None])  # rather before than behind
    near[:, :first] = torch.inf
    return top_keys(near.masked_fill(~pattern.shared, -torch.inf), pattern.keys)[None]
