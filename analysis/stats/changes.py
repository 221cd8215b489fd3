"""The same units measured in two models: how far the difference may be noise, and which of many differences stand out.

What is stored of a unit is its number and the interval over documents, or in how many documents it was active; not its number in every
document. So the exact paired test cannot be had. What can be had holds however the two are correlated, and is never narrower or
smaller than the paired one: a unit that stands out here would stand out there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.intervals import CONFIDENCE, clopper_pearson

Floats = NDArray[np.float64]


def gap_interval(
    low: ArrayLike, high: ArrayLike, base_low: ArrayLike, base_high: ArrayLike,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Interval of a difference, value - base, from the intervals of both: [low - base_high, high - base_low].

    Ends of any shape; NaN where an end is. Where both are value +- c se over the same documents it holds the paired interval, since
    se(a - b) <= se(a) + se(b) whatever their correlation: at least 95 %. Null case: two equal intervals give one about 0. Source: ours
    (Minkowski's inequality).
    """
    ends = [np.asarray(end, np.float64) for end in (low, high, base_low, base_high)]
    return ends[0] - ends[3], ends[1] - ends[2]


def gap_p(value: ArrayLike, reach: ArrayLike, base: ArrayLike, base_reach: ArrayLike, n_documents: int) -> Floats:
    """The largest p that a paired t test of value = base can have, from both 95 % intervals: their half lengths, t_{D-1} se each.

    2 P(T > |value - base| / (se + base_se)), T with D - 1 degrees of freedom; 0 to 1, NaN where an input is. Equal values give 1; both
    without spread and different give 0. Exact where the two are perfectly anticorrelated, else too large. Source: as `gap_interval`.
    """
    from scipy.stats import t

    if n_documents < 2:
        raise ValueError(f"n_documents must be at least 2, got {n_documents}; one document has no spread to test against.")
    gap = np.abs(np.asarray(value, np.float64) - np.asarray(base, np.float64))
    width = (np.asarray(reach, np.float64) + np.asarray(base_reach, np.float64)) / t.ppf((1 + CONFIDENCE) / 2, n_documents - 1)
    ratio = np.divide(gap, width, out=np.where(gap > 0, np.inf, 0.0), where=width > 0)
    found = 2 * t.sf(ratio, n_documents - 1)
    return np.where(np.isnan(gap) | np.isnan(width), np.nan, found)


def share_gap(k: ArrayLike, base: ArrayLike, n: int) -> tuple[Floats, Floats]:
    """Interval of k / n - base / n, both counts of the same n documents: of each the Clopper-Pearson interval at 97.5 %, together 95 %.

    Counts from 0 to n; ends from -1 to 1. Holds whatever the correlation. Source: Bonferroni's inequality.
    """
    one, other = _counts(k, base, n)
    low, high = clopper_pearson(np.arange(n + 1), n, (1 + CONFIDENCE) / 2)  # there are fewer counts than units
    return gap_interval(low[one], high[one], low[other], high[other])


def share_p(k: ArrayLike, base: ArrayLike, n: int) -> Floats:
    """The largest p that McNemar's exact test of two counts of the same n documents can have.

    The test reads documents in which exactly one of the two was active; of these only the difference |k - base| is known. Their number is
    at most min(k + base, 2 n - k - base), where the same difference says least: two-sided binomial at 1/2. 0 to 1; equal counts give 1.
    By hand: n = 10, k = 6, base = 0 leaves 6 such documents, all of one kind: 2 / 2^6 = 0.03125. Source: McNemar 1947, exact form.
    """
    from scipy.special import bdtr

    one, other = _counts(k, base, n)
    alone = np.minimum(one + other, 2 * n - one - other)
    fewer = (alone - np.abs(one - other)) // 2
    return np.minimum(1.0, 2 * bdtr(fewer.astype(np.float64), alone, 0.5))


def _counts(k: ArrayLike, base: ArrayLike, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    one, other = np.broadcast_arrays(np.asarray(k, np.int64), np.asarray(base, np.int64))
    if n < 1 or (np.minimum(one, other) < 0).any() or (np.maximum(one, other) > n).any():
        raise ValueError(f"counts must be between 0 and the {n} documents, of which there must be one; check them.")
    return one, other


def corrected(p: ArrayLike) -> Floats:
    """p values [units] corrected for their number: below q, the expected share of false ones among those called changed is at most q.

    NaN stays NaN and is not counted. Benjamini-Hochberg; proven for units that are independent or positively dependent, and usual where,
    as here, they share their documents. By hand: 0.01, 0.04, 0.03 become 0.03, 0.04, 0.04. Source: Benjamini and Hochberg 1995.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, np.float64)
    found = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        found[known] = false_discovery_control(values[known])
    return found


def largest_changes(value: ArrayLike, base: ArrayLike, k: int) -> NDArray[np.int64]:
    """Places of the k largest |value - base| [units], descending, of ties the lowest place first; differences of exactly 0 are no changes.

    NaN in either is left out. Identical inputs give none.
    """
    gap = np.abs(np.asarray(value, np.float64) - np.asarray(base, np.float64))
    places = np.flatnonzero(gap > 0)  # False for NaN
    return places[np.argsort(-gap[places], kind="stable")[:k]]
