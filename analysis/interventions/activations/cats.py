"""CATS: the gate alone decides; one threshold a layer.

    t = F^-1(s), F the distribution function of |act(x W_g)|; entries with |act(g)| <= t are zero before they are multiplied by up.

Spares rows of up and columns of down. The quantile is over a fine histogram without an upper end; the code's ends at 2. METHODS B4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, masked
from analysis.interventions.activations.observing import factor, gate_magnitudes
from analysis.spec import Source

if TYPE_CHECKING:
    from analysis.capture import Site

SOURCE = Source(
    "CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models", "Lee et al., COLM 2024, arXiv 2404.08763", "C"
)


class GateAbove(Rule):
    """Keeps |act(g)| > t."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self._thresholds = thresholds

    def change(self, seen: Seen) -> Changed:
        """Zero where the gate is small."""
        return masked(seen.values, factor(seen.site, seen.gate).float().abs() > self._thresholds[seen.site.name])


@dataclass(frozen=True)
class Cats(ActivationMethod):
    """A threshold on the gate."""

    name = "cats"
    words = "CATS: FFN gates below a threshold"
    origin = (SOURCE,)  # METHODS B4
    skips = ("up", "down")
    factors = True
    wanted = "gated FFNs"

    def suits(self, site: Site) -> bool:
        """Gated units only: without a gate this is the plain threshold."""
        return site.gated

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Quantiles of the gate by site."""
        seen = gate_magnitudes(setting)
        return lambda level: GateAbove({name: one.threshold(level) for name, one in seen.items()})
