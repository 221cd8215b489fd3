"""A number that may not exist: its value and interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval over documents; None where it could not be had, and then `why` says so."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""
    """Empty, or why the value or its interval is missing, or rough."""

    @classmethod
    def missing(cls, why: str) -> Number:
        """No value."""
        return cls(None, why=why)

    @classmethod
    def ratio(cls, sums: ArrayLike, counts: ArrayLike, why_not: str = "no token was seen") -> Number:
        """sum_d y_d / sum_d n_d with its interval over documents [D] (`intervals.mean_over_documents`); missing where all n_d are 0."""
        import numpy as np

        from analysis.stats.intervals import mean_over_documents

        if not (np.asarray(counts) > 0).any():
            return cls.missing(why_not)
        found = mean_over_documents(sums, counts)
        return cls(found.value, found.low, found.high, found.note)

    def one_minus(self) -> Number:
        """1 - value, the ends of the interval exchanged."""
        value, low, high = (None if end is None else 1 - end for end in (self.value, self.high, self.low))
        return Number(value, low, high, self.why)
