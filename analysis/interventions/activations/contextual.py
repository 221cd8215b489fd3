"""Contextual sparsity: per token keep the neurons that add most, if somebody knew which.

    score_tj = |a_tj| |W_down[:, j]|_2;  the top k = f - floor(s f) of each token.

*oracle*: those of the token itself, as a perfect predictor would name them; spares the last matrix only, since ``a`` must be known here.
*previous*: those of the token before it in its sequence (dense, so an upper bound of what a decoder knows); spares all three matrices.
The first token of a sequence runs in full and is not counted. Recall = |named and true| / |true|, mean over tokens, in the cost's facts.
Source: METHODS B10 (Deja Vu).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, last_matrix, masked
from analysis.interventions.activations.topk import largest, n_kept
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("Deja Vu: Contextual Sparsity for Efficient LLMs at Inference Time", "Liu et al., ICML 2023, arXiv 2310.17157", "C")


def column_norms(setting: Setting, sites: Sequence[Site] | None = None) -> dict[str, Tensor]:
    """|W_down[:, j]|_2 [width] by site (None: of all), float32."""
    return {site.name: last_matrix(setting.model, site).float().norm(dim=0) for site in sites or setting.sites}


def recall(named: Tensor, true: Tensor) -> Tensor:
    """Share of the true neurons that were named [n]; 1 where there are none. Of k random ones of f: about k / f."""
    n = true.sum(-1)
    return ((named & true).sum(-1) / n.clamp(min=1)).where(n > 0, 1.0)


class Oracle(Rule):
    """The token's own."""

    def __init__(self, norms: Mapping[str, Tensor], level: float) -> None:
        self._norms, self._level = norms, level

    def true(self, seen: Seen) -> Tensor:
        """bool [n, width]: what adds most."""
        return largest(seen.values.float().abs() * self._norms[seen.site.name], n_kept(seen.values.shape[-1], self._level))

    def change(self, seen: Seen) -> Changed:
        """Keep these."""
        return masked(seen.values, self.true(seen))


class Previous(Oracle):
    """Those of the token before."""

    def __init__(self, norms: Mapping[str, Tensor], level: float) -> None:
        super().__init__(norms, level)
        self._recall, self._n = 0.0, 0

    def change(self, seen: Seen) -> Changed:
        """Keep what the token before needed."""
        from analysis.interventions.activations.sequences import Sequences

        true, order = self.true(seen), Sequences.of(seen)
        sorted_true = true[order.order]
        named = sorted_true.roll(1, 0)
        later = order.rank > 0
        self._recall += float(recall(named, sorted_true)[later].sum())
        self._n += int(later.sum())
        named[~later] = True
        keep = order.back(named)
        return Changed(masked(seen.values, keep).values, keep[order.back(later)])

    def facts(self) -> Mapping[str, Any]:
        """Recall so far."""
        return {"recall": self._recall / self._n} if self._n else {}


@dataclass(frozen=True)
class ContextualOracle(ActivationMethod):
    """The neurons that add most."""

    name = "contextual-oracle"
    words = "FFN neurons that add most to a token"
    origin = (SOURCE,)  # METHODS B10
    calibrated = False

    def overhead(self, model: nn.Module, site: Site) -> float:
        """A product and a selection: 4 an entry."""
        return 4 * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Column norms."""
        norms = column_norms(setting)
        return lambda level: Oracle(norms, level)


@dataclass(frozen=True)
class ContextualPrevious(ContextualOracle):
    """Those that added most to the token before."""

    name = "contextual-previous"
    words = "FFN neurons the token before needed"
    skips = ("gate", "up", "down")
    needs_causal = True
    denominator = "inner activations of {n} FFNs, real tokens that follow another"
    wanted = "FFNs that run token by token"

    def suits(self, site: Site) -> bool:
        """Tokens in an order."""
        return site.stream != "rows"

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Column norms."""
        norms = column_norms(setting)
        return lambda level: Previous(norms, level)
