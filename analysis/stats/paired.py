"""Curves measured on the same documents: paired, with one bootstrap for all of them.

1. `Resample.of(counts)` draws documents with replacement, once.
2. Every curve, level and method is averaged over those same draws (`means`), so that differences are paired and noise that all share
   cancels in them.
3. `band`, `difference` and `rank_intervals` read intervals off the draws.

The unit is the document, never the token: tokens of a text are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.intervals import CONFIDENCE

DRAWS = 1000
"""Bootstrap draws: the ends of a 95 % interval move by about a twentieth of its length from seed to seed."""
FEW_DOCUMENTS = 30
RESOLVED = 3
"""A tolerance is resolved where it is at least so many standard errors."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resample:
    """Draws of the documents with replacement, shared by everything that is compared."""

    weights: Floats
    """[draws, documents]: how often each document was drawn; rows sum to the number of documents."""
    counts: Floats
    """[documents]: positions scored in each, above 0."""

    @classmethod
    def of(cls, counts: ArrayLike, seed: int = 0, draws: int = DRAWS) -> Resample:
        """Draws for documents with these counts [documents], all above 0; the same seed gives the same draws."""
        n = np.asarray(counts, np.float64)
        if n.ndim != 1 or not len(n) or (n <= 0).any():
            raise ValueError("counts must be above 0 for at least one document; leave documents without a scored position out.")
        random = np.random.default_rng(seed)
        return cls(random.multinomial(len(n), np.full(len(n), 1 / len(n)), size=draws).astype(np.float64), n)

    @property
    def n_documents(self) -> int:
        """Documents drawn from."""
        return len(self.counts)

    @property
    def note(self) -> str:
        """Empty, or why the intervals are rough or none."""
        if self.n_documents == 1:
            return "no interval: one document only"
        return f"rough interval: {self.n_documents} documents, fewer than {FEW_DOCUMENTS}" if self.n_documents < FEW_DOCUMENTS else ""

    def value(self, sums: ArrayLike) -> Floats:
        """sum_d y_d / sum_d n_d: the mean per position of each curve. sums [..., documents] -> [...]; infinite where a sum is."""
        return np.asarray(sums, np.float64).sum(axis=-1) / self.counts.sum()

    def means(self, sums: ArrayLike) -> Floats:
        """The same ratio in every draw: sum_d w_d y_d / sum_d w_d n_d. sums [curves, documents] -> [draws, curves].

        A curve with an infinite sum is infinite in every draw: that a draw may miss the document does not make the loss finite.
        """
        y = np.asarray(sums, np.float64)
        if np.isnan(y).any():
            raise ValueError("sums must be numbers or infinite, got NaN; give infinity where a loss is infinite or no number.")
        endless = _endless(y)
        found = self.weights @ np.where(endless[:, None], 0.0, y).T / (self.weights @ self.counts)[:, None]
        found[:, endless] = np.inf
        return found

    def standard_errors(self, sums: ArrayLike) -> Floats:
        """Linearised standard error of each ratio, sqrt(D / (D - 1) sum_d (y_d - R n_d)^2) / sum_d n_d; infinite for one document.

        sums [curves, documents] -> [curves]; infinite where a sum is. Source: Cochran 1977, section 6.3; as `mean_over_documents`.
        """
        y = np.asarray(sums, np.float64)
        if self.n_documents == 1:
            return np.full(len(y), np.inf)
        endless = _endless(y)
        y = np.where(endless[:, None], 0.0, y)
        residual = y - self.value(y)[:, None] * self.counts
        scale = self.n_documents / (self.n_documents - 1)
        return np.where(endless, np.inf, np.sqrt(scale * (residual**2).sum(axis=1)) / self.counts.sum())


def _endless(sums: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.isinf(sums).any(axis=-1))


def band(means: Floats, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Percentile interval of each curve over the draws. means [draws, curves] -> low [curves], high [curves].

    Source: Efron 1979, percentile bootstrap.
    """
    endless = np.isinf(means).any(axis=0)
    low, high = np.quantile(np.where(endless, 0.0, means), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return np.where(endless, np.inf, low), np.where(endless, np.inf, high)


def resolved(standard_error: float, eps: float) -> bool:
    """Whether a tolerance can be told from noise: standard error <= eps / 3. Source: ours (at se = eps, s* is early by 0.065)."""
    return standard_error <= eps / RESOLVED


@dataclass(frozen=True)
class Difference:
    """One minus the other on the same documents, with its interval."""

    value: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """Which is smaller, or that they cannot be told apart."""
        if self.low > 0:
            return "the second is smaller"
        return "the first is smaller" if self.high < 0 else "cannot be told apart"


def difference(resample: Resample, one: ArrayLike, other: ArrayLike) -> Difference:
    """Mean of one minus the other per position, in every draw the same documents. one, other [documents], finite sums."""
    gap = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if not np.isfinite(gap).all():
        raise ValueError("sums must be finite to be subtracted; compare at a level where both losses are finite.")
    low, high = band(resample.means(gap[None]))
    return Difference(float(resample.value(gap)), float(low[0]), float(high[0]))


def rank_intervals(means: Floats, confidence: float = CONFIDENCE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Between which ranks each method lies over the draws; 1 is the smallest mean, equal means share the better rank.

    means [draws, methods] -> low [methods], high [methods], 1 to methods. Whole ranks: the interval is rounded outwards.
    """
    from scipy.stats import rankdata

    ranks = rankdata(means, method="min", axis=1)
    low, high = np.quantile(ranks, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)
