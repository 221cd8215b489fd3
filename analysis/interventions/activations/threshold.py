"""Threshold: zero what is small, one threshold a layer from the calibration split.

    t = F^-1(s), F the distribution function of |a| over tokens and neurons; kept are |a| > t.

Only the last matrix is spared, since ``a`` must be known. Source: METHODS B1 (for models without ReLU), B4 without its gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, masked
from analysis.interventions.activations.observing import units
from analysis.spec import Source

SOURCE = Source("The Lazy Neuron Phenomenon", "Li et al., ICLR 2023, arXiv 2210.06313; thresholds for models without ReLU: METHODS B1", "K")


class Above(Rule):
    """Keeps |a| > t."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self._thresholds = thresholds
        if len(set(thresholds.values())) == 1:
            self.native_value, self.native_unit = next(iter(thresholds.values())), "|a|"

    def change(self, seen: Seen) -> Changed:
        """Zero what is at or below the site's threshold."""
        return masked(seen.values, seen.values.float().abs() > self._thresholds[seen.site.name])


@dataclass(frozen=True)
class Threshold(ActivationMethod):
    """One threshold a layer."""

    name = "ffn-threshold"
    words = "FFN activations below a threshold"
    origin = (SOURCE,)  # METHODS B1

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Quantiles by site."""
        seen = units(setting)
        return lambda level: Above({name: one.values.threshold(level) for name, one in seen.items()})
