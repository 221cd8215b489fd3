"""The fused engine: everything `block.eager_block` computes, in one pass over the values, compiled by numba.

A block [T, n] is cut into chunks of 128 neurons and tiles of up to 32 rows of one window. A tile is copied into 16 KiB
that lie together: rows of a block are a power of two apart, or nearly, and would fight for a few lines of the first-level
cache. Short loops then pass over the tile along the neurons, four rows at a time, so that they vectorise and each running
sum is fetched and stored once per four values. All running sums stand in two flat scratch arrays at constant distances,
so that the compiler can prove that they do not overlap. The histogram is the one scalar loop: neighbouring increments
belong to different neurons, so they never wait for each other, and a chunk's counts are 16 bits wide until it is done.

Sums are float64 about the mean of the chunk's first tile (`moments.central_of_shifted`). A chunk with a value that is not
finite is left to the reference (`fused`), which is what makes the relaxed float rules here safe.
"""

from __future__ import annotations

import numba
import numpy as np

from analysis.stats import histogram, moments
from analysis.stats.compiling import compiled_over, inlined
from analysis.stats.histogram import CENTRE, FIRST_KEY, N_BINS
from analysis.stats.moments import central_of_shifted

CHUNK = 128
TILE = 32
SHIFT, S1, S2, S3, S4, ACTIVE, RELATIVE = (k * CHUNK for k in range(7))
"""Places in the float64 scratch `s`: what is taken off each value, sums of powers of the rest, sums of sizes."""
WEIGHT, HIGH, HIGH_ROW, LOW, LOW_ROW, TOP, BOTTOM, N_ACTIVE, N_ZERO = (k * CHUNK for k in range(9))
"""Places in the float32 scratch `f`. High and low are a window's extremes over rankable rows, top and bottom the block's."""
MOST_ROWS = 2**16 - 1 - TILE
"""A 16-bit count is added to the histogram before it can overflow."""
STRETCH = 64

ZERO, ONE = np.float32(0), np.float32(1)
INFINITE, PATTERN = np.int32(0x7F800000), np.int32(0x7FFFFFFF)

compiled = compiled_over(histogram, moments)
_central = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(central_of_shifted)


@inlined
def _pack(bits, first, end, j0, j1, tile):
    """Copy rows first..end of a chunk into the tile, as bit patterns; whether all are finite (no exponent of all ones)."""
    largest = np.int32(0)
    for r in range(first, end):
        x, t = bits[r, j0:j1], tile[r - first]
        for j in range(j1 - j0):
            t[j] = x[j]
            size = np.int32(x[j] & PATTERN)
            largest = size if size > largest else largest
    return largest < INFINITE


@inlined
def _all_finite(bits, j0, j1):
    """The same of a whole chunk, without copying it."""
    largest = np.int32(0)
    for r in range(len(bits)):
        x = bits[r, j0:j1]
        for j in range(j1 - j0):
            size = np.int32(x[j] & PATTERN)
            largest = size if size > largest else largest
    return largest < INFINITE


@inlined
def _start(tile, n, s):
    """The mean of the first tile, which the powers are taken about."""
    for r in range(n):
        for j in range(CHUNK):
            s[SHIFT + j] += tile[r, j]
    for j in range(CHUNK):
        s[SHIFT + j] /= n


@inlined
def _powers(x, shift, s1, s2, s3, s4):
    away = np.float64(x) - shift
    square = away * away
    return s1 + away, s2 + square, s3 + square * away, s4 + square * square


@inlined
def _tile_moments(tile, n, s):
    """Sums of the first four powers of x - shift."""
    whole = n - n % 4
    for r in range(0, whole, 4):
        x0, x1, x2, x3 = tile[r], tile[r + 1], tile[r + 2], tile[r + 3]
        for j in range(CHUNK):
            c, m = s[SHIFT + j], (s[S1 + j], s[S2 + j], s[S3 + j], s[S4 + j])
            m = _powers(x3[j], c, *_powers(x2[j], c, *_powers(x1[j], c, *_powers(x0[j], c, *m))))
            s[S1 + j], s[S2 + j], s[S3 + j], s[S4 + j] = m
    for r in range(whole, n):
        x = tile[r]
        for j in range(CHUNK):
            m = _powers(x[j], s[SHIFT + j], s[S1 + j], s[S2 + j], s[S3 + j], s[S4 + j])
            s[S1 + j], s[S2 + j], s[S3 + j], s[S4 + j] = m


@inlined
def _sizes(x, w, bar, share, n_active, active, relative):
    size = abs(x)
    exact = np.float64(size)
    on = size * w > bar
    return n_active + (ONE if on else ZERO), active + (exact if on else 0.0), relative + exact * share


@inlined
def _tile_sizes(tile, n, first, threshold, inverse, f, s):
    """How often active, and sums of |x| over active rows and relative to the output; counted in float32, as wide as x."""
    whole = n - n % 4
    for r in range(0, whole, 4):
        x0, x1, x2, x3 = tile[r], tile[r + 1], tile[r + 2], tile[r + 3]
        b0, b1, b2, b3 = threshold[first + r], threshold[first + r + 1], threshold[first + r + 2], threshold[first + r + 3]
        i0, i1, i2, i3 = inverse[first + r], inverse[first + r + 1], inverse[first + r + 2], inverse[first + r + 3]
        for j in range(CHUNK):
            w, m = f[WEIGHT + j], (f[N_ACTIVE + j], s[ACTIVE + j], s[RELATIVE + j])
            m = _sizes(x1[j], w, b1, i1, *_sizes(x0[j], w, b0, i0, *m))
            f[N_ACTIVE + j], s[ACTIVE + j], s[RELATIVE + j] = _sizes(x3[j], w, b3, i3, *_sizes(x2[j], w, b2, i2, *m))
    for r in range(whole, n):
        x, bar, share = tile[r], threshold[first + r], inverse[first + r]
        for j in range(CHUNK):
            m = _sizes(x[j], f[WEIGHT + j], bar, share, f[N_ACTIVE + j], s[ACTIVE + j], s[RELATIVE + j])
            f[N_ACTIVE + j], s[ACTIVE + j], s[RELATIVE + j] = m


@inlined
def _extremes(x, row, may, high, high_row, low, low_row, top, bottom, n_zero):
    above, below = (x > high) & may, (x < low) & may
    high, high_row = x if above else high, row if above else high_row
    low, low_row = x if below else low, row if below else low_row
    return high, high_row, low, low_row, x if x > top else top, x if x < bottom else bottom, n_zero + (ONE if x == ZERO else ZERO)


@inlined
def _tile_extremes(tile, n, first, rankable, f):
    """Running maximum and minimum over rankable rows with their first rows, and over all rows; how often zero."""
    whole = n - n % 4
    for r in range(0, whole, 4):
        x0, x1, x2, x3, k = tile[r], tile[r + 1], tile[r + 2], tile[r + 3], first + r
        m0, m1, m2, m3 = rankable[k], rankable[k + 1], rankable[k + 2], rankable[k + 3]
        r0, r1, r2, r3 = np.float32(k), np.float32(k + 1), np.float32(k + 2), np.float32(k + 3)
        for j in range(CHUNK):
            m = (f[HIGH + j], f[HIGH_ROW + j], f[LOW + j], f[LOW_ROW + j], f[TOP + j], f[BOTTOM + j], f[N_ZERO + j])
            m = _extremes(x1[j], r1, m1, *_extremes(x0[j], r0, m0, *m))
            m = _extremes(x3[j], r3, m3, *_extremes(x2[j], r2, m2, *m))
            f[HIGH + j], f[HIGH_ROW + j], f[LOW + j], f[LOW_ROW + j], f[TOP + j], f[BOTTOM + j], f[N_ZERO + j] = m
    for r in range(whole, n):
        x, may, row = tile[r], rankable[first + r], np.float32(first + r)
        for j in range(CHUNK):
            m = (f[HIGH + j], f[HIGH_ROW + j], f[LOW + j], f[LOW_ROW + j], f[TOP + j], f[BOTTOM + j], f[N_ZERO + j])
            m = _extremes(x[j], row, may, *m)
            f[HIGH + j], f[HIGH_ROW + j], f[LOW + j], f[LOW_ROW + j], f[TOP + j], f[BOTTOM + j], f[N_ZERO + j] = m


@inlined
def _tile_rows(tile, n, first, threshold, f, rows):
    """Per row: sums of |x| and x^2, neurons active, neurons above zero."""
    for r in range(n):
        x, bar = tile[r], threshold[first + r]
        total, square, n_active, n_positive = 0.0, 0.0, ZERO, ZERO
        for j in range(CHUNK):
            size = abs(x[j])
            exact = np.float64(size)
            total += exact
            square += exact * exact
            n_active += ONE if size * f[WEIGHT + j] > bar else ZERO
            n_positive += ONE if x[j] > ZERO else ZERO
        rows[0, first + r], rows[1, first + r], rows[2, first + r], rows[3, first + r] = total, square, n_active, n_positive


@inlined
def _tile_histogram(bits, n, counts, place):
    """Bins of a row first, in 32-bit integers throughout (numba widens them unless told); then the increments."""
    before, most = np.int32(FIRST_KEY - 1), np.int32(CENTRE)
    for r in range(n):
        b = bits[r]
        for j in range(CHUNK):
            steps = np.int32(np.int32(np.int32(b[j] & PATTERN) >> np.int32(20)) - before)
            steps = steps if steps > np.int32(0) else np.int32(0)
            steps = steps if steps < most else most
            sign = np.int32(b[j] >> np.int32(31))
            signed = np.int32(np.int32(steps ^ sign) - sign)
            place[j] = np.uint32(np.int32(signed + np.int32(np.int32(j) * np.int32(N_BINS))) + most)
        for j in range(CHUNK):
            counts[place[j]] += np.uint16(1)


@inlined
def _empty_into(counts, histogram):
    """Add the chunk's counts to the histogram and set them to zero, skipping stretches without any."""
    for start in range(0, histogram.size, STRETCH):
        end = min(start + STRETCH, histogram.size)
        mine, theirs, some = counts[start:end], histogram[start:end], np.uint16(0)
        for k in range(end - start):
            some |= mine[k]
        if some:
            for k in range(end - start):
                theirs[k] += np.int32(mine[k])
                mine[k] = 0


@inlined
def _end_window(w, n, j0, j1, before, f, out):
    """Give out a window's extremes and where it fired; make ready for the next."""
    windows_high_low, windows_rows, fired = out
    for j in range(j1 - j0):
        k = j0 + j
        windows_high_low[0, w, k], windows_high_low[1, w, k] = f[HIGH + j], f[LOW + j]
        windows_rows[0, w, k], windows_rows[1, w, k] = np.int32(f[HIGH_ROW + j]), np.int32(f[LOW_ROW + j])
        nonzero = f[N_ZERO + j] - before[CHUNK + j] < n
        fired[w, k] = np.uint8(f[N_ACTIVE + j] > before[j]) + 2 * np.uint8(nonzero)
    _begin_window(before, f)


@inlined
def _begin_window(before, f):
    f[HIGH : HIGH + CHUNK], f[LOW : LOW + CHUNK] = -np.inf, np.inf
    f[HIGH_ROW : HIGH_ROW + CHUNK], f[LOW_ROW : LOW_ROW + CHUNK] = -1, -1
    before[:CHUNK], before[CHUNK:] = f[N_ACTIVE : N_ACTIVE + CHUNK], f[N_ZERO : N_ZERO + CHUNK]


@inlined
def _chunk(bits, context, j0, j1, scratch, histogram, windows):
    """One chunk of neurons over all rows of the block, into the scratch; False where a value is not finite."""
    starts, rankable, weight, threshold, inverse = context
    tile, counts, before, place, f, s, rows = scratch
    tile_bits, n_counted = tile.view(np.int32), 0
    if len(bits) > MOST_ROWS and not _all_finite(bits, j0, j1):  # counts given out on the way could not be taken back
        return False
    tile[:], s[:], f[:] = ZERO, 0.0, ZERO  # columns beyond the last neuron stay zero
    f[WEIGHT : WEIGHT + j1 - j0] = weight[j0:j1]
    f[TOP : TOP + CHUNK], f[BOTTOM : BOTTOM + CHUNK] = -np.inf, np.inf
    _begin_window(before, f)
    for w in range(starts.size - 1):
        for first in range(starts[w], starts[w + 1], TILE):
            end = min(first + TILE, starts[w + 1])
            n = end - first
            if not _pack(bits, first, end, j0, j1, tile_bits):
                counts[:] = 0
                return False
            if first == 0:
                _start(tile, n, s)
            _tile_moments(tile, n, s)
            _tile_sizes(tile, n, first, threshold, inverse, f, s)
            _tile_extremes(tile, n, first, rankable, f)
            _tile_rows(tile, n, first, threshold, f, rows)
            _tile_histogram(tile_bits, n, counts, place)
            n_counted += n
            if n_counted > MOST_ROWS:
                _empty_into(counts, histogram)
                n_counted = 0
        _end_window(w, starts[w + 1] - starts[w], j0, j1, before, f, windows)
    _empty_into(counts, histogram)
    return True


@inlined
def _give_out(n, j0, j1, scratch, sums, totals, extremes, rows):
    """A finished chunk's sums, counts, extremes and shares of the rows' sums."""
    f, s, mine = scratch[4:]
    for j in range(j1 - j0):
        k = j0 + j
        sums[0, k], sums[1, k], sums[2, k], sums[3, k] = _central(float(n), s[SHIFT + j], s[S1 + j], s[S2 + j], s[S3 + j], s[S4 + j])
        sums[4, k], sums[5, k] = s[ACTIVE + j], s[RELATIVE + j] * f[WEIGHT + j]
        totals[0, k], totals[1, k] = np.int64(f[N_ACTIVE + j]), np.int64(f[N_ZERO + j])
        extremes[0, k], extremes[1, k] = f[TOP + j], f[BOTTOM + j]
    for p in range(4):
        for r in range(n):
            rows[p, r] += mine[p, r]


@compiled
def block_range(bits, context, start, end, histogram, sums, totals, extremes, windows, rows, dirty):
    """Neurons start..end of a block; chunks with a value that is not finite are marked in `dirty` and left alone."""
    n = len(bits)
    tile, counts = np.zeros((TILE, CHUNK), np.float32), np.zeros(CHUNK * N_BINS, np.uint16)
    before, place, f, s = np.empty(2 * CHUNK, np.float32), np.empty(CHUNK, np.uint32), np.empty(9 * CHUNK, np.float32), np.empty(7 * CHUNK)
    scratch = (tile, counts, before, place, f, s, np.empty((4, n)))
    for j0 in range(start, end, CHUNK):
        j1 = min(j0 + CHUNK, end)
        if _chunk(bits, context, j0, j1, scratch, histogram[j0 * N_BINS : j1 * N_BINS], windows):
            _give_out(n, j0, j1, scratch, sums, totals, extremes, rows)
        else:
            dirty[j0 // CHUNK] = True
