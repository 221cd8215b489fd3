"""The compiled twins of `block.eager_channel` and `Moments.merge`: gate and up paths, and adding up what blocks found.

A path is read once where it lies, in chunks of 384 neurons, four rows at a time as in `kernel`.
"""

from __future__ import annotations

import numba
import numpy as np

from analysis.stats import kernel, moments
from analysis.stats.compiling import compiled_over, inlined
from analysis.stats.kernel import INFINITE, ONE, PATTERN, TILE, ZERO
from analysis.stats.moments import central_of_shifted, merge_moments

PATH_CHUNK = 384
SHIFT, S1, S2 = (k * PATH_CHUNK for k in range(3))
TOP, BOTTOM, N_POSITIVE = (k * PATH_CHUNK for k in range(3))

compiled = compiled_over(kernel, moments)
compiled_exactly = compiled_over(kernel, moments, exact=True)
_merge = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(merge_moments)
_central = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(central_of_shifted)


@inlined
def _seen(x, shift, s1, s2, top, bottom, n_positive):
    away = np.float64(x) - shift
    return s1 + away, s2 + away * away, x if x > top else top, x if x < bottom else bottom, n_positive + (ONE if x > ZERO else ZERO)


@inlined
def _start(values, j0, width, s):
    """The mean of the first rows, which the powers are taken about."""
    n = min(TILE, len(values))
    for r in range(n):
        x = values[r, j0 : j0 + width]
        for j in range(width):
            s[SHIFT + j] += x[j]
    for j in range(width):
        s[SHIFT + j] /= n


@inlined
def _size(bits):
    """The bit pattern of |x|, which orders as |x| does, with infinity and then NaN above all numbers."""
    return np.int32(bits & PATTERN)


@inlined
def _path_chunk(values, bits, j0, j1, f, s):
    """One chunk of a path over all rows, into the scratch; False where a value is not finite."""
    n, width, largest = len(values), j1 - j0, np.int32(0)
    s[:], f[:] = 0.0, ZERO
    f[TOP : TOP + PATH_CHUNK], f[BOTTOM : BOTTOM + PATH_CHUNK] = -np.inf, np.inf
    _start(values, j0, width, s)
    whole = n - n % 4
    for r in range(0, whole, 4):
        x0, x1, x2, x3 = values[r, j0:j1], values[r + 1, j0:j1], values[r + 2, j0:j1], values[r + 3, j0:j1]
        b0, b1, b2, b3 = bits[r, j0:j1], bits[r + 1, j0:j1], bits[r + 2, j0:j1], bits[r + 3, j0:j1]
        for j in range(width):
            c, m = s[SHIFT + j], (s[S1 + j], s[S2 + j], f[TOP + j], f[BOTTOM + j], f[N_POSITIVE + j])
            m = _seen(x3[j], c, *_seen(x2[j], c, *_seen(x1[j], c, *_seen(x0[j], c, *m))))
            s[S1 + j], s[S2 + j], f[TOP + j], f[BOTTOM + j], f[N_POSITIVE + j] = m
            largest = max(largest, max(max(_size(b0[j]), _size(b1[j])), max(_size(b2[j]), _size(b3[j]))))
    for r in range(whole, n):
        x, b = values[r, j0:j1], bits[r, j0:j1]
        for j in range(width):
            m = _seen(x[j], s[SHIFT + j], s[S1 + j], s[S2 + j], f[TOP + j], f[BOTTOM + j], f[N_POSITIVE + j])
            s[S1 + j], s[S2 + j], f[TOP + j], f[BOTTOM + j], f[N_POSITIVE + j] = m
            largest = max(largest, _size(b[j]))
    return largest < INFINITE


@compiled
def path_range(values, bits, start, end, sums, n_positive, extremes, dirty):
    """Neurons start..end of a path; chunks with a value that is not finite are marked in `dirty`: what is given out is void."""
    f, s = np.empty(3 * PATH_CHUNK, np.float32), np.empty(3 * PATH_CHUNK)
    n = float(len(values))
    for j0 in range(start, end, PATH_CHUNK):
        j1 = min(j0 + PATH_CHUNK, end)
        dirty[j0 // PATH_CHUNK] = not _path_chunk(values, bits, j0, j1, f, s)
        for j in range(j1 - j0):
            k = j0 + j
            sums[0, k], sums[1, k], _, _ = _central(n, s[SHIFT + j], s[S1 + j], s[S2 + j], 0.0, 0.0)
            n_positive[k] = np.int64(f[N_POSITIVE + j])
            extremes[0, k], extremes[1, k] = f[TOP + j], f[BOTTOM + j]


@compiled_exactly
def merge_into(n, mean, m2, m3, m4, n_b, mean_b, m2_b, m3_b, m4_b):
    """`moments.merge_moments`, neuron by neuron, into the first five arrays."""
    for j in range(n.size):
        total, mean[j], m2[j], m3[j], m4[j] = _merge(
            float(n[j]), mean[j], m2[j], m3[j], m4[j], float(n_b[j]), mean_b[j], m2_b[j], m3_b[j], m4_b[j]
        )
        n[j] = np.int64(total)


@compiled_exactly
def merge_spread_into(n, mean, m2, n_b, mean_b, m2_b):
    """The same of `moments.Spread`."""
    for j in range(n.size):
        total, mean[j], m2[j], _, _ = _merge(float(n[j]), mean[j], m2[j], 0.0, 0.0, float(n_b[j]), mean_b[j], m2_b[j], 0.0, 0.0)
        n[j] = np.int64(total)
