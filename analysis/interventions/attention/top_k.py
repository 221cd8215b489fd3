"""Top-k: each query keeps the K keys with its largest logits (METHODS C0): the oracle that every cheaper selection is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept, unread_keys, unused_products
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern


def top_keys(scores: Tensor, keys: int) -> Tensor:
    """bool [.., n, n]: the ``keys`` largest scores of each row; any of equal ones. T4, two keys: rows hold 1, 1, .8, .7 of it."""
    import torch

    chosen = scores.topk(min(keys, scores.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(-1, chosen, True)


@dataclass(frozen=True)
class TopK(AttentionIntervention):
    """The same K for every query and head."""

    slug: ClassVar[str] = "attention-topk"
    title: ClassVar[str] = "Attention top-k"
    sources: ClassVar[tuple[Source, ...]] = (papers.TOP_K,)

    def keep(self, pattern: Pattern) -> Kept:
        """All keys are scored, so their products are computed and every key is read."""
        mask = top_keys(pattern.logits, pattern.keys)
        return Kept(mask, unused_products(pattern, mask), unread_keys(pattern, mask))
