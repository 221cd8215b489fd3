"""Central moments that can be merged: mean and the sums of the 2nd, 3rd and 4th powers of the deviations from it.

Never raw power sums: at mean 1000 and spread 1 those lose eight digits in the variance alone.
Source: Chan, Golub and LeVeque 1983 (2nd); Pébay 2008, SAND2008-6212, eqs. 2.1 and 3.1 (3rd and 4th).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass
class Moments:
    """Count and central moments of each of some units; `n` counts the finite values seen. O(units)."""

    n: NDArray[np.int64]
    mean: Floats
    m2: Floats
    m3: Floats
    m4: Floats

    @classmethod
    def zeros(cls, units: int) -> Moments:
        """Nothing seen yet."""
        return cls(np.zeros(units, np.int64), *(np.zeros(units) for _ in range(4)))

    @classmethod
    def of(cls, values: Floats, where: NDArray[np.bool_] | None = None) -> Moments:
        """Of values [T, units], two passes in float64; `where` [T, units] says which entries count."""
        counted = np.ones(values.shape, bool) if where is None else where
        n = counted.sum(0)
        mean = np.where(counted, values, 0.0).sum(0) / np.maximum(n, 1)
        away = np.where(counted, values - mean, 0.0)
        square = away * away
        return cls(n, mean, square.sum(0), (square * away).sum(0), (square * square).sum(0))

    def merge(self, other: Moments) -> None:
        """Take another sample's moments in."""
        mine = (self.n, self.mean, self.m2, self.m3, self.m4)
        self.n, self.mean, self.m2, self.m3, self.m4 = merge_moments(*mine, other.n, other.mean, other.m2, other.m3, other.m4)

    def result(self) -> dict[str, NDArray[Any]]:
        """Mean, variance (divided by n), mean square, skewness and excess kurtosis (METHODS B13).

        Units that saw nothing have 0 in every entry and False in `defined`; a unit without spread has no skewness and
        no kurtosis: 0 there and False in `has_spread`.
        """
        n = np.maximum(self.n, 1)
        variance = self.m2 / n
        has_spread = variance > 0
        spread = np.where(has_spread, variance, 1.0)
        return {
            "count": self.n.copy(),
            "defined": self.n > 0,
            "mean": self.mean.copy(),
            "variance": variance,
            "mean_square": variance + self.mean**2,
            "has_spread": has_spread,
            "skewness": np.where(has_spread, self.m3 / n / spread**1.5, 0.0),
            "excess_kurtosis": np.where(has_spread, self.m4 / n / spread**2 - 3, 0.0),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name."""
        return {"n": self.n, "mean": self.mean, "m2": self.m2, "m3": self.m3, "m4": self.m4}
