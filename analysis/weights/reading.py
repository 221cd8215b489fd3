"""A weight tensor read once, slice by slice, into its numbers; stacks of experts matrix by matrix, then put together.

Lines of outputs are called rows and lines of inputs columns, however the tensor is stored; where the input axis is not known, rows are
the first stored axis. Of vectors only what is no matter of lines is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.spec import UserError
from analysis.stats.group_directions import Direction
from analysis.stats.magnitudes import EXACT_TYPES, MagnitudeCounts, as_float32
from analysis.stats.matrix_pass import MatrixNumbers, MatrixPass
from analysis.stats.moments import merge_moments
from analysis.stats.patterns import Conformance, Offender, ZeroTiles
from analysis.weights.matrices import unit_near

SLICE = 1 << 24
"""Weights read at a time of a tensor in a file: 64 MB of float32, whatever its size."""
MOST = 1e280
"""Largest magnitude of a weight: the sums over the largest tensors stay below 1e300, which is the most a column holds."""
LINE = 4096
"""Weights in a line of a vector."""
WIDENED = 1 << 18
"""Weights of other types than 16 and 32 bits widened to float32 at a time and thread, in a buffer that stays in the cache."""
LEAST_PATTERNS = 1 << 16
"""Weights of a 16-bit type from which on counting its 65,536 patterns is less than widening it first."""


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
    unit: float = 1.0
    """What a value of 1 stands for: all sums, bounds and magnitudes here are of the weights divided by it. A power of two."""


def read_numbers(info: Any, threads: int = 1) -> TensorNumbers:
    """All numbers of one tensor (a `TensorInfo`). Memory: one slice and a few numbers per line.

    ``threads`` are those of the compiled loops. torch is best kept to one meanwhile (`threads.one_thread`): widening slice by slice is
    many small steps, for each of which its threads would wait for each other, and on a busy machine that costs many times the work.
    """
    turned = info.input_axis is not None and info.input_axis == int(info.stacked) and len(info.shape) == 2 + int(info.stacked)
    found, unit = [], _unit_of(info)
    for careful in (False, True):
        found = list(_matrices(info, threads, careful, unit))
        if all(found):
            break
    done = [one for one in found if one is not None]
    return replace(_together(done, turned=turned, is_matrix=info.matrix_shape is not None), unit=unit)


def _unit_of(info: Any) -> float:
    """The unit that keeps a tensor of 64 bits within the range of 32; 1 of all others."""
    if info.dtype != "float64":
        return 1.0
    parts = info.read_slices(_step(info.numel // info.shape[0], SLICE) if info.shape else 1)
    largest = max(float(part.abs().nan_to_num(0.0, 0.0, 0.0).max()) for part in parts)
    if largest > MOST:
        raise UserError(
            f"weights must be at most {MOST:g}, so that their sums can be held, got {largest:.3g} in {info.name}; "
            "divide the checkpoint by a constant."
        )
    return unit_near(largest)


def _matrices(info: Any, threads: int, careful: bool, unit: float) -> Iterator[MatrixNumbers | None]:
    """Of each stored matrix; None where its pass was spoiled, and nothing after it."""
    for shape, parts in _stored(info):
        one = None
        for part in parts:
            values = None if careful or shape[0] * shape[1] < LEAST_PATTERNS else _values_of(part.dtype)
            one = one or MatrixPass(shape, exact=info.dtype in EXACT_TYPES, threads=threads, careful=careful, values=values)
            if values is not None:
                one.update_patterns(_patterns(part.detach()))
                continue
            for piece in _widened(part.detach(), threads, unit):
                one.update(piece)
        if one is None or one.spoiled:
            yield None
            return
        yield one.end()


def _stored(info: Any) -> Iterator[tuple[tuple[int, int], Iterable[Any]]]:
    """Each matrix as it lies in storage: its shape, and its rows as tensors."""
    if info.stacked:
        for part in info.read_slices(max(1, SLICE // max(1, info.numel // info.shape[0]))):
            for matrix in part:
                yield (matrix.shape[0], matrix.shape[1]), (matrix,)
        return
    if info.matrix_shape is None:
        yield from _vector(info)
        return
    _, rows, columns = info.matrix_shape
    if info.input_axis == 0 and len(info.shape) > 2:
        yield (rows, columns), (info.matrices()[0],)
        return
    if info.input_axis == 0:
        rows, columns = columns, rows
    step = _step(columns, SLICE)
    if rows <= step or info.shape[0] != rows:
        yield (rows, columns), (info.read().reshape(rows, columns),)
    else:
        yield (rows, columns), (part.reshape(-1, columns) for part in info.read_slices(step))


def _vector(info: Any) -> Iterator[tuple[tuple[int, int], Iterable[Any]]]:
    """A vector as lines of `LINE` weights, so that a very long one keeps no number per weight; and what is left over."""
    for part in info.read_slices(SLICE):
        flat = part.reshape(-1)
        whole = len(flat) // LINE * LINE
        if whole:
            yield (whole // LINE, LINE), (flat[:whole].reshape(-1, LINE),)
        if whole < len(flat):
            yield (1, len(flat) - whole), (flat[whole:].reshape(1, -1),)


def _step(columns: int, size: int) -> int:
    """Rows of a slice: a multiple of 32."""
    return max(1, size // columns // 32) * 32


def _patterns(matrix: Any) -> NDArray[np.uint16]:
    """The patterns of a 16-bit type as they are stored."""
    import torch

    return matrix.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)


def _widened(matrix: Any, threads: int, unit: float) -> Iterator[NDArray[np.float32]]:
    """Rows as float32, contiguous: the tensor's own memory where it can be, else a buffer the next piece will overwrite.

    ``unit``: what 64-bit ones are divided by first.
    """
    import torch

    if matrix.dtype == torch.float32 and matrix.is_contiguous() and matrix.device.type == "cpu":
        yield matrix.numpy()
        return
    buffer = None
    for part in matrix.split(_step(matrix.shape[1], WIDENED * threads)):
        if part.dtype == torch.float64:
            yield np.ascontiguousarray(as_float32((part / unit).cpu().numpy()))
            continue
        buffer = part.new_empty(part.shape, dtype=torch.float32, device="cpu") if buffer is None else buffer
        yield buffer[: len(part)].copy_(part).numpy()


@lru_cache
def _values_of(dtype: Any) -> NDArray[np.float32] | None:
    """The number each pattern of a 16-bit type of torch stands for, [65,536]; None of other types."""
    import torch

    if dtype not in (torch.bfloat16, torch.float16):
        return None
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
