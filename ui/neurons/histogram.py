"""A neuron's stored histogram as bars wide enough to see: neighbouring bins are joined, never split, so counts stay exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.stats.histogram import CENTRE, HIGHEST, LOWEST, bin_edges
from ui.strips import Histogram
from ui.words import count

BARS = 70
"""Bars a range of values is drawn with where the stored bins are finer."""
Bar = tuple[float, float, int, bool]


def bars(bins: Sequence[int], counts: Sequence[int], smallest: float, largest: float) -> list[Bar]:
    """Bars ``(low, high, tokens, holds zero)`` in ascending order.

    Stored bins are joined until a bar is at least a 70th of the range wide. The bin around zero, |x| < 2^-20, joins its
    neighbours on both sides, so that zero lies in the middle of one bar. Outermost edges are the extreme values themselves.
    """
    edges = bin_edges()
    width = (largest - smallest) / BARS
    per_bin = dict(zip(bins, counts, strict=True))
    if not per_bin:
        return []
    found: list[Bar] = []
    half = max(LOWEST, 2.0 ** math.ceil(math.log2(max(width / 2, LOWEST))))
    low_zero, high_zero = int(np.searchsorted(edges, -half)), int(np.searchsorted(edges, half)) - 1
    start = None
    for bin_ in range(min(per_bin), max(per_bin) + 1):
        start = bin_ if start is None else start
        at_zero = low_zero <= bin_ <= high_zero
        ends_here = bin_ in (high_zero, low_zero - 1) or bin_ == max(per_bin)
        if ends_here or (not at_zero and _edge(edges, bin_ + 1) - _edge(edges, start) >= width):
            n = sum(per_bin.get(one, 0) for one in range(start, bin_ + 1))
            if n:
                low, high = max(_edge(edges, start), smallest), min(_edge(edges, bin_ + 1), largest)
                found.append((low, high, n, start <= CENTRE <= bin_))
            start = None
    return found


def _edge(edges: np.ndarray, i: int) -> float:
    return float(np.clip(edges[i], -HIGHEST, HIGHEST))


def histogram(
    bins: Sequence[int], counts: Sequence[int], smallest: float, largest: float, n_tokens: int, threshold: float | None = None
) -> Histogram | None:
    """The histogram of one neuron, ready to draw; None where it has no values."""
    drawn = bars(bins, counts, smallest, largest)
    if not drawn:
        return None
    spread = largest - smallest or max(abs(largest), LOWEST)
    low, high = smallest - 0.02 * spread, largest + 0.02 * spread
    most = max(n for *_, n, _ in drawn)
    at_zero = dict(zip(bins, counts, strict=True)).get(CENTRE, 0)
    joined = sum(n for *_, n, zero in drawn if zero)
    notes = (
        f"Every stored value, {count(n_tokens, 'token')}; tokens on a log scale. "
        f"The grey bar holds zero: {count(joined, 'token')}, {at_zero:,} of them with |a| < 10⁻⁶.",
        "Bars get wider away from zero, as the stored bins do (eight per octave). Point at a token to find its value here.",
    )
    lines = tuple(value for value in (-threshold, threshold) if low <= value <= high) if threshold else ()
    return Histogram(
        title="Values",
        label="activation",
        sentence=f"Histogram of {count(n_tokens, 'value')} from {smallest:.4g} to {largest:.4g}; {joined:,} of them around zero.",
        bars=tuple(drawn),
        low=low,
        high=high,
        most=most,
        ticks=_ticks(low, high),
        counts=tuple((10**p, f"{10**p:,}") for p in range(int(math.log10(most)) + 1)),
        lines=lines,
        notes=notes,
    )


def _ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round values between low and high, zero among them where it lies between."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    pace = next(power * step for step in (1, 2, 5, 10) if power * step >= rough)
    return tuple(round(i * pace, 12) for i in range(math.ceil(low / pace), math.floor(high / pace) + 1))
