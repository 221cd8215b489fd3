"""Where a curve of loss over level leaves its tolerance: s*(eps), with an interval and honest answers where there is no number.

1. `crossing`: the definition, on any measured curve.
2. `smooth`: isotonic regression, since the running maximum of a noisy curve is early.
3. `drop_point`: both on the paired differences of one curve, its band inverted for the interval.
4. `sharpest_bend`: a hint, ours; any knee moves with the range shown.

Source: METHODS A1 (the tolerance is the paper's, the interpolation and the interval are ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.paired import RESOLVED, Resample, band, resolved

Floats = NDArray[np.float64]
ENOUGH_DRAWS = 5
"""Fewer seeds or calibration samples make no headline. Source: ours."""
Answer = Literal["reached", "not reached", "below first level", "not resolvable"]


@dataclass(frozen=True)
class Crossing:
    """Where a curve first exceeds a tolerance, or on which side of the measured levels that lies."""

    answer: Answer
    level: float
    """Where reached, the crossing; where not reached, the last level (s* lies beyond it); else the first level (s* lies below it)."""

    @property
    def reached(self) -> bool:
        """Whether `level` is the crossing itself."""
        return self.answer == "reached"

    @property
    def words(self) -> str:
        """``0.43``, ``> 0.9 (not reached)`` or ``< 0.1 (below the first level)``."""
        if self.answer == "not reached":
            return f"> {self.level:.3g} (not reached)"
        return f"{self.level:.3g}" if self.reached else f"< {self.level:.3g} (below the first level)"


def crossing(levels: ArrayLike, increase: ArrayLike, eps: float, steps: bool = False) -> Crossing:
    """s*(eps) = sup { s : max over s' <= s of increase(s') <= eps }, linear between the two levels around it.

    levels ascending, 0 to 1; increase [levels] in the unit of eps, above the dense value; infinite is above any tolerance, and the
    crossing is then put at the level before. ``steps``: there is nothing between the levels (patterns N of M), so s* is the last one
    within. Range: first to last level. Source: METHODS A1.
    """
    s, delta = _checked(levels, increase)
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps!r}; the usual tolerances are 0.01, 0.05 and 0.1.")
    worst = np.maximum.accumulate(delta)
    above = np.flatnonzero(worst > eps)
    if not len(above):
        return Crossing("not reached", float(s[-1]))
    i = int(above[0])
    if i == 0:
        return Crossing("below first level", float(s[0]))
    share = 0.0 if steps or np.isinf(worst[i]) else (eps - worst[i - 1]) / (worst[i] - worst[i - 1])
    return Crossing("reached", float(s[i - 1] + share * (s[i] - s[i - 1])))


def _checked(levels: ArrayLike, increase: ArrayLike) -> tuple[Floats, Floats]:
    s, delta = np.asarray(levels, np.float64), np.asarray(increase, np.float64)
    if s.ndim != 1 or s.shape != delta.shape or not len(s) or (np.diff(s) <= 0).any():
        raise ValueError("levels must ascend, with one increase each, at least one; sort them and leave repeats out.")
    if np.isnan(delta).any():
        raise ValueError("increase must be numbers or infinite, got NaN; give infinity where a loss is infinite or no number.")
    return s, delta


def smooth(increase: ArrayLike, standard_error: ArrayLike | None = None) -> Floats:
    """The non-decreasing curve nearest to the measured one in (weighted) squares; infinite from the first infinite value on.

    increase [levels] in order of the levels -> [levels]. Weights 1 / standard_error^2 where given; a level with standard error 0 (the
    dense model itself) gets a millionth of the smallest other, so that it is as good as fixed. Source: Barlow and Brunk 1972;
    SciPy's isotonic regression, which scikit-learn's also calls, after checks that cost far more than the regression.
    """
    from scipy.optimize import isotonic_regression

    delta = np.asarray(increase, np.float64)
    endless = np.flatnonzero(np.isinf(delta))
    end = int(endless[0]) if len(endless) else len(delta)
    found = np.full(len(delta), np.inf)
    if end:
        found[:end] = isotonic_regression(delta[:end], weights=_weights(standard_error, end)).x
    return found


def _weights(standard_error: ArrayLike | None, n: int) -> Floats | None:
    if standard_error is None:
        return None
    error = np.asarray(standard_error, np.float64)[:n]
    positive = error[(error > 0) & np.isfinite(error)]
    if not len(positive):
        return None
    floor, ceiling = float(positive.min()), float(positive.max())
    # Relative weights only; at most 1e12 apart, which double precision still adds up.
    return (floor / np.where(error > 0, np.minimum(error, ceiling), 1e-6 * floor)) ** 2


@dataclass(frozen=True)
class DropPoint:
    """s*(eps) of one measured curve."""

    eps: float
    answer: Answer
    point: Crossing
    """Of the smoothed curve; a number that noise allows to be believed only where `answer` is ``reached``."""
    raw: Crossing
    """Of the curve as measured: the definition to the letter; early where the noise is large."""
    low: Crossing
    """Where the upper end of the band leaves the tolerance: end of the 95 % interval."""
    high: Crossing
    bracket: tuple[float, float]
    """Measured levels around the crossing of the smoothed curve, between which it is interpolated; both the end where there is none."""
    standard_error: float
    """Of the increase, interpolated at the crossing (or at the end that s* lies beyond). Unit of eps."""
    n_documents: int
    note: str
    """Empty, or what limits the answer."""

    @property
    def words(self) -> str:
        """The answer with its interval, as captions print it."""
        if self.answer == "not resolvable":
            return f"not resolvable: standard error {self.standard_error:.2g}, more than {self.eps:g}/{RESOLVED}"
        if self.n_documents == 1:
            return f"{self.point.words}, no interval (one document)"
        if not self.point.reached and self.low.answer == self.point.answer:
            return self.point.words
        return f"{self.point.words}, 95 % interval {self.low.words} to {self.high.words}"


def drop_point(levels: ArrayLike, sums: ArrayLike, eps: float, resample: Resample, steps: bool = False) -> DropPoint:
    """s*(eps) with its interval, from increases summed over documents.

    levels [levels] ascending; sums [levels, documents]: loss of the sparse model minus loss of the dense one, summed over the positions
    of each document (0 at level 0, infinite where the loss is). Curve and both ends of the band are smoothed, then each is crossed: the
    interval is { s : eps lies in the band at s }. ``not resolvable`` where the standard error at the crossing exceeds eps / 3; of
    ``steps`` the interval says it: levels above its lower end, up to its upper one, are undecided.
    """
    s, y = np.asarray(levels, np.float64), np.asarray(sums, np.float64)
    values, errors = resample.value(y), resample.standard_errors(y)
    errors = np.where((y == 0).all(axis=1), 0.0, errors)
    low, high = band(resample.means(y))
    point = crossing(s, smooth(values, errors), eps, steps)
    at = _error_at(point.level, s, errors)
    answer: Answer = point.answer if steps or resolved(at, eps) or resample.n_documents == 1 else "not resolvable"
    return DropPoint(
        eps, answer, point, crossing(s, values, eps, steps),
        crossing(s, smooth(high, errors), eps, steps), crossing(s, smooth(low, errors), eps, steps),
        _around(point, s), at, resample.n_documents, resample.note,
    )  # fmt: skip


def _around(point: Crossing, s: Floats) -> tuple[float, float]:
    if not point.reached:
        return point.level, point.level
    i = int(np.searchsorted(s, point.level, side="right"))
    return float(s[i - 1]), float(s[min(i, len(s) - 1)])


def _error_at(level: float, s: Floats, errors: Floats) -> float:
    """Linear between the levels around it; that of the level before where the next is infinite."""
    finite = np.isfinite(errors)
    return float(np.interp(level, s[finite], errors[finite])) if finite.any() else float("inf")


def drop_draws(levels: ArrayLike, means: Floats, eps: float, steps: bool = False) -> tuple[Floats, NDArray[np.bool_]]:
    """s*(eps) of the smoothed curve in every draw, for differences between methods that share the draws.

    means [draws, levels] -> level [draws] (an end of the range where it is not inside) and whether it was reached [draws].
    """
    found = [crossing(levels, smooth(row), eps, steps) for row in means]
    return np.array([c.level for c in found]), np.array([c.reached for c in found])


@dataclass(frozen=True)
class DropDifference:
    """s* of one method minus that of another, on the same documents."""

    value: float
    low: float
    high: float
    n_draws: int


def drop_difference(
    one: tuple[Floats, NDArray[np.bool_]], other: tuple[Floats, NDArray[np.bool_]], confidence: float = 0.95
) -> DropDifference | str:
    """Interval of s*_one - s*_other from their draws (`drop_draws`); a sentence where too many draws of one lie beyond its levels."""
    tail = (1 - confidence) / 2
    for _, reached in (one, other):
        if (~reached).mean() >= tail:
            return (
                f"not comparable: in {100 * (~reached).mean():.0f} % of the draws the tolerance is not crossed within the measured levels"
            )
    gap = one[0] - other[0]
    low, high = np.quantile(gap, [tail, 1 - tail])
    return DropDifference(float(np.median(gap)), float(low), float(high), len(gap))


@dataclass(frozen=True)
class DropSpread:
    """s* of one method over its draws: seeds, or samples to calibrate on. A variance beside that over documents."""

    n: int
    n_reached: int
    sd: float | None
    """Of single draws, n - 1 in the denominator; None for one draw, and unless all of them crossed: those that did are a biased choice."""
    low: float | None
    high: float | None

    @property
    def words(self) -> str:
        """As notes print it; says where there are fewer draws than a headline needs."""
        few = "" if self.n >= ENOUGH_DRAWS else f"; a headline needs at least {ENOUGH_DRAWS}"
        if self.n == 1:
            return f"one draw, so how far seed or calibration sample move it is not known{few}"
        if self.sd is None:
            return f"{self.n_reached} of {self.n} draws have a drop point, so their spread is not known{few}"
        return f"over {self.n} draws {self.low:.3g} to {self.high:.3g}, standard deviation {self.sd:.2g}{few}"


def drop_spread(drops: Sequence[DropPoint]) -> DropSpread:
    """The spread of s* over draws, on the same documents; at least one."""
    levels = [drop.point.level for drop in drops if drop.answer == "reached"]
    if len(drops) < 2 or len(levels) < len(drops):
        return DropSpread(len(drops), len(levels), None, None, None)
    return DropSpread(len(drops), len(levels), float(np.std(levels, ddof=1)), min(levels), max(levels))


def sharpest_bend(levels: ArrayLike, increase: ArrayLike) -> Crossing:
    """The level where the slope of the curve grows most: slope to the right minus slope to the left, the first where equal.

    At even levels the largest second difference of METHODS A1. A hint, ours, drawn as such: it always finds something, and it moves with
    the range and the levels shown. ``not reached`` for fewer than three levels or a curve without a bend.
    """
    s, delta = _checked(levels, increase)
    s, delta = s[np.isfinite(delta)], delta[np.isfinite(delta)]
    if len(s) < 3:
        return Crossing("not reached", float(s[-1]) if len(s) else 0.0)
    bend = np.diff(np.diff(delta) / np.diff(s))
    if bend.max() <= 1e-12:
        return Crossing("not reached", float(s[-1]))
    best = int(np.flatnonzero(bend >= bend.max() * (1 - 1e-9))[0])
    return Crossing("reached", float(s[best + 1]))
