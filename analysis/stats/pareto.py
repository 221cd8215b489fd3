"""Which points are worth having when two things should both be small: the Pareto front."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(cost: ArrayLike, loss: ArrayLike) -> NDArray[np.bool_]:
    """Whether each point is beaten by none: no other is as good in both and better in one. bool [n], from [n] and [n], any unit.

    Equal points stay together. A point that is no finite number is on no front and beats nothing. Source: the usual definition.
    """
    x, y = np.asarray(cost, np.float64), np.asarray(loss, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    better = (x[:, None] <= x) & (y[:, None] <= y) & ((x[:, None] < x) | (y[:, None] < y))
    return known & ~(better & known[:, None]).any(axis=0)
