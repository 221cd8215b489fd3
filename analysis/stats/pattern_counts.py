"""Sums over a tensor of a 16-bit type from how often each of its 65,536 patterns occurs: fewer terms than weights, no pass of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.stats import kernel_matrix as kernel
from analysis.stats.magnitudes import KEY_BITS, MagnitudeCounts


def of_patterns(
    counts: NDArray[np.int64], values: NDArray[np.float32], shift: float
) -> tuple[NDArray[np.float64], float, float, MagnitudeCounts]:
    """What `kernel.sweep` would have summed, the least and the largest, and the magnitudes, from the counts of 16-bit patterns.

    ``values``: the number each pattern stands for, those of the upper half being minus those of the lower; all counted ones finite.
    """
    some = np.flatnonzero(counts)
    seen, often = values[some], counts[some].astype(np.float64)
    sizes, sums = np.abs(seen), np.zeros(kernel.N_SUMS)
    away = seen.astype(np.float64) - shift
    sums[kernel.ABS] = (often * sizes).sum()
    sums[kernel.SQRT] = (often * np.sqrt(sizes)).sum()
    power = often
    for p in range(4):
        power = power * away
        sums[kernel.D1 + p] = power.sum()
    both = counts[: len(counts) // 2] + counts[len(counts) // 2 :]  # of one magnitude with either sign
    there = np.flatnonzero(both)
    keys = (values[there].view(np.int32) >> KEY_BITS).astype(np.int64)
    low, high = float(seen.min(initial=np.inf)), float(seen.max(initial=-np.inf))
    return sums, low + 0.0, high + 0.0, MagnitudeCounts(keys, both[there], 0, True)
