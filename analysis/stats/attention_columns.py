"""What the keys of a window receive, and how its blocks are filled: measures of a whole window, from sums over its rows.

Sources: METHODS C1 (ZipVL), C5 (SeerAttention), C9 (H2O), C11 (sinks).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.stats.attention_measures import (
    BLOCK_THRESHOLD,
    BLOCKS,
    EARLY_MASS,
    EARLY_MAY,
    HEAVY,
    LATER,
    LATER_MASS,
    LATER_MAY,
    ROUNDING,
    SINK_STRENGTH,
    ZIPVL,
)

Floats = NDArray[np.float64]


class Window(NamedTuple):
    """Places of a window's measures; the field names are the measures' names."""

    detected_sinks: int
    detected_sink_mass: int
    heavy_mass: int
    zipvl: int
    block_16: int
    block_32: int
    block_64: int
    block_128: int


WINDOW = Window(*range(len(Window._fields)))
N_WINDOW = len(WINDOW)


def window_sums(columns: Floats, maxima: NDArray[np.float32], block: int, is_self: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """Measures of each window and head [windows, heads, N_WINDOW], and which of them could be had.

    ``columns`` [windows, heads, 4, keys + 1] and ``maxima`` [windows, heads, blocks, blocks] as `attention_rows.tally_head` writes them.
    """
    windows, heads = columns.shape[:2]
    found = np.zeros((windows, heads, N_WINDOW))
    known = np.zeros((windows, heads, N_WINDOW), bool)

    def put(place: int, values: Floats, where: NDArray[np.bool_]) -> None:
        found[..., place], known[..., place] = np.where(where, values, 0.0), where

    later, later_may = columns[:, :, LATER_MASS, :-1], columns[:, :, LATER_MAY].cumsum(-1)[..., :-1]
    every, may = columns[:, :, EARLY_MASS, :-1] + later, columns[:, :, EARLY_MAY].cumsum(-1)[..., :-1] + later_may
    some = may.max(-1) > 0
    if is_self:
        n, mass, rows = detected_sinks(later, later_may)
        put(WINDOW.detected_sinks, n, rows > 0)
        put(WINDOW.detected_sink_mass, mass, rows > 0)
    put(WINDOW.heavy_mass, heavy_mass(every, may, HEAVY), some)
    put(WINDOW.zipvl, zipvl_ratio(every, may, ZIPVL), some)
    for place, size in zip(range(WINDOW.block_16, WINDOW.block_128 + 1), BLOCKS):
        if size % block == 0 and maxima.shape[-1] * block > size:
            put(place, block_density(pooled(maxima, size // block)), some)
    return found, known


def detected_sinks(mass: Floats, may: Floats) -> tuple[Floats, Floats, Floats]:
    """Keys that later rows give at least `SINK_STRENGTH` on average, `LATER` such rows or more: how many; the mass on them per later
    row; the later rows. mass, may: [..., keys]."""
    strength = mass / np.maximum(may, 1)
    sinks = (may >= LATER) & (strength >= SINK_STRENGTH)
    rows = may.max(-1)
    return sinks.sum(-1).astype(float), np.minimum(1.0, (mass * sinks).sum(-1) / np.maximum(rows, 1)), np.where(rows >= LATER, rows, 0)


def heavy_mass(received: Floats, may: Floats, share: float) -> Floats:
    """Share of the accumulated attention that the ``share`` of keys with the most of it hold (rounded up); [..., keys] -> [...]."""
    ordered = -np.sort(-received, axis=-1)
    kept = np.ceil(share * (may > 0).sum(-1) - 1e-9)
    within = np.arange(received.shape[-1]) < kept[..., None]
    return (ordered * within).sum(-1) / np.maximum(ordered.sum(-1), 1e-300)


def zipvl_ratio(received: Floats, may: Floats, tau: float) -> Floats:
    """Smallest share of the keys that together hold ``tau`` of the accumulated attention (C1); [..., keys] -> [...]."""
    held = np.cumsum(-np.sort(-received, axis=-1), axis=-1)
    p = (held < tau * held[..., -1:] * (1 - ROUNDING)).sum(-1) + 1
    return p / np.maximum((may > 0).sum(-1), 1)


def pooled(maxima: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Maxima over ``times`` x ``times`` blocks; -1 where no pair is valid."""
    if times == 1:
        return maxima
    more = [(0, -size % times) for size in maxima.shape[-2:]]
    padded = np.pad(maxima, [(0, 0)] * (maxima.ndim - 2) + more, constant_values=-1)
    *lead, q, k = padded.shape
    return padded.reshape(*lead, q // times, times, k // times, times).max((-3, -1))


def ground_truth(maxima: NDArray[np.float32]) -> Floats:
    """SeerAttention's target: largest weights per block / their sum over the block row; -1 where no pair is valid."""
    valid = maxima >= 0
    total = np.where(valid, maxima, 0.0).sum(-1, keepdims=True, dtype=np.float64)
    return np.where(valid, maxima / np.maximum(total, 1e-300), -1.0)


def block_density(maxima: NDArray[np.float32]) -> Floats:
    """Share of the blocks with a valid pair whose ground truth is at least `BLOCK_THRESHOLD`."""
    truth = ground_truth(maxima)
    return (truth >= BLOCK_THRESHOLD).sum((-2, -1)) / np.maximum((truth >= 0).sum((-2, -1)), 1)
