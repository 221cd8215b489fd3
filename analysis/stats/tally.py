"""Counts, sums and extremes per neuron that merge by adding, by the smaller and by the larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.moments import Spread

State = dict[str, NDArray[Any]]
COUNTS = ("n_active", "n_zero", "n_nonfinite", "n_relative", "windows_active", "windows_nonzero")
SUMS = ("sum_active", "sum_relative")


@dataclass
class Tally:
    """Counts, sums and extremes per neuron; which ones depends on what is tallied (`names`)."""

    entries: dict[str, NDArray[Any]]

    @classmethod
    def empty(cls, n: int, names: tuple[str, ...]) -> Tally:
        """Nothing seen yet."""
        entries: dict[str, NDArray[Any]] = {"low": np.full(n, np.inf, np.float32), "high": np.full(n, -np.inf, np.float32)}
        return cls(entries | {name: np.zeros(n, np.float64 if name in SUMS else np.int64) for name in names})

    def add(self, found: dict[str, NDArray[Any]]) -> None:
        """Take in entries of the same names; those not given stay."""
        for name, value in found.items():
            combine = {"low": np.minimum, "high": np.maximum}.get(name, np.add)
            combine(self.entries[name], value, out=self.entries[name])

    def extremes(self) -> State:
        """``min`` and ``max``; 0 for a neuron without a finite value (see `defined`)."""
        return {
            "min": np.where(np.isfinite(self.entries["low"]), self.entries["low"], 0),
            "max": np.where(np.isfinite(self.entries["high"]), self.entries["high"], 0),
        }


@dataclass
class Channel:
    """Mean, spread, extremes and the count above zero of a gated unit's gate or up path."""

    moments: Spread
    tally: Tally

    @classmethod
    def empty(cls, n: int) -> Channel:
        """Nothing seen yet."""
        return cls(Spread.zeros(n), Tally.empty(n, ("n_positive",)))
