"""Fixed bins for activations, so that histograms merge and thresholds can be moved after the run.

515 bins, ascending in value: signed, eight per octave, from 2^-20 to 2^12. The eight bins of an octave are equally wide
(edges 2^e (1 + k/8), exactly representable), so a bin is the top bits of the float32 pattern and needs no logarithm:

    index 0          x <= -2^12                     (overflow)
    index 1..256     negative, from large to small magnitude
    index 257        |x| < 2^-20, exact zeros too
    index 258..513   positive, from small to large magnitude
    index 514        x >= 2^12                      (overflow)

A bin holds its edge of smaller magnitude and not the one of larger magnitude, on both sides of zero.
Source: ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_BINS = 515
CENTRE = 257
"""Index of the bin |x| < 2^-20."""
LOWEST, HIGHEST = 2.0**-20, 2.0**12
FIRST_KEY = (127 - 20) * 8
"""`(bits & 0x7fffffff) >> 20` of 2^-20: eight exponent bits and the first three of the mantissa."""


class Quantile(NamedTuple):
    """Quantiles read from a histogram: the middle of the bin they fall into, and the width of that bin (the error)."""

    value: NDArray[np.float64]
    width: NDArray[np.float64]
    """Infinite for the two overflow bins, whose `value` is then the finite edge."""


def magnitude_edges() -> NDArray[np.float64]:
    """The 257 thresholds a count can be asked for, ascending from 2^-20 to 2^12."""
    octaves = np.repeat(2.0 ** np.arange(-20, 12), 8)
    return np.append(octaves * np.tile(1 + np.arange(8) / 8, 32), HIGHEST)


def bin_edges() -> NDArray[np.float64]:
    """All 516 edges, ascending, -inf and +inf at the ends: bin b lies between edges b and b + 1."""
    edges = magnitude_edges()
    return np.concatenate([[-np.inf], -edges[::-1], edges, [np.inf]])


def bin_index(values: ArrayLike) -> NDArray[np.int64]:
    """The bin of each value, any shape. Values are rounded to float32 first; NaN has no bin and is refused."""
    rounded = np.asarray(values, dtype=np.float32)
    if np.isnan(rounded).any():
        raise ValueError(f"values must be numbers, got {np.isnan(rounded).sum()} NaN; count them apart before binning.")
    bits = rounded.view(np.int32).astype(np.int64)
    steps = np.clip(((bits & 0x7FFFFFFF) >> 20) - (FIRST_KEY - 1), 0, CENTRE)
    return CENTRE + np.where(bits < 0, -steps, steps)


def snap(threshold: float) -> float:
    """The nearest edge to a threshold (in ratio), for sliders; thresholds at or below 2^-20 give 2^-20."""
    if not threshold > 0:
        return LOWEST
    edges = magnitude_edges()
    return float(edges[np.argmin(np.abs(np.log(edges) - np.log(threshold)))])


def _edge_position(threshold: float) -> int:
    edges = magnitude_edges()
    position = int(np.searchsorted(edges, threshold))
    if position < len(edges) and edges[position] == threshold:
        return position
    near = edges[max(position - 1, 0) : position + 1]
    raise ValueError(f"threshold must be a bin edge, got {threshold!r}; use {' or '.join(repr(float(e)) for e in near)} (see `snap`).")


def count_above(counts: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """How many values had |x| >= threshold; exact, because the threshold must be an edge.

    counts [..., 515] -> [...], in values.
    """
    position = _edge_position(threshold)
    table = _checked(counts)
    return table[..., : CENTRE - position].sum(-1) + table[..., CENTRE + 1 + position :].sum(-1)


def quantile(counts: ArrayLike, q: float) -> Quantile:
    """The q-quantile of each histogram: the first bin at which at least a share q of the values is reached.

    counts [..., 515], 0 <= q <= 1 -> value and bin width [...]. The true quantile lies inside that bin.
    """
    table = _checked(counts)
    if not 0 <= q <= 1:
        raise ValueError(f"q must be between 0 and 1, got {q!r}; give a share, not a percentage.")
    totals = table.sum(-1, keepdims=True)
    if (totals == 0).any():
        raise ValueError("a quantile must be taken of at least one value, got an empty histogram; leave such units out.")
    reached = np.cumsum(table, axis=-1) >= np.maximum(np.ceil(q * totals), 1)
    found = reached.argmax(-1)
    edges = bin_edges()
    low, high = edges[found], edges[found + 1]
    finite_low, finite_high = np.maximum(low, -HIGHEST), np.minimum(high, HIGHEST)
    return Quantile((finite_low + finite_high) / 2, high - low)


def _checked(counts: ArrayLike) -> NDArray[np.int64]:
    table = np.asarray(counts, dtype=np.int64)
    if table.ndim == 0 or table.shape[-1] != N_BINS:
        raise ValueError(f"counts must have {N_BINS} bins in the last axis, got shape {table.shape}; see `bin_edges`.")
    return table


# ---------------------------------------------------------------------------------------------------------------------
# Sparse forms: most bins of most units are empty


class Packed(NamedTuple):
    """Histograms of many units without their empty bins: unit u owns entries offsets[u] to offsets[u + 1]."""

    offsets: NDArray[np.int64]
    bins: NDArray[np.int16]
    counts: NDArray[np.int64]


def pack(counts: ArrayLike) -> Packed:
    """Dense [units, 515] to packed."""
    table = _checked(counts)
    units, bins = np.nonzero(table)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(units, minlength=len(table)))]).astype(np.int64)
    return Packed(offsets, bins.astype(np.int16), table[units, bins])


def unpack(packed: Packed) -> NDArray[np.int64]:
    """Packed to dense [units, 515]."""
    table = np.zeros((len(packed.offsets) - 1, N_BINS), np.int64)
    units = np.repeat(np.arange(len(table)), np.diff(packed.offsets))
    table[units, packed.bins] = packed.counts
    return table


def to_lists(counts: ArrayLike) -> tuple[list[list[int]], list[list[int]]]:
    """Dense [units, 515] to (bins, counts), one list per unit each: the two list columns of a table."""
    packed = pack(counts)
    cuts = packed.offsets[1:-1]
    return (
        [part.tolist() for part in np.split(packed.bins, cuts)],
        [part.tolist() for part in np.split(packed.counts, cuts)],
    )


def from_lists(bins: list[list[int]], counts: list[list[int]]) -> NDArray[np.int64]:
    """The list columns back to dense [units, 515]."""
    table = np.zeros((len(bins), N_BINS), np.int64)
    for unit, (where, how_many) in enumerate(zip(bins, counts, strict=True)):
        table[unit, where] = how_many
    return table
