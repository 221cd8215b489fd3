"""Threshold: attention weights below one size for the whole model go (METHODS C0); the size is read off calibration patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention, HeldAttention, PlaceKey
from analysis.interventions.attention.looking import look
from analysis.interventions.attention.pattern import Pattern
from analysis.interventions.attention.tally import Kept, unread_keys, unused_products
from analysis.interventions.attention.top_k import top_keys
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

FINEST, STEPS = 40, 16
"""The histogram reaches down to 2^-40, with 16 bins to each halving."""


@dataclass(frozen=True)
class Threshold(AttentionIntervention):
    """Keep A >= tau; of each query the largest stays in any case. tau: the level's quantile over calibration."""

    slug: ClassVar[str] = "attention-threshold"
    title: ClassVar[str] = "Attention threshold"
    sources: ClassVar[tuple[Source, ...]] = (papers.ONE_SIZE,)
    native_unit: ClassVar[str] = "attention weight"
    notes: ClassVar[tuple[str, ...]] = ("One size for all rows, where ALISA counts weights below a hundredth of the largest of their row.",)

    def measure(self, held: HeldAttention) -> None:
        """How large weights are."""
        if "attention_sizes" not in held.derived:
            held.derived["attention_sizes"] = _sizes(held)

    def prepare(self, held: HeldAttention, level: float) -> dict[PlaceKey, Any]:
        """The level's threshold, the same everywhere."""
        held.native = threshold_at(held.derived["attention_sizes"], level)
        return dict.fromkeys(held.places, held.native)

    def keep(self, pattern: Pattern) -> Kept:
        """Every product is computed before any weight is known."""
        mask = (pattern.weights >= pattern.prepared) & pattern.allowed | top_keys(pattern.logits, 1)
        return Kept(mask, unused_products(pattern, mask), unread_keys(pattern, mask))


def threshold_at(counts: Tensor, level: float) -> float:
    """tau: the largest edge of the histogram below which no more than a share ``level`` of the weights lie; above 1 at level 1."""
    below = counts.double().cumsum(0) / counts.sum()
    bins = int((below <= level + 1e-12).sum())
    return 0.0 if not bins else 2.0 if bins == len(counts) else 2.0 ** (bins / STEPS - FINEST)


def sizes_of(weights: Tensor) -> Tensor:
    """int64 [bins]: how many weights lie in each bin of log2, from 2^-40 (and below) to 1."""
    bins = ((weights.clamp(min=2.0**-FINEST).log2() + FINEST) * STEPS).long().clamp(0, FINEST * STEPS - 1)
    return bins.flatten().bincount(minlength=FINEST * STEPS).cpu()


def _sizes(held: HeldAttention) -> Tensor:
    import torch

    counts = torch.zeros(FINEST * STEPS, dtype=torch.int64)
    look(held, lambda _, pattern: counts.add_(sizes_of(pattern.weights[pattern.allowed])))
    return counts
