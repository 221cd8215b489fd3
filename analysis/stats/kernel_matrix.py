"""One pass over a matrix of weights, compiled by numba: line sums, moments, groups of 2, 4 and 8, zero tiles, magnitudes.

The matrix is taken as it is stored, [A, B] with B contiguous. A band of 32 rows is the unit of work: within it strips of 8 rows and
chunks of columns that stay in the second-level cache, and over each several short loops that vectorise. Groups along B are first taken
apart, so that the k-th members of neighbouring groups lie side by side, as those of groups along A do already; a sorting network then
sorts many groups at once. What exists only where there are zeros (conforming groups, zero tiles) is looked for only where a strip has
zeros. Extremes are taken of integers that are ordered as the floats are, since those vectorise; magnitudes are counted one by one.

All squares and sums are float64: no float32 number over- or underflows. Every value must be finite (`matrix_pass` sees to it), which
is what makes the relaxed float rules safe. Formulas: `patterns`, which is also the reference the tests compare with.
"""

from __future__ import annotations

import numpy as np

from analysis.stats import kernel_groups
from analysis.stats.compiling import compiled_over, inlined
from analysis.stats.kernel_groups import apart, eight_rows, groups

compiled = compiled_over(kernel_groups)

BAND = 32
STRIP = 8
CHUNK = 2048
"""Columns at a time: a strip of them takes 64 KiB."""
PIECE = 1 << 17
"""Weights of 16 bits widened at a time, in whole bands: 512 KiB of float32 stay in the second-level cache."""
ABS, SQRT, D1, D2, D3, D4, N_SUMS = 0, 1, 2, 3, 4, 5, 6
"""Places in `sums`: of |x|, its root, powers of x - shift."""
TILES, COVERED = 0, 4
"""Places in `tiled`: zero tiles by size; weights in them."""
SHIFT_BITS = 12
N_KEYS = 1 << 19
"""Keys of magnitudes: the upper 19 bits of the float32 pattern without its sign."""

MINUS_ZERO, N_PATTERNS = 1 << 15, 1 << 16
"""Of 16-bit types."""

F0, F1 = np.float32(0), np.float32(1)
SIGN, REST = np.int32(31), np.int32(0x7FFFFFFF)


@compiled
def all_finite(bits):
    """Whether no float32 pattern of a flat array has an exponent of all ones."""
    largest = np.int32(0)
    for j in range(len(bits)):
        size = np.int32(bits[j] & np.int32(0x7FFFFFFF))
        largest = size if size > largest else largest
    return largest < np.int32(0x7F800000)


@inlined
def _powers(x, shift, sums):
    """Sums of a stretch of a row; returns those of |x| and of squares."""
    total = square = d1 = d2 = d3 = d4 = 0.0
    for j in range(len(x)):
        v = np.float64(x[j])
        away = v - shift
        away2 = away * away
        total += abs(v)
        square += v * v
        d1 += away
        d2 += away2
        d3 += away2 * away
        d4 += away2 * away2
    sums[ABS] += total
    sums[D1] += d1
    sums[D2] += d2
    sums[D3] += d3
    sums[D4] += d4
    return total, square


@inlined
def _roots(x):
    total = 0.0
    for j in range(len(x)):
        total += np.float64(np.sqrt(abs(x[j])))
    return total


@inlined
def _extremes(bits, extremes):
    """Lowest and highest as ordered integers, least magnitude above zero as its pattern less 1; returns the zeros."""
    zeros, low, high, least = F0, REST, np.int32(-0x7FFFFFFF), np.uint32(0xFFFFFFFF)
    for j in range(len(bits)):
        b = bits[j]
        size = np.int32(b & REST)
        order = np.int32(b ^ np.int32(np.int32(b >> SIGN) & REST))
        below = np.uint32(np.uint32(size) - np.uint32(1))
        low = order if order < low else low
        high = order if order > high else high
        least = below if below < least else least
        zeros += F1 if size == 0 else F0
    extremes[0], extremes[1], extremes[2] = min(extremes[0], low), max(extremes[1], high), min(extremes[2], least)
    return zeros


@inlined
def _columns(x, r0, r1, j0, j1, columns, cell):
    """Sums of |x| and of squares of each column over up to 8 rows."""
    if r1 - r0 == 8:
        x0, x1, x2, x3 = x[r0, j0:j1], x[r0 + 1, j0:j1], x[r0 + 2, j0:j1], x[r0 + 3, j0:j1]
        x4, x5, x6, x7 = x[r0 + 4, j0:j1], x[r0 + 5, j0:j1], x[r0 + 6, j0:j1], x[r0 + 7, j0:j1]
        total, square = columns[0, j0:j1], cell[j0:j1]
        for j in range(j1 - j0):
            a, b, c, d = np.float64(x0[j]), np.float64(x1[j]), np.float64(x2[j]), np.float64(x3[j])
            e, f, g, h = np.float64(x4[j]), np.float64(x5[j]), np.float64(x6[j]), np.float64(x7[j])
            total[j] += (abs(a) + abs(b)) + (abs(c) + abs(d)) + ((abs(e) + abs(f)) + (abs(g) + abs(h)))
            square[j] += (a * a + b * b) + (c * c + d * d) + ((e * e + f * f) + (g * g + h * h))
        return
    for r in range(r0, r1):
        row, total, square = x[r, j0:j1], columns[0, j0:j1], cell[j0:j1]
        for j in range(j1 - j0):
            v = np.float64(row[j])
            total[j] += abs(v)
            square[j] += v * v


@inlined
def _count_keys(bits, keys):
    for j in range(len(bits)):
        keys[(bits[j] & 0x7FFFFFFF) >> SHIFT_BITS] += np.uint32(1)


@inlined
def _powers_of_16(x):
    """Sums of |x| and of squares of a stretch of a row: of 16-bit types all other sums come from the counts of their patterns."""
    total = square = 0.0
    for j in range(len(x)):
        v = np.float64(x[j])
        total += abs(v)
        square += v * v
    return total, square


@inlined
def _count_patterns(codes, keys):
    """Counts by 16-bit pattern; returns the zeros."""
    before = keys[0] + keys[MINUS_ZERO]
    for j in range(len(codes)):
        keys[codes[j]] += np.uint32(1)
    return np.float32(keys[0] + keys[MINUS_ZERO] - before)


@inlined
def _sparse(bits, zeros, flags):
    """Zeros of each column, and which stretches of four columns have a weight that is not zero."""
    for j in range(len(bits)):
        zeros[j] += 1.0 if (bits[j] & REST) == 0 else 0.0
    whole = len(bits) // 4
    for q in range(whole):
        some = np.int32((bits[4 * q] | bits[4 * q + 1]) | (bits[4 * q + 2] | bits[4 * q + 3])) & REST
        flags[q] = np.uint8(1) if some != 0 else flags[q]
    for j in range(4 * whole, len(bits)):
        if (bits[j] & REST) != 0:
            flags[whole] = 1


@inlined
def _is_empty(flags, i, high, j, wide):
    for k in range(i, high):
        for m in range(j, wide):
            if flags[k, m]:
                return False
    return True


@inlined
def _tiles(flags, n_rows, n_columns, tiled):
    """Zero tiles of a band at 4, 8, 16 and 32, and the weights in them; tiles at the edge are smaller."""
    high, wide = (n_rows + 3) // 4, (n_columns + 3) // 4
    for p in range(4):
        side, per = 4 << p, 1 << p
        for i in range(0, high, per):
            for j in range(0, wide, per):
                if _is_empty(flags, i, min(i + per, high), j, min(j + per, wide)):
                    tiled[TILES + p] += 1
                    tiled[COVERED + p] += min(side, n_rows - 4 * i) * min(side, n_columns - 4 * j)


@inlined
def _end_of_cells(columns, cell, thumb, width):
    """A row of the thumbnail is complete, or the work is: its columns' squares go to their cells."""
    for j in range(len(cell)):
        columns[1, j] += cell[j]
        thumb[j // width] += cell[j]
        cell[j] = 0.0


@inlined
def _strip(x, bits, codes, a, b, offset, shift, rows, keys, t, out):
    """Rows a..b of a slice (8, fewer at the end of the matrix), all columns; returns the zeros in them."""
    sums, extremes, lost, grouped, first, _ = out
    made = F0
    for j0 in range(0, x.shape[1], CHUNK):
        j1 = min(j0 + CHUNK, x.shape[1])
        n, here = (j1 - j0) // 8, F0
        for r in range(a, b):
            if len(codes):
                total, square = _powers_of_16(x[r, j0:j1])
                zeros = _count_patterns(codes[r, j0:j1], keys)
            else:
                total, square = _powers(x[r, j0:j1], shift, sums)
                sums[SQRT] += _roots(x[r, j0:j1])
                zeros = _extremes(bits[r, j0:j1], extremes)
                _count_keys(bits[r, j0:j1], keys)
            rows[0, offset + r] += total
            rows[1, offset + r] += square
            rows[2, offset + r] += zeros
            here += zeros
        rows_at_once = max(1, t.shape[1] // max(1, n))
        for r0 in range(a, b if n else a, rows_at_once):
            r1 = min(r0 + rows_at_once, b)
            for r in range(r0, r1):
                apart(x[r, j0:j1], t, (r - r0) * n, n)
            many = (r1 - r0) * n
            groups(eight_rows(t, 0, 0, many), many, here > F0, offset + r0, j0 // 8, n, lost[0], grouped[0], first[0])
        if b - a == STRIP:
            groups(eight_rows(x, a, j0, j1), j1 - j0, here > F0, j0, (offset + a) // STRIP, 1, lost[1], grouped[1], first[1])
        made += here
    return made


@compiled
def sweep(x, bits, codes, start, end, offset, shift, cells, rows, columns, thumb, keys, out):
    """Rows start..end of a slice x [a, B] whose first row is row ``offset`` of the matrix; start and offset are multiples of 32.

    ``cells``: height (1, 2, 4 or a multiple of 8) and width of a cell of the thumbnail. rows [3, A], columns [3, B]: sums of |x|, of
    squares, zeros. ``codes``: of 16-bit types the patterns as stored, [a, B], which are counted in ``keys`` then, and ``sums`` and
    ``extremes`` are left alone; else [0, 0]. ``out``: sums, extremes, lost [2, 5], grouped [2, 8], first [2, 5, 3] (along B, along A),
    tiled. All are added to.
    """
    cell, t = np.zeros(x.shape[1]), np.empty((8, CHUNK // 4), np.float32)
    flags = np.zeros((BAND // 4, (x.shape[1] + 3) // 4), np.uint8)
    height = min(cells[0], STRIP)
    for band in range(start, end, BAND):
        stop, sparse = min(band + BAND, end), False
        flags[:] = 0
        for a in range(band, stop, STRIP):
            b = min(a + STRIP, stop)
            made = _strip(x, bits, codes, a, b, offset, shift, rows, keys, t, out) > F0
            sparse |= made
            for r in range(a, b):
                if made:
                    _sparse(bits[r], columns[2], flags[(r - band) // 4])
                elif r % 4 == 0:
                    flags[(r - band) // 4] = 1
            for r0 in range(a, b, height):
                r1 = min(r0 + height, b)
                for j0 in range(0, x.shape[1], CHUNK):
                    _columns(x, r0, r1, j0, min(j0 + CHUNK, x.shape[1]), columns, cell)
                if (offset + r1) % cells[0] == 0 or r1 == end:
                    _end_of_cells(columns, cell, thumb[(offset + r0) // cells[0]], cells[1])
        if sparse:
            _tiles(flags, stop - band, x.shape[1], out[5])


@inlined
def _widen(codes, values, x):
    """The numbers that 16-bit patterns stand for."""
    for j in range(len(codes)):
        x[j] = values[codes[j]]


@inlined
def _shift_up(codes, bits):
    """The same of bfloat16, whose pattern is the upper half of the float32 one."""
    for j in range(len(codes)):
        bits[j] = np.int32(np.int32(codes[j]) << np.int32(16))


@compiled
def sweep_patterns(codes, values, is_upper_half, start, end, offset, shift, cells, rows, columns, thumb, keys, out):
    """`sweep` over rows start..end of patterns [a, B] of a 16-bit type, widened a piece at a time in a buffer that stays in the cache.

    ``values``: the number each pattern stands for, [65,536]; ``is_upper_half``: whether that is the pattern followed by 16 zeros.
    """
    n_columns = codes.shape[1]
    step = max(1, PIECE // (n_columns * BAND)) * BAND
    x = np.empty((min(step, end - start), n_columns), np.float32)
    bits = x.view(np.int32)
    for first in range(start, end, step):
        n = min(step, end - first)
        for r in range(n):
            if is_upper_half:
                _shift_up(codes[first + r], bits[r])
            else:
                _widen(codes[first + r], values, x[r])
        part = codes[first : first + n]
        sweep(x[:n], bits[:n], part, 0, n, offset + first, shift, cells, rows, columns, thumb, keys, out)
