"""Double Sparsity: keys are chosen by a few channels of queries and keys, found on calibration (METHODS C7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention, HeldAttention, PlaceKey
from analysis.interventions.attention.looking import look
from analysis.interventions.attention.tally import Kept
from analysis.interventions.attention.top_k import top_keys
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern

SHARE = 0.25
"""Of the channels, rounded up: groups of 4."""


def strengths(query: Tensor, key: Tensor) -> Tensor:
    """[heads, d]: mean over tokens of |q_c k_c|, of the same token. q [[1,2,0,3],[1,-2,1,3]], k [[1,1,5,0],[2,1,1,.1]]: 1.5, 2, .5, .15."""
    return (query * key).abs().mean(1)


def both(pattern: Pattern) -> tuple[Tensor, Tensor]:
    """Queries and keys [heads, n, d], keys repeated for the queries that share them."""
    query, key = pattern.call.query, pattern.call.key
    if query is None or key is None:
        raise IncompatibleSubject(
            f"attention at {pattern.place.site.name} must show queries and keys, got logits only; choose a method that needs no more."
        )
    return query[0].float(), key[0].float().repeat_interleave(pattern.heads // key.shape[1], 0)


@dataclass(frozen=True)
class Channels(AttentionIntervention):
    """K keys per query with the largest q . k over the strongest channels of each head."""

    share: float = SHARE
    slug: ClassVar[str] = "double-sparsity"
    title: ClassVar[str] = "Channels and tokens (Double Sparsity)"
    sources: ClassVar[tuple[Source, ...]] = (papers.DOUBLE,)
    notes: ClassVar[tuple[str, ...]] = ("Biases by position are no part of the approximate scores; no window stays beside.",)

    def measure(self, held: HeldAttention) -> None:
        """Indices of the channels [heads, r] by place."""
        if ("channels", self.share) not in held.derived:
            sums: dict[PlaceKey, Tensor] = {}

            def told(place: PlaceKey, pattern: Pattern) -> None:
                sums[place] = sums.get(place, 0) + strengths(*both(pattern)) * pattern.n

            look(held, told)
            held.derived["channels", self.share] = {
                place: found.topk(math.ceil(self.share * found.shape[-1] - 1e-9), dim=-1).indices for place, found in sums.items()
            }

    def prepare(self, held: HeldAttention, level: float) -> dict[PlaceKey, Any]:  # noqa: ARG002 - the same channels at all levels
        """The channels."""
        return held.derived["channels", self.share]

    def keep(self, pattern: Pattern) -> Kept:
        """Every key's strong channels are read and multiplied."""
        chosen = pattern.prepared[:, None]
        query, key = both(pattern)
        q, k = (x.gather(2, chosen.expand(-1, x.shape[1], -1)) for x in (query, key))
        sign = 1.0 if pattern.call.scale >= 0 else -1.0
        scores = (sign * q @ k.transpose(1, 2)).masked_fill(~pattern.allowed, -math.inf)
        share = chosen.shape[-1] / query.shape[-1]
        return Kept(top_keys(scores, pattern.keys), share * float(pattern.allowed.sum()), 0.5 * share)
