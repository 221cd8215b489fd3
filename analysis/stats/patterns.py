"""Structure in the zeros of a matrix: groups of N of M, zero tiles, lines, and the name of what it was pruned to.

Matrices are [rows, columns]; groups lie along the columns, so transpose for the other direction. N of M always means at most N
*kept* of M. `kernel_matrix` computes the same in one pass; here are the definitions. METHODS A0, A5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PATTERNS = ((1, 2), (1, 4), (2, 4), (2, 8), (4, 8))
"""(N kept, of M), in the order of the kernel."""
TILE_SIDES = (4, 8, 16, 32)
EXPLAINED = 0.99
"""Share of the zeros a structure must hold for a matrix to be called after it: ours."""
FEW = 0.01
"""Share of zeros up to which a matrix is called dense: ours."""

Matrix = NDArray[Any]


class Offender(NamedTuple):
    """The first group with more non-zeros than a pattern keeps: rows first, then groups, both from 0."""

    line: int
    group: int
    nonzeros: int


class Conformance(NamedTuple):
    """Groups of M along the columns, counted; what is left over at the end of a row is in no group."""

    n_groups: int
    n_conforming: int
    n_empty: int
    """Groups that are all zero: they conform trivially."""
    n_left_over: int
    """Weights, not groups."""
    first: Offender | None

    @property
    def share(self) -> float | None:
        """Conforming groups / groups, 0 to 1; None where there is no group."""
        return self.n_conforming / self.n_groups if self.n_groups else None


def name_of(keep: int, of: int) -> str:
    """``2 of 4 kept``."""
    return f"{keep} of {of} kept"


def groups_of(matrix: Matrix, of: int) -> Matrix:
    """[rows, columns // of, of]."""
    rows, columns = matrix.shape[0], matrix.shape[1]
    return matrix[:, : columns // of * of].reshape(rows, columns // of, of)


def conformance(matrix: Matrix, keep: int, of: int) -> Conformance:
    """Whether each group of ``of`` has at most ``keep`` non-zeros."""
    on = np.count_nonzero(groups_of(matrix, of), axis=-1)
    bad = np.argwhere(on > keep)
    first = Offender(int(bad[0, 0]), int(bad[0, 1]), int(on[bad[0, 0], bad[0, 1]])) if len(bad) else None
    left_over = matrix.size - on.size * of
    return Conformance(on.size, on.size - len(bad), int((on == 0).sum()), left_over, first)


def mask_of(scores: Matrix, keep: int, of: int) -> NDArray[np.bool_]:
    """The mask that keeps the ``keep`` largest scores of each group; ties go to the lower index, what is left over is kept."""
    groups = groups_of(scores, of)
    order = np.argsort(-groups, axis=-1, kind="stable")[..., :keep]
    kept = np.zeros(groups.shape, bool)
    np.put_along_axis(kept, order, True, axis=-1)
    mask = np.ones(scores.shape, bool)
    mask[:, : scores.shape[1] // of * of] = kept.reshape(len(scores), -1)
    return mask


def lost_squares(matrix: Matrix, keep: int, of: int) -> float:
    """Sum of the squares that are no more when the ``keep`` largest |w| of each group are kept; 0 exactly where all groups conform."""
    ordered = np.sort(np.abs(groups_of(matrix, of).astype(np.float64)), axis=-1)
    return float((ordered[..., : of - keep] ** 2).sum())


def retained_energy(matrix: Matrix, keep: int, of: int) -> float | None:
    """||W * M||^2 / ||W||^2 with the mask of the largest |w|; 0 to 1, None for an all-zero matrix. METHODS A0, A5."""
    return retained(lost_squares(matrix, keep, of), float((matrix.astype(np.float64) ** 2).sum()))


def retained(lost: float, total: float) -> float | None:
    """One minus lost / total squares; None where there is nothing to lose."""
    return min(1.0, max(0.0, 1 - lost / total)) if total > 0 else None


# ---------------------------------------------------------------------------------------------------------------------
# Tiles


class ZeroTiles(NamedTuple):
    """Tiles of side x side weights, those at the edge smaller."""

    n_tiles: int
    n_zero: int
    n_covered: int
    """Weights in tiles that are all zero."""

    @property
    def share(self) -> float:
        """Zero tiles / tiles."""
        return self.n_zero / self.n_tiles


def n_tiles(rows: int, columns: int, side: int) -> int:
    """Tiles a matrix is cut into."""
    return -(-rows // side) * -(-columns // side)


def zero_tiles(matrix: Matrix, side: int) -> ZeroTiles:
    """Tiles without any non-zero weight."""
    on = tile_scores(matrix != 0, side, side)
    sizes = tile_scores(np.ones(matrix.shape), side, side)
    return ZeroTiles(on.size, int((on == 0).sum()), int(sizes[on == 0].sum()))


def tile_scores(matrix: Matrix, high: int, wide: int, power: int = 1) -> NDArray[np.float64]:
    """(sum |w|^power)^(1/power) of each tile of high x wide weights, zeros added at the edge: [tiles down, tiles across]."""
    rows, columns = matrix.shape
    padded = np.pad(np.abs(matrix.astype(np.float64)) ** power, ((0, -rows % high), (0, -columns % wide)))
    sums = padded.reshape(-(-rows // high), high, -(-columns // wide), wide).sum((1, 3))
    return sums ** (1 / power)


def block_efficiency(n_covered: int, n_zero: int) -> float | None:
    """Share of the zeros that a kernel skipping whole tiles can skip; None where there is no zero. Ours."""
    return n_covered / n_zero if n_zero else None


# ---------------------------------------------------------------------------------------------------------------------
# The name of it


def verdict(
    n: int,
    n_zero: int,
    lines: tuple[int, int, int, int],
    conforming: Mapping[tuple[int, int], bool],
    covered: Mapping[int, int],
) -> tuple[str, float | None]:
    """What a matrix of n weights is pruned to, and the share of its zeros that this structure holds.

    ``lines``: rows, columns, and how many of each are all zero. ``conforming``: patterns all groups conform to. ``covered``: weights in
    zero tiles by side. In order: all zero; dense (zeros at most 1 % of the weights); rows, columns, or both (at least 99 % of the
    zeros lie in them); N of M (every group, the sparsest such pattern); tiles, the largest side that holds 99 % of the zeros; else
    unstructured. Ours.
    """
    rows, columns, dead_rows, dead_columns = lines
    if n_zero == n:
        return "all zero", 1.0
    if n_zero <= FEW * n:
        return "dense", None
    in_rows, in_columns = dead_rows * columns, dead_columns * rows
    in_lines = in_rows + in_columns - dead_rows * dead_columns
    for name, inside in (("rows", in_rows), ("columns", in_columns), ("rows and columns", in_lines)):
        if inside >= EXPLAINED * n_zero:
            return name, inside / n_zero
    for keep, of in sorted(conforming, key=lambda p: (p[0] / p[1], p[1])):
        if conforming[keep, of]:
            return name_of(keep, of), 1.0
    for side in sorted(covered, reverse=True):
        if covered[side] >= EXPLAINED * n_zero:
            return f"blocks of {side}", covered[side] / n_zero
    return "unstructured", None
