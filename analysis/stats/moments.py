"""Central moments that can be merged: mean and the sums of the 2nd, 3rd and 4th powers of the deviations from it.

Never raw power sums: at mean 1000 and spread 1 those lose eight digits in the variance alone.
Source: Chan, Golub and LeVeque 1983 (2nd); Pébay 2008, SAND2008-6212, eqs. 2.1 and 3.1 (3rd and 4th).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def merge_moments(
    n_a: Any, mean_a: Any, m2_a: Any, m3_a: Any, m4_a: Any, n_b: Any, mean_b: Any, m2_b: Any, m3_b: Any, m4_b: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """(n, mean, M2, M3, M4) of the union of two disjoint samples, M_p = sum (x - mean)^p.

    Works on floats and on arrays of any one shape, and is compiled as it stands by the kernel. Either n may be 0.
    """
    n = n_a + n_b
    whole = n + (n == 0)
    delta = mean_b - mean_a
    share_a, share_b = n_a / whole, n_b / whole
    step_a, step_b = -share_b * delta, share_a * delta
    # (x - mean) = (x - mean_a) + step_a on one side and (x - mean_b) + step_b on the other: expand the powers.
    mean = mean_a + share_b * delta
    m2 = m2_a + m2_b + n_a * step_a**2 + n_b * step_b**2
    m3 = m3_a + m3_b + 3 * (step_a * m2_a + step_b * m2_b) + n_a * step_a**3 + n_b * step_b**3
    m4 = m4_a + m4_b + 4 * (step_a * m3_a + step_b * m3_b) + 6 * (step_a**2 * m2_a + step_b**2 * m2_b)
    m4 = m4 + n_a * step_a**4 + n_b * step_b**4
    return n, mean, m2, m3, m4


def central_of_shifted(n: Any, shift: Any, s1: Any, s2: Any, s3: Any, s4: Any) -> tuple[Any, Any, Any, Any]:
    """(mean, M2, M3, M4) of n >= 1 numbers from S_p = sum (x - shift)^p. Compiled as it stands by the kernel.

    With the mean of the first m of the numbers as shift, no more than about log10(n / m) digits are lost, wherever the
    others lie: (mean - shift) is then in the spread itself. Source: the binomial theorem.
    """
    step = s1 / n
    m2 = s2 - n * step**2
    m3 = s3 - 3 * step * s2 + 2 * n * step**3
    m4 = s4 - 4 * step * s3 + 6 * step**2 * s2 - 3 * n * step**4
    return shift + step, m2, m3, m4


@dataclass
class Spread:
    """Count, mean and M2 of each of some units; `n` counts the finite values seen. O(units)."""

    n: NDArray[np.int64]
    mean: Floats
    m2: Floats

    @classmethod
    def zeros(cls, units: int) -> Self:
        """Nothing seen yet."""
        return cls(np.zeros(units, np.int64), *(np.zeros(units) for _ in fields(cls)[1:]))

    def merge(self, other: Self) -> None:
        """Take another sample in."""
        mine, theirs = ((*moments.arrays().values(), 0.0, 0.0)[:5] for moments in (self, other))
        for entry, merged in zip(fields(self), merge_moments(*mine, *theirs), strict=False):
            setattr(self, entry.name, merged)

    def result(self) -> dict[str, NDArray[Any]]:
        """Mean, variance (divided by n) and mean square. Units that saw nothing have 0 in every entry and False in `defined`."""
        variance = self.m2 / np.maximum(self.n, 1)
        return {
            "count": self.n.copy(),
            "defined": self.n > 0,
            "mean": self.mean.copy(),
            "variance": variance,
            "mean_square": variance + self.mean**2,
            "has_spread": variance > 0,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass
class Moments(Spread):
    """The same with M3 and M4."""

    m3: Floats
    m4: Floats

    @classmethod
    def of(cls, values: Floats, where: NDArray[np.bool_] | None = None) -> Moments:
        """Of values [T, units], two passes in float64; `where` [T, units] says which entries count."""
        counted = np.ones(values.shape, bool) if where is None else where
        n = counted.sum(0)
        mean = np.where(counted, values, 0.0).sum(0) / np.maximum(n, 1)
        away = np.where(counted, values - mean, 0.0)
        square = away * away
        return cls(n, mean, square.sum(0), (square * away).sum(0), (square * square).sum(0))

    def result(self) -> dict[str, NDArray[Any]]:
        """And skewness and excess kurtosis (METHODS B13): 0, with False in `has_spread`, for a unit without spread."""
        found = super().result()
        n = np.maximum(self.n, 1)
        spread = np.where(found["has_spread"], found["variance"], 1.0)
        found["skewness"] = np.where(found["has_spread"], self.m3 / n / spread**1.5, 0.0)
        found["excess_kurtosis"] = np.where(found["has_spread"], self.m4 / n / spread**2 - 3, 0.0)
        return found
