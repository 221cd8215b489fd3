"""Cumulative mass: keep the fewest tokens that hold a share of the attention so far (METHODS C1, ZipVL)."""

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


def tokens_kept(sums: Tensor, rows: Tensor, tau: float) -> Tensor:
    """bool [.., n]: tokens kept by accumulated attention ``sums`` [.., n]: as many as the largest that hold ``tau`` of it, and of those
    with the largest mean over the ``rows`` [.., n] that may see them; the first of equal ones.

    T4, whole: tau .5 keeps 2 tokens, .8 three, .96 and .975 four; the two are 0 and 2 (means .45, .333, .4, .4).
    """
    import torch

    ordered = sums.sort(dim=-1, descending=True).values.double()
    before = ordered.cumsum(-1) - ordered
    count = (before < tau * ordered.sum(-1, keepdim=True) * (1 - 1e-6)).sum(-1, keepdim=True)
    places = (sums / rows.clamp(min=1)).argsort(dim=-1, descending=True, stable=True)
    among = torch.arange(sums.shape[-1], device=sums.device) < count
    return torch.zeros(sums.shape, dtype=torch.bool, device=sums.device).scatter_(-1, places, among.expand(sums.shape))


@dataclass(frozen=True)
class Mass(AttentionIntervention):
    """Level: the share of the accumulated attention that may go; one choice for all heads of a layer, and each query itself."""

    slug: ClassVar[str] = "zipvl"
    title: ClassVar[str] = "Cumulative mass (ZipVL)"
    sources: ClassVar[tuple[Source, ...]] = (papers.ZIPVL,)
    denominator: ClassVar[str] = "attention mass"
    notes: ClassVar[tuple[str, ...]] = (
        "In causal attention each query goes by the queries up to it, where the published method accumulates over probe queries of the "
        "whole prompt; so every product is computed.",
    )

    def keep(self, pattern: Pattern) -> Kept:
        """Attention of every query is needed to accumulate it, and every key is read."""
        import torch

        sums, rows = pattern.weights.mean(0), pattern.shared.float()
        sums, rows = (x.cumsum(0) if pattern.causal else x.sum(0, keepdim=True).expand(pattern.n, -1) for x in (sums, rows))
        own = torch.eye(pattern.n, dtype=torch.bool, device=sums.device)
        mask = (tokens_kept(sums, rows, 1 - pattern.level) | own)[None] & pattern.allowed
        gone = float(pattern.weights.masked_fill(mask, 0.0).sum())
        whole = float(pattern.weights.sum())
        return Kept(mask, unused_products(pattern, mask), unread_keys(pattern, mask), removed=(gone, whole))
