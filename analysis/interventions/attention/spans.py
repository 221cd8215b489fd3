"""A span for each head: as short as a gradient says it may be (METHODS C3, MoA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention, HeldAttention, PlaceKey
from analysis.interventions.attention.looking import slopes
from analysis.interventions.attention.pattern import Pattern
from analysis.interventions.attention.tally import Kept
from analysis.spec import Source
from analysis.stats.attention_spans import beyond, span_costs

if TYPE_CHECKING:
    from torch import Tensor

SPANS = 32
"""Lengths that a span may have, in parts of the window."""
EXAMPLES = 4


@dataclass(frozen=True)
class Spans(AttentionIntervention):
    """Each head sees the first part of the window and its last few; which few, is what costs least for all heads together."""

    slug: ClassVar[str] = "moa"
    title: ClassVar[str] = "A span per head (MoA)"
    sources: ClassVar[tuple[Source, ...]] = (papers.MOA,)
    causal_only: ClassVar[bool] = True
    whole_only: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Spans are parts of the window; a trade-off between heads at one length stands in for the published search over several.",
    )

    def measure(self, held: HeldAttention) -> None:
        """What shorter spans would cost."""
        if "span_costs" not in held.derived:
            held.derived["span_costs"] = measured(held)

    def prepare(self, held: HeldAttention, level: float) -> dict[PlaceKey, Any]:
        """Parts that each head sees [heads], by place."""
        costs: dict[PlaceKey, Tensor] = held.derived["span_costs"]
        found = chosen(list(costs.values()), level)
        return dict(zip(costs, found, strict=True))

    def keep(self, pattern: Pattern) -> Kept:
        """Known beforehand; what a head does not see need not be held."""
        import torch

        width = width_of(pattern.n)
        own = [~beyond(pattern.n, parts, width) for parts in pattern.prepared.tolist()]
        return Kept(torch.stack(own).to(pattern.logits.device), evicts=True)


def width_of(n: int) -> int:
    """Tokens of a part."""
    return -(-n // SPANS)


def measured(held: HeldAttention) -> dict[PlaceKey, Tensor]:
    """[heads, spans]: by place, MoA's sum of |influence| over what a span masks, summed over examples as long as the first."""
    found: dict[PlaceKey, Tensor] = {}

    def told(place: PlaceKey, pattern: Pattern, gradient: Tensor) -> None:
        costs = span_costs(pattern.weights.double(), gradient.double(), width_of(pattern.n))[..., 0]
        if place not in found or found[place].shape == costs.shape:
            found[place] = found.get(place, 0) + costs

    slopes(held, told, EXAMPLES)
    return found


def chosen(costs: list[Tensor], level: float) -> list[Tensor]:
    """Parts seen by each head [heads], for each of ``costs`` [heads, spans]: of least cost among those with no fewer pairs than the
    level leaves, by one price per pair for all heads. Level 0: all parts; level 1: one part beside the first."""
    import torch

    pairs = [pairs_of(one.shape[1]).to(one.device) for one in costs]
    whole = sum(float(p[-1]) * len(c) for p, c in zip(pairs, costs, strict=True))

    def at(price: float) -> list[Tensor]:
        return [(c + price * p).argmin(1) for p, c in zip(pairs, costs, strict=True)]

    def kept(spans: list[Tensor]) -> float:
        return sum(float(p[s].sum()) for p, s in zip(pairs, spans, strict=True)) / whole

    if level <= 0:
        return [torch.full((len(one),), one.shape[1], dtype=torch.int64) for one in costs]
    low, high = 0.0, 1.0 + 2 * max(float(one.max()) for one in costs)
    if kept(at(high)) >= 1 - level:
        return [spans + 1 for spans in at(high)]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(at(middle)) >= 1 - level else (low, middle)
    return [spans + 1 for spans in at(low)]


def pairs_of(spans: int) -> Tensor:
    """float64 [spans]: pairs of parts that 1, 2, ... parts leave of a window of so many, the first part included."""
    import torch

    return torch.tensor([float((~beyond(spans, parts, 1)).tril().sum()) for parts in range(1, spans + 1)], dtype=torch.float64)
