"""The fused engine: everything `block.eager_block` computes, in one pass over the values, compiled by numba.

A block [T, n] is cut into chunks of 64 neurons and tiles of up to 128 rows of one window. A tile (32 KiB) stays in the
first-level cache while a handful of short loops pass over it; each runs along the neurons, which lie side by side in
memory, so that it vectorises, and keeps its sums in one flat scratch array at constant distances, so that the compiler
can prove that they do not overlap. The histogram is the one scalar loop: neighbouring increments belong to different
neurons, so they never wait for each other, and a chunk's used lines stay in the second-level cache.

Sums are float64 about the tile's own mean and merged by `moments.merge_moments`. A chunk with a value that is not finite
is left to the reference (`fused`), which is what makes the relaxed float rules here safe.
"""

from __future__ import annotations

import numba
import numpy as np

from analysis.stats.histogram import CENTRE, FIRST_KEY, N_BINS
from analysis.stats.moments import merge_moments

CHUNK = 64
TILE = 128
TOTAL, MEAN, M2, M3, M4, ACTIVE, RELATIVE = (k * CHUNK for k in range(7))
"""Places of the sums in the scratch array; the first tile's sums stand here, the running moments at `RUN` onwards."""
RUN_MEAN, RUN_M2, RUN_M3, RUN_M4 = (k * CHUNK for k in range(7, 11))
SCRATCH = 11 * CHUNK
N_ACTIVE, N_ZERO = 0, CHUNK

_compiled = numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"}, error_model="numpy")
_merge = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(merge_moments)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc"}, error_model="numpy")
def _is_finite(values, j0, j1):
    """A finite number times zero is zero; NaN and infinity times zero are NaN, which stays in the sum."""
    zero = np.float32(0)
    total = zero
    for r in range(len(values)):
        row = values[r, j0:j1]
        for j in range(row.size):
            total += row[j] * zero
    return total == 0


@_compiled
def _tile_moments(values, first, end, j0, j1, s):
    """Mean and central sums of rows first..end of a chunk, two passes, into the scratch `s`."""
    width = j1 - j0
    for j in range(5 * CHUNK):
        s[j] = 0.0
    for r in range(first, end):
        x = values[r, j0:j1]
        for j in range(width):
            s[TOTAL + j] += x[j]
    for j in range(width):
        s[MEAN + j] = s[TOTAL + j] / (end - first)
    for r in range(first, end):
        x = values[r, j0:j1]
        for j in range(width):
            away = x[j] - s[MEAN + j]
            square = away * away
            s[M2 + j] += square
            s[M3 + j] += square * away
            s[M4 + j] += square * square


@_compiled
def _run_on(n_before, n_tile, width, s):
    """Merge the tile's moments into the running ones."""
    for j in range(width):
        _, s[RUN_MEAN + j], s[RUN_M2 + j], s[RUN_M3 + j], s[RUN_M4 + j] = _merge(
            n_before, s[RUN_MEAN + j], s[RUN_M2 + j], s[RUN_M3 + j], s[RUN_M4 + j],
            n_tile, s[MEAN + j], s[M2 + j], s[M3 + j], s[M4 + j],
        )  # fmt: skip


@_compiled
def _tile_extremes(values, rankable, first, end, j0, j1, best, where):
    """Running maximum, minimum (`best`: high, low, then both over rows that may not rank) and their first rows."""
    width = j1 - j0
    for r in range(first, end):
        x = values[r, j0:j1]
        if rankable[r]:
            row = np.int32(r)
            for j in range(width):
                above = x[j] > best[j]
                best[j] = x[j] if above else best[j]
                where[j] = row if above else where[j]
                below = x[j] < best[CHUNK + j]
                best[CHUNK + j] = x[j] if below else best[CHUNK + j]
                where[CHUNK + j] = row if below else where[CHUNK + j]
        else:
            for j in range(width):
                best[2 * CHUNK + j] = max(best[2 * CHUNK + j], x[j])
                best[3 * CHUNK + j] = min(best[3 * CHUNK + j], x[j])


@_compiled
def _tile_counts(values, weight, threshold, first, end, j0, j1, tally, rows):
    """How often active, zero (per neuron) and active, above zero (per row); counted in float32, which is as wide as x."""
    width = j1 - j0
    w = weight[j0:j1]
    one, zero = np.float32(1), np.float32(0)
    for r in range(first, end):
        x = values[r, j0:j1]
        bar, n_on, n_positive = threshold[r], zero, zero
        for j in range(width):
            on = one if abs(x[j]) * w[j] > bar else zero
            tally[N_ACTIVE + j] += on
            tally[N_ZERO + j] += one if x[j] == zero else zero
            n_on += on
            n_positive += one if x[j] > zero else zero
        rows[2, r] += n_on
        rows[3, r] += n_positive


@_compiled
def _tile_sizes(values, weight, threshold, inverse, first, end, j0, j1, s, rows):
    """Sums of |x|: per neuron over active rows and relative to the output, per row plain and squared."""
    width = j1 - j0
    w = weight[j0:j1]
    for r in range(first, end):
        x = values[r, j0:j1]
        bar, share = threshold[r], inverse[r]
        total, square = 0.0, 0.0
        for j in range(width):
            size = abs(x[j])
            exact = np.float64(size)
            s[ACTIVE + j] += exact if size * w[j] > bar else 0.0
            s[RELATIVE + j] += exact * share
            total += exact
            square += exact * exact
        rows[0, r] += total
        rows[1, r] += square


@_compiled
def _tile_histogram(bits, first, end, j0, j1, histogram, place):
    """Bins of a row first, in 32-bit integers throughout (numba widens them unless told); then the increments."""
    width = j1 - j0
    before, most, pattern = np.int32(FIRST_KEY - 1), np.int32(CENTRE), np.int32(0x7FFFFFFF)
    mine = histogram[j0 * N_BINS : j1 * N_BINS]
    for r in range(first, end):
        b = bits[r, j0:j1]
        for j in range(width):
            steps = np.int32(np.int32(np.int32(b[j] & pattern) >> np.int32(20)) - before)
            steps = steps if steps > np.int32(0) else np.int32(0)
            steps = steps if steps < most else most
            sign = np.int32(b[j] >> np.int32(31))
            signed = np.int32(np.int32(steps ^ sign) - sign)
            place[j] = np.uint32(np.int32(signed + np.int32(np.int32(j) * np.int32(N_BINS))) + most)
        for j in range(width):
            mine[place[j]] += np.int32(1)


@_compiled
def _chunk(values, bits, context, j0, j1, histogram, sums, counts, extremes, windows_high_low, windows_rows, fired, rows):
    """One chunk of neurons over all rows of the block."""
    starts, rankable, weight, threshold, inverse = context
    width = j1 - j0
    s = np.zeros(SCRATCH)
    tally = np.zeros(2 * CHUNK, np.float32)
    place = np.empty(CHUNK, np.uint32)
    best = np.empty(4 * CHUNK, np.float32)
    where = np.empty(2 * CHUNK, np.int32)
    n = 0
    for w in range(starts.size - 1):
        best[:CHUNK], best[CHUNK : 2 * CHUNK], best[2 * CHUNK : 3 * CHUNK], best[3 * CHUNK :] = -np.inf, np.inf, -np.inf, np.inf
        where[:] = -1
        before = tally.copy()
        for first in range(starts[w], starts[w + 1], TILE):
            end = min(first + TILE, starts[w + 1])
            _tile_moments(values, first, end, j0, j1, s)
            _run_on(float(n), float(end - first), width, s)
            n += end - first
            _tile_extremes(values, rankable, first, end, j0, j1, best, where)
            _tile_counts(values, weight, threshold, first, end, j0, j1, tally, rows)
            _tile_sizes(values, weight, threshold, inverse, first, end, j0, j1, s, rows)
            _tile_histogram(bits, first, end, j0, j1, histogram, place)
        length = starts[w + 1] - starts[w]
        for j in range(width):
            k = j0 + j
            windows_high_low[0, w, k], windows_high_low[1, w, k] = best[j], best[CHUNK + j]
            windows_rows[0, w, k], windows_rows[1, w, k] = where[j], where[CHUNK + j]
            extremes[0, k] = max(extremes[0, k], best[j], best[2 * CHUNK + j])
            extremes[1, k] = min(extremes[1, k], best[CHUNK + j], best[3 * CHUNK + j])
            on = tally[N_ACTIVE + j] > before[N_ACTIVE + j]
            nonzero = tally[N_ZERO + j] - before[N_ZERO + j] < length
            fired[w, k] = np.uint8(on) + 2 * np.uint8(nonzero)
    for j in range(width):
        for p in range(4):
            sums[p, j0 + j] = s[RUN_MEAN + p * CHUNK + j]
        sums[4, j0 + j], sums[5, j0 + j] = s[ACTIVE + j], s[RELATIVE + j] * weight[j0 + j]
        counts[0, j0 + j], counts[1, j0 + j] = tally[N_ACTIVE + j], tally[N_ZERO + j]


@_compiled
def _channel_chunk(values, j0, j1, sums, n_positive, extremes):
    """Moments, extremes and the count above zero of one chunk of a gate or up path."""
    width = j1 - j0
    s = np.zeros(SCRATCH)
    tally = np.zeros(CHUNK, np.float32)
    one, zero = np.float32(1), np.float32(0)
    best = np.empty(2 * CHUNK, np.float32)
    best[:CHUNK], best[CHUNK:] = -np.inf, np.inf
    for first in range(0, len(values), TILE):
        end = min(first + TILE, len(values))
        _tile_moments(values, first, end, j0, j1, s)
        _run_on(float(first), float(end - first), width, s)
        for r in range(first, end):
            x = values[r, j0:j1]
            for j in range(width):
                best[j] = x[j] if x[j] > best[j] else best[j]
                best[CHUNK + j] = x[j] if x[j] < best[CHUNK + j] else best[CHUNK + j]
                tally[j] += one if x[j] > zero else zero
    for j in range(width):
        for p in range(4):
            sums[p, j0 + j] = s[RUN_MEAN + p * CHUNK + j]
        n_positive[j0 + j] = tally[j]
        extremes[0, j0 + j], extremes[1, j0 + j] = best[j], best[CHUNK + j]


@_compiled
def block_range(values, bits, context, start, end, histogram, sums, counts, extremes, windows_high_low, windows_rows, fired, rows, dirty):
    """Neurons start..end of a block; chunks with a value that is not finite are marked in `dirty` and left alone."""
    for j0 in range(start, end, CHUNK):
        j1 = min(j0 + CHUNK, end)
        if _is_finite(values, j0, j1):
            _chunk(values, bits, context, j0, j1, histogram, sums, counts, extremes, windows_high_low, windows_rows, fired, rows)
        else:
            dirty[j0 // CHUNK] = True


@_compiled
def channel_range(values, start, end, sums, n_positive, extremes, dirty):
    """The same for a gate or up path."""
    for j0 in range(start, end, CHUNK):
        j1 = min(j0 + CHUNK, end)
        if _is_finite(values, j0, j1):
            _channel_chunk(values, j0, j1, sums, n_positive, extremes)
        else:
            dirty[j0 // CHUNK] = True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def merge_into(n, mean, m2, m3, m4, n_b, mean_b, m2_b, m3_b, m4_b):
    """`moments.merge_moments`, neuron by neuron, into the first five arrays."""
    for j in range(n.size):
        total, mean[j], m2[j], m3[j], m4[j] = _merge(
            float(n[j]), mean[j], m2[j], m3[j], m4[j], float(n_b[j]), mean_b[j], m2_b[j], m3_b[j], m4_b[j]
        )
        n[j] = np.int64(total)
