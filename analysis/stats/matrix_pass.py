"""Everything `weight_sparsity` asks of one matrix, in one pass over slices of its rows: `kernel_matrix` from the outside.

Slices are shared out among threads; each share adds to sums of its own, and `end` puts them together. Values that are not finite
spoil a pass: `spoiled` tells, and a second pass with ``careful`` takes them as zeros and takes them out again afterwards; then groups
and tiles mean nothing and `whole` is False. So a matrix of finite values, as nearly all are, is read once.
Memory: the slice, 4 numbers a row, 4 numbers a column and thread, 2 MB a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats import kernel_matrix as kernel
from analysis.stats.group_directions import Direction
from analysis.stats.kernel_groups import BAD, EMPTY, N_GROUP_COUNTS
from analysis.stats.magnitudes import KEY_BITS, N_KEYS, MagnitudeCounts
from analysis.stats.moments import central_of_shifted
from analysis.stats.pattern_counts import of_patterns
from analysis.stats.patterns import PATTERNS, TILE_SIDES, Conformance, Offender, ZeroTiles, n_tiles
from analysis.stats.threads import Job, run

CELLS = 64
"""The thumbnail has at most so many cells each way."""
LEAST_JOB = 1 << 18
"""Weights below which a thread more is not worth it."""
SAMPLE = 4096
"""Weights whose mean stands in for that of all, as what powers are taken about."""
UPPER_HALF = np.float32(2.0**-133)
"""The number pattern 1 stands for where a 16-bit pattern is the upper half of a float32 one."""
FAR = 1 << 62

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Codes = NDArray[np.uint16]
NO_CODES = np.zeros((0, 0), np.uint16)


def cell_side(n: int) -> int:
    """Rows or columns in a cell of the thumbnail: 1, 2, 4 or a multiple of 8, as few as give at most 64 cells."""
    least = -(-n // CELLS)
    return next((side for side in (1, 2, 4) if least <= side), -(-least // 8) * 8)


class _Sums:
    """What one share of every slice adds to."""

    def __init__(self, n_columns: int, cells: tuple[int, int], n_keys: int) -> None:
        self.columns = np.zeros((3, n_columns))
        self.thumb = np.zeros((cells[0], cells[1]))
        self.keys = np.zeros(n_keys, np.uint32)
        self.sums, self.lost, self.tiled = np.zeros(kernel.N_SUMS), np.zeros((2, len(PATTERNS))), np.zeros(8, np.int64)
        self.extremes = np.array([2**31 - 1, -(2**31), 2**32 - 1], np.int64)
        self.grouped, self.first = np.zeros((2, N_GROUP_COUNTS), np.int64), np.full((2, len(PATTERNS), 3), FAR)

    @property
    def out(self) -> tuple[Any, ...]:
        return self.sums, self.extremes, self.lost, self.grouped, self.first, self.tiled


@dataclass
class MatrixNumbers:
    """The result, in the matrix' stored orientation [A, B]."""

    shape: tuple[int, int]
    n: int
    """Finite values."""
    whole: bool
    """Whether all values were finite."""
    n_zero: int
    rows: Floats
    """[3, A]: sum of |x|, sum of squares, zeros of each row."""
    columns: Floats
    """[3, B]: the same of each column."""
    l1: float
    square_sum: float
    root_sum: float
    """Sum of |x|^(1/2)."""
    moments: tuple[float, float, float, float]
    """Mean, and sums of the 2nd, 3rd and 4th powers of the deviations from it; zeros where nothing is finite."""
    low: float
    high: float
    magnitudes: MagnitudeCounts
    thumb: Floats
    """Root mean square of each cell."""
    along_b: Direction
    along_a: Direction
    tiles: dict[int, ZeroTiles]


class MatrixPass:
    """Takes in slices of a stored matrix [A, B] from its first row on, and gives all numbers about it."""

    def __init__(
        self, shape: tuple[int, int], *, exact: bool = False, threads: int = 1, careful: bool = False, values: Floats32 | None = None
    ) -> None:
        """``values``: of a 16-bit type the number of each pattern, [65,536]; then all rows come as patterns, unless with ``careful``."""
        self.shape, self.exact, self.careful, self._values = shape, exact, careful, None if careful else values
        self._cells = (cell_side(shape[0]), cell_side(shape[1]))
        cells = (-(-shape[0] // self._cells[0]), -(-shape[1] // self._cells[1]))
        n_parts, n_keys = threads if shape[0] * shape[1] >= 2 * LEAST_JOB else 1, N_KEYS if self._values is None else kernel.N_PATTERNS
        self._parts = [_Sums(shape[1], cells, n_keys) for _ in range(n_parts)]
        self._rows, self._seen, self._shift = np.zeros((3, shape[0])), 0, 0.0
        self._bad_rows, self._bad_columns = np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)
        self._bounds: list[tuple[float, float]] = []
        self._tails = (Direction(), Direction())
        self._counts: NDArray[np.int64] | None = None

    def update(self, part: Floats32) -> None:
        """The next rows [a, B], contiguous; a multiple of 32 of them, but for the last slice."""
        self._check(part)
        bits, clean = part.view(np.int32), True
        if self.careful and not kernel.all_finite(bits.reshape(-1)):
            part, clean = self._without_nonfinite(part), False
            bits = part.view(np.int32)
        self._start(part.reshape(-1)[:SAMPLE])
        kept = [one.extremes.copy() for one in self._parts]
        self._share_out(part, lambda *where: kernel.sweep(part, bits, NO_CODES, *where))
        if not clean:
            for one, before in zip(self._parts, kept, strict=True):
                one.extremes[:2] = before[:2]
        self._add_tails(len(part), lambda rows, columns: part[rows, columns])
        self._seen += len(part)

    def update_patterns(self, codes: Codes) -> None:
        """The next rows of a 16-bit type as they are stored, [a, B], contiguous; as many as `update` takes."""
        values = self._values
        if values is None:
            raise ValueError("values must be the number of each pattern where rows come as patterns, got none; give them to the pass.")
        self._check(codes)
        self._start(values[codes.reshape(-1)[:SAMPLE]])
        upper = bool(values[1] == UPPER_HALF)
        self._share_out(codes, lambda *where: kernel.sweep_patterns(codes, values, upper, *where))
        self._add_tails(len(codes), lambda rows, columns: values[codes[rows, columns]])
        self._seen += len(codes)
        self._counts = None

    def _check(self, part: NDArray[Any]) -> None:
        if self._seen % kernel.BAND or part.shape[1] != self.shape[1]:
            raise ValueError(f"slices must have {self.shape[1]} columns and a multiple of {kernel.BAND} rows, got {part.shape}.")

    def _start(self, sample: Floats32) -> None:
        """What powers are taken about: near the mean, so that little cancels."""
        if not self._seen:
            self._shift = float(sample[np.isfinite(sample)].sum(dtype=np.float64)) / sample.size

    def _share_out(self, part: NDArray[Any], sweep: Callable[..., None]) -> None:
        # A slice's shares go to the same sums whichever thread is free first: rounding must not differ from run to run.
        n_jobs = max(1, min(len(self._parts), round(part.size / LEAST_JOB)))
        step = -(-len(part) // (kernel.BAND * n_jobs)) * kernel.BAND

        def job(mine: _Sums, start: int) -> Job:
            end = min(start + step, len(part))
            where = (start, end, self._seen, self._shift, self._cells, self._rows, mine.columns, mine.thumb, mine.keys, mine.out)
            return lambda _worker: sweep(*where)

        run([job(mine, start) for mine, start in zip(self._parts, range(0, len(part), step))], len(self._parts))

    @property
    def spoiled(self) -> bool:
        """Whether a value that is not finite was met without care: nothing else may then be asked."""
        if self._values is not None:
            half = kernel.N_PATTERNS // 2
            first = int(np.searchsorted(self._values[:half], np.float32(np.inf)))  # ascending, and after infinity what is no number
            return bool(self._patterns().reshape(2, half)[:, first:].any())
        infinite = 0x7F800000
        return any(one.extremes[1] >= infinite or -(2**31) < one.extremes[0] <= -infinite - 1 for one in self._parts)

    def _patterns(self) -> NDArray[np.int64]:
        """How often each 16-bit pattern occurs."""
        counts = self._counts
        if counts is None:
            counts = self._counts = np.array([one.keys for one in self._parts]).sum(0, dtype=np.int64)
        return counts

    def _without_nonfinite(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.isfinite(part)
        self._bad_rows[self._seen : self._seen + len(part)] = (~finite).sum(1)
        self._bad_columns += (~finite).sum(0)
        if finite.any():
            self._bounds.append((float(part[finite].min()), float(part[finite].max())))
        return np.where(finite, part, np.float32(0))

    def _add_tails(self, n_rows: int, part: Callable[[slice, slice], Floats32]) -> None:
        """Groups of 2 and 4 in what is left over by groups of 8, at the end of the rows and of the columns of ``part``'s numbers."""
        rows, columns = self.shape
        if columns % 8:
            self._tails[0].add(part(slice(None), slice(columns - columns % 8, None)), self._seen, columns // 8)
        last = self._seen + n_rows == rows
        if rows % 8 and last:
            self._tails[1].add(np.ascontiguousarray(part(slice(n_rows - rows % 8, None), slice(None)).T), 0, rows // 8)

    # -----------------------------------------------------------------------------------------------------------------

    def end(self) -> MatrixNumbers:
        """The numbers, once all rows were given."""
        if self._seen != self.shape[0]:
            raise ValueError(f"all {self.shape[0]} rows must be given, got {self._seen}; give the rest first.")
        rows, columns = self._rows, self._total("columns")
        n_bad = int(self._bad_rows.sum())
        rows[2] -= self._bad_rows
        columns[2] -= self._bad_columns
        n = self.shape[0] * self.shape[1] - n_bad
        if self._values is None:
            sums, (low, high) = self._total("sums"), self._range(n)
            magnitudes = self._magnitudes(n_bad, int(rows[2].sum()), max(abs(low), abs(high)))
        else:
            sums, low, high, magnitudes = of_patterns(self._patterns(), self._values, self._shift)
        return MatrixNumbers(
            shape=self.shape,
            n=n,
            whole=not n_bad,
            n_zero=int(rows[2].sum()),
            rows=rows,
            columns=columns,
            l1=float(sums[kernel.ABS]),
            square_sum=float(rows[1].sum()),
            root_sum=float(sums[kernel.SQRT]),
            moments=self._moments(n, n_bad, sums),
            low=low,
            high=high,
            magnitudes=magnitudes,
            thumb=np.sqrt(self._total("thumb") / self._cell_sizes()),
            along_b=self._direction(0),
            along_a=self._direction(1),
            tiles=self._tiles(),
        )

    def _total(self, name: str) -> NDArray[Any]:
        if len(self._parts) == 1:
            return getattr(self._parts[0], name)
        return np.sum([getattr(one, name) for one in self._parts], axis=0)

    def _range(self, n: int) -> tuple[float, float]:
        if not n:
            return 0.0, 0.0
        order = np.array([min(one.extremes[0] for one in self._parts), max(one.extremes[1] for one in self._parts)])
        bounds = list(self._bounds)
        if order[0] <= order[1]:
            order = order.astype(np.int32)
            low, high = (order ^ ((order >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
            bounds.append((float(low), float(high)))
        return min(b[0] for b in bounds) + 0.0, max(b[1] for b in bounds) + 0.0

    def _moments(self, n: int, n_bad: int, sums: Floats) -> tuple[float, float, float, float]:
        if not n:
            return 0.0, 0.0, 0.0, 0.0
        c = self._shift
        powers = [float(sums[kernel.D1 + p - 1]) - n_bad * (-c) ** p for p in (1, 2, 3, 4)]
        mean, m2, m3, m4 = central_of_shifted(n, c, *powers)
        return mean, max(m2, 0.0), m3, max(m4, 0.0)

    def _magnitudes(self, n_bad: int, n_zero: int, largest: float) -> MagnitudeCounts:
        least = min(int(one.extremes[2]) for one in self._parts)
        first = (least + 1) >> KEY_BITS if least < 2**31 else 0
        last = (int(np.float32(largest).view(np.int32)) >> KEY_BITS) + 1
        span = np.array([one.keys[first:last] for one in self._parts]).sum(0, dtype=np.int64)
        keys, zero = np.flatnonzero(span), sum(int(one.keys[0]) for one in self._parts) - n_bad
        counts, keys = span[keys], keys + first
        if first == 0:
            counts = counts.copy()
            counts[keys == 0] = zero
        elif zero:
            keys, counts = np.concatenate([[0], keys]), np.concatenate([[zero], counts])
        some = counts > 0
        return MagnitudeCounts(keys[some], counts[some], n_bad, self.exact, zero - n_zero)

    def _cell_sizes(self) -> Floats:
        sides = [np.diff(np.append(np.arange(0, n, side), n)) for n, side in zip(self.shape, self._cells, strict=True)]
        return np.outer(*sides)

    def _direction(self, axis: int) -> Direction:
        """Groups along B (0) or along A (1), those left over by groups of 8 among them."""
        lines, length = self.shape if axis == 0 else self.shape[::-1]
        grouped, lost = self._total("grouped")[axis], self._total("lost")[axis]
        tail, found = self._tails[axis], Direction()
        for p, (keep, of) in enumerate(PATTERNS):
            n_groups, more = lines * (length // of), tail.conforming.get((keep, of))
            n_bad, n_empty = int(grouped[BAD + p]), int(grouped[EMPTY + (2, 4, 8).index(of)])
            firsts = [Offender(*one.first[axis, p].tolist()) for one in self._parts]
            if more is not None:
                n_bad, n_empty = n_bad + more.n_groups - more.n_conforming, n_empty + more.n_empty
                firsts += [more.first] if more.first is not None else []
            found.conforming[keep, of] = Conformance(
                n_groups, n_groups - n_bad, n_empty, lines * (length % of), min(firsts) if n_bad else None
            )
            found.lost[keep, of] = float(lost[p]) + tail.lost.get((keep, of), 0.0)
        return found

    def _tiles(self) -> dict[int, ZeroTiles]:
        tiled = self._total("tiled")
        return {
            side: ZeroTiles(n_tiles(*self.shape, side), int(tiled[kernel.TILES + p]), int(tiled[kernel.COVERED + p]))
            for p, side in enumerate(TILE_SIDES)
        }
