"""ALISA: the latest keys and those the latest queries looked at most, one choice for all heads (METHODS C12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept, unread_keys, unused_products
from analysis.spec import Source
from analysis.stats.attention_policies import ROUNDING, alisa_mask

if TYPE_CHECKING:
    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class SparseWindow(AttentionIntervention):
    """Caching ratio 1 - level: each query keeps that share of its keys, half of them the latest; at least itself."""

    slug: ClassVar[str] = "alisa"
    title: ClassVar[str] = "Sparse window (ALISA)"
    sources: ClassVar[tuple[Source, ...]] = (papers.ALISA,)
    causal_only: ClassVar[bool] = True
    nested: ClassVar[bool] = False  # fewer latest queries say which keys stay
    notes: ClassVar[tuple[str, ...]] = (
        "The latest queries' attention is the dense one, so nothing is evicted; a query whose share is less than two keys keeps itself "
        "only.",
    )

    def keep(self, pattern: Pattern) -> Kept:
        """The last k rows are dense: every product is computed and every key is read."""
        import torch

        ratio = 1 - pattern.level
        mask = alisa_mask(pattern.weights, ratio, pattern.counts.tolist())[0]
        none = (pattern.counts * ratio / 2 + ROUNDING).long() == 0
        mask = torch.where(none[:, None], torch.eye(pattern.n, dtype=torch.bool, device=mask.device), mask)[None]
        return Kept(mask, unused_products(pattern, mask), unread_keys(pattern, mask))
