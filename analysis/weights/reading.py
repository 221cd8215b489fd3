"""A weight tensor read once, slice by slice, into its numbers; stacks of experts matrix by matrix, then put together.

Lines of outputs are called rows and lines of inputs columns, however the tensor is stored; where the input axis is not known, rows are
the first stored axis. Of vectors only what is no matter of lines is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.magnitudes import EXACT_TYPES, MagnitudeCounts, as_float32
from analysis.stats.matrix_pass import Direction, MatrixNumbers, MatrixPass
from analysis.stats.moments import merge_moments
from analysis.stats.patterns import Conformance, Offender, ZeroTiles
from analysis.weights.checkpoint_diff_blocks import one_thread

SLICE = 1 << 24
"""Weights read at a time of a tensor in a file: 64 MB of float32, whatever its size."""
LINE = 4096
"""Weights in a line of a vector."""
WIDENED = 1 << 18
"""Weights of other types widened to float32 at a time and thread, in a buffer that stays in the cache."""

Slices = Iterator[tuple[NDArray[np.float32], NDArray[np.uint16] | None, NDArray[np.float32] | None]]
"""Rows as float32; of 16-bit types also their patterns as stored, and the number of each of the 65,536 patterns."""


@dataclass
class TensorNumbers:
    """The numbers of a tensor, all its matrices together, [n_matrices * outputs, inputs]; of a vector, lines mean nothing."""

    is_matrix: bool
    n_matrices: int
    n_rows: int
    n_columns: int
    n: int
    """Finite values."""
    n_nonfinite: int
    n_zero: int
    rows: NDArray[np.float64]
    """[3, n_matrices * outputs]: sums of |w|, of squares, zeros."""
    columns: NDArray[np.float64]
    """[3, inputs]: the same, over all matrices."""
    l1: float
    square_sum: float
    root_sum: float
    moments: tuple[float, float, float, float]
    low: float
    high: float
    magnitudes: MagnitudeCounts
    thumb: NDArray[np.float64]
    """Root mean square of each cell, rows by columns."""
    along_input: Direction
    along_output: Direction
    tiles: dict[int, ZeroTiles]


def read_numbers(info: Any, threads: int = 1) -> TensorNumbers:
    """All numbers of one tensor (a `TensorInfo`). Memory: one slice and a few numbers per line.

    ``threads`` are those of the compiled loops. torch keeps to one: widening slice by slice is many small steps, for each of which its
    threads would wait for each other, and on a busy machine that costs many times the work itself.
    """
    with one_thread():
        return _read_numbers(info, threads)


def _read_numbers(info: Any, threads: int) -> TensorNumbers:
    turned = info.input_axis is not None and info.input_axis == int(info.stacked) and len(info.shape) == 2 + int(info.stacked)
    found = []
    for careful in (False, True):
        found = list(_matrices(info, threads, careful))
        if all(found):
            break
    done = [one for one in found if one is not None]
    return _together(done, turned=turned, is_matrix=info.matrix_shape is not None)


def _matrices(info: Any, threads: int, careful: bool) -> Iterator[MatrixNumbers | None]:
    """Of each stored matrix; None where its pass was spoiled, and nothing after it."""
    exact = info.dtype in EXACT_TYPES
    for shape, slices in _stored(info, threads):
        one = None
        for part, codes, values in slices:
            one = one or MatrixPass(shape, exact=exact, threads=threads, careful=careful, values=values)
            one.update(part, codes)
        if one is None or one.spoiled:
            yield None
            return
        yield one.end()


def _stored(info: Any, threads: int) -> Iterator[tuple[tuple[int, int], Slices]]:
    """Each matrix as it lies in storage: its shape, and slices of its rows."""
    if info.stacked:
        for part in info.read_slices(max(1, SLICE // max(1, info.numel // info.shape[0]))):
            for matrix in part:
                yield (matrix.shape[0], matrix.shape[1]), _slices(matrix, threads)
        return
    if info.matrix_shape is None:
        yield from _vector(info, threads)
        return
    _, rows, columns = info.matrix_shape
    if info.input_axis == 0 and len(info.shape) > 2:
        yield (rows, columns), _slices(info.matrices()[0], threads)
        return
    if info.input_axis == 0:
        rows, columns = columns, rows
    step = _step(columns, SLICE)
    if rows <= step or info.shape[0] != rows:
        yield (rows, columns), _slices(info.read().reshape(rows, columns), threads)
    else:
        yield (rows, columns), (one for part in info.read_slices(step) for one in _slices(part.reshape(-1, columns), threads))


def _vector(info: Any, threads: int) -> Iterator[tuple[tuple[int, int], Slices]]:
    """A vector as lines of `LINE` weights, so that a very long one keeps no number per weight; and what is left over."""
    for part in info.read_slices(SLICE):
        flat = part.reshape(-1)
        whole = len(flat) // LINE * LINE
        if whole:
            yield (whole // LINE, LINE), _slices(flat[:whole].reshape(-1, LINE), threads)
        if whole < len(flat):
            yield (1, len(flat) - whole), _slices(flat[whole:].reshape(1, -1), threads)


def _step(columns: int, size: int) -> int:
    """Rows of a slice: a multiple of 32."""
    return max(1, size // columns // 32) * 32


def _slices(matrix: Any, threads: int) -> Slices:
    """Slices of rows as float32, contiguous: the tensor's own memory where it can be, else a buffer the next slice will overwrite."""
    import torch

    matrix = matrix.detach()
    if matrix.dtype == torch.float32 and matrix.is_contiguous() and matrix.device.type == "cpu":
        yield matrix.numpy(), None, None
        return
    values, buffer = (_values_of(matrix.dtype) if matrix.dtype in (torch.bfloat16, torch.float16) else None), None
    for part in matrix.split(_step(matrix.shape[1], WIDENED * threads)):
        if part.dtype == torch.float64:
            yield np.ascontiguousarray(as_float32(part.cpu().numpy())), None, None
            continue
        buffer = part.new_empty(part.shape, dtype=torch.float32, device="cpu") if buffer is None else buffer
        codes = None if values is None else part.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
        yield buffer[: len(part)].copy_(part).numpy(), codes, values


@lru_cache
def _values_of(dtype: Any) -> NDArray[np.float32]:
    """The number each pattern of a 16-bit type stands for, [65,536]."""
    import torch

    return torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.int16)).view(dtype).float().numpy()


# ---------------------------------------------------------------------------------------------------------------------


def _together(found: list[MatrixNumbers], *, turned: bool, is_matrix: bool) -> TensorNumbers:
    """One matrix as it is; several as one over the other, the columns added."""
    first = found[0]
    rows, columns, thumb = (first.columns, first.rows, first.thumb) if turned else (first.rows, first.columns, first.thumb)
    if len(found) > 1 and is_matrix:
        rows = np.concatenate([one.columns if turned else one.rows for one in found], axis=1)
        columns = np.sum([one.rows if turned else one.columns for one in found], axis=0)
        thumb = np.sqrt(np.mean([one.thumb**2 for one in found], axis=0))
    some = [one for one in found if one.n] or [first]
    inputs, outputs = ([one.along_a if turned else one.along_b for one in found], [one.along_b if turned else one.along_a for one in found])
    return TensorNumbers(
        is_matrix=is_matrix,
        n_matrices=len(found),
        n_rows=rows.shape[1],
        n_columns=columns.shape[1],
        n=sum(one.n for one in found),
        n_nonfinite=sum(one.magnitudes.n_nonfinite for one in found),
        n_zero=sum(one.n_zero for one in found),
        rows=rows,
        columns=columns,
        l1=sum(one.l1 for one in found),
        square_sum=sum(one.square_sum for one in found),
        root_sum=sum(one.root_sum for one in found),
        moments=_merged_moments(found),
        low=min(one.low for one in some),
        high=max(one.high for one in some),
        magnitudes=_merged_counts(found),
        thumb=thumb.T if turned else thumb,
        along_input=_merged(inputs, rows.shape[1] // len(found)),
        along_output=_merged(outputs, columns.shape[1]),
        tiles={side: ZeroTiles(*np.sum([one.tiles[side] for one in found], axis=0).tolist()) for side in first.tiles},
    )


def _merged_moments(found: list[MatrixNumbers]) -> tuple[float, float, float, float]:
    n, merged = found[0].n, found[0].moments
    for one in found[1:]:
        n, *rest = merge_moments(n, *merged, one.n, *one.moments)
        merged = (rest[0], rest[1], rest[2], rest[3])
    return merged


def _merged_counts(found: list[MatrixNumbers]) -> MagnitudeCounts:
    counts = found[0].magnitudes
    for one in found[1:]:
        counts.merge(one.magnitudes)
    return counts


def _merged(directions: list[Direction], lines: int) -> Direction:
    """Groups of several matrices; lines of a later matrix are counted on from those before it."""
    if len(directions) == 1:
        return directions[0]
    merged = Direction()
    for pattern in directions[0].conforming:
        each = [one.conforming[pattern] for one in directions]
        firsts = [Offender(c.first.line + lines * i, *c.first[1:]) for i, c in enumerate(each) if c.first is not None]
        numbers = [sum(c[k] for c in each) for k in range(4)]  # type: ignore[misc]
        merged.conforming[pattern] = Conformance(numbers[0], numbers[1], numbers[2], numbers[3], firsts[0] if firsts else None)
        merged.lost[pattern] = sum(one.lost[pattern] for one in directions)
    return merged
