"""Sharing a level out among matrices at the least predicted loss, from the loss each alone causes.

1. Each curve of increase over level is made non-decreasing, and then convex from below (its lower hull): what can be had by mixing levels.
2. Pieces of all hulls are taken in order of loss per weight until the target is reached, the last one in part. For convex curves that
   add up this is the optimum.

That increases add up is an assumption: it is what the measured curve of the allocation is there to check. Source: ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.drops import smooth

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]
"""Levels, ascending from 0, and the increase at each, 0 at 0."""


def convexified(levels: ArrayLike, increase: ArrayLike) -> Curve:
    """The lower convex hull of the isotonic curve through (0, 0) and these points: levels and increases of its corners.

    levels ascending above 0, up to 1; increase [levels], infinite ones left out with all behind them; negative ones count as 0.
    """
    s = np.concatenate([[0.0], np.asarray(levels, np.float64)])
    raw = np.concatenate([[0.0], np.asarray(increase, np.float64)])
    rising = np.maximum(smooth(raw), 0.0)
    rising[0] = 0.0
    kept = np.isfinite(rising)
    s, rising = s[kept], rising[kept]
    hull: list[int] = []
    for i in range(len(s)):
        while len(hull) > 1 and _is_above(s, rising, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    return s[hull], rising[hull]


def _is_above(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    """Whether point b lies on or above the line from a to c."""
    return (y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a])


def allocate(curves: Sequence[Curve], sizes: Sequence[int], target: float) -> tuple[Floats, float]:
    """Share of each matrix [n], their mean weighted by size being the target, and the predicted increase, the sum of their curves there.

    Raises ValueError where the target is above what the curves reach. Of pieces with equal loss per weight the first matrix' go first.
    """
    n = np.asarray(sizes, np.float64)
    room = target * n.sum()
    shares, predicted = np.zeros(len(curves)), 0.0
    pieces = [
        ((loss[j + 1] - loss[j]) / ((s[j + 1] - s[j]) * n[i]), i, j)
        for i, (s, loss) in enumerate(curves)
        for j in range(len(s) - 1)
    ]  # fmt: skip
    for slope, i, j in sorted(pieces):
        s = curves[i][0]
        take = min((s[j + 1] - s[j]) * n[i], room)
        if take <= 0:
            break
        shares[i] = s[j] + take / n[i]
        predicted += slope * take
        room -= take
    if room > 1e-6 * n.sum():
        most = sum(float(s[-1]) * size for (s, _), size in zip(curves, n)) / n.sum()
        raise ValueError(f"the target must be at most {most:.3g}, the levels measured, got {target:g}; measure higher levels.")
    return shares, float(predicted)
