"""Groups of N of M, zero tiles, and what a matrix is called: the values of METHODS A0 and A5, null and planted cases."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats import patterns as p

ROW = np.array([[0.1, 0.5, 0.4, 0.2]])


def test_the_row_of_the_methods_keeps_its_two_largest_and_0891_of_its_energy():
    assert p.mask_of(np.abs(ROW), 2, 4).tolist() == [[False, True, True, False]]
    assert p.retained_energy(ROW, 2, 4) == pytest.approx(0.891304, abs=1e-6)
    assert p.retained_energy(ROW, 1, 2) == pytest.approx(0.41 / 0.46)
    assert p.retained_energy(ROW, 1, 4) == pytest.approx(0.25 / 0.46)


@pytest.mark.parametrize("pattern", p.PATTERNS)
def test_equal_magnitudes_projected_conform_everywhere_and_have_the_patterns_sparsity(pattern):
    matrix = np.ones((6, 16)) * p.mask_of(np.ones((6, 16)), *pattern)
    assert p.conformance(matrix, *pattern).share == 1
    assert (matrix == 0).mean() == 1 - pattern[0] / pattern[1]
    assert matrix[0, : pattern[0]].tolist() == [1] * pattern[0], "ties go to the lower index"
    assert p.retained_energy(matrix, *pattern) == 1, "exactly: nothing is lost"


def test_a_dense_matrix_conforms_nowhere_and_says_where_first():
    found = p.conformance(np.ones((2, 8)), 2, 4)
    assert (found.share, found.first) == (0, p.Offender(0, 0, 4))
    matrix = np.ones((3, 8)) * p.mask_of(np.ones((3, 8)), 2, 4)
    matrix[1, 6] = 5
    assert p.conformance(matrix, 2, 4).first == p.Offender(1, 1, 3)
    assert p.conformance(matrix, 2, 4).n_conforming == 5


def test_what_fills_no_group_is_left_over_and_counted():
    found = p.conformance(np.ones((2, 7)), 2, 4)
    assert (found.n_groups, found.n_left_over) == (2, 6)
    matrix = np.array([[1.0, 0, 0, 0, 9.0, 9.0, 9.0]])
    assert p.conformance(matrix, 2, 4).share == 1
    assert p.mask_of(matrix, 2, 4)[0, 4:].all()
    assert p.conformance(np.ones((2, 3)), 2, 4).share is None


def test_empty_groups_conform_trivially_and_are_counted_apart():
    found = p.conformance(np.zeros((2, 8)), 2, 4)
    assert (found.n_conforming, found.n_empty, found.first) == (4, 4, None)
    assert p.retained_energy(np.zeros((2, 8)), 2, 4) is None


def test_magnitude_masks_never_keep_more_energy_than_pruning_without_structure():
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix = rng.laplace(size=(16, 32))
        squares = np.sort(matrix.ravel() ** 2)
        for keep, of in p.PATTERNS:
            best = squares[matrix.size - matrix.size * keep // of :].sum() / squares.sum()
            assert p.retained_energy(matrix, keep, of) <= best + 1e-12


def test_tile_scores_of_the_methods():
    assert p.tile_scores(np.array([[1, 2], [3, 4]]), 1, 2).ravel().tolist() == [3, 7]
    assert p.tile_scores(np.array([[3.0, -4.0]]), 1, 2, power=2).item() == 5
    assert p.tile_scores(np.ones((3, 3)), 2, 2).tolist() == [[4, 2], [2, 1]]


def test_zero_tiles_are_those_without_any_weight_and_cover_their_weights():
    matrix = np.ones((10, 10))
    matrix[:4, :8] = 0
    matrix[8:, 8:] = 0
    found = p.zero_tiles(matrix, 4)
    assert (found.n_tiles, found.n_zero, found.n_covered) == (9, 3, 36)
    assert p.block_efficiency(found.n_covered, int((matrix == 0).sum())) == 1
    assert p.zero_tiles(matrix, 8).n_zero == 1
    assert p.block_efficiency(0, 0) is None


def named(matrix):
    rows, columns = matrix.shape
    dead = int((matrix == 0).all(1).sum()), int((matrix == 0).all(0).sum())
    conforming = {one: p.conformance(matrix, *one).share == 1 for one in p.PATTERNS}
    covered = {side: p.zero_tiles(matrix, side).n_covered for side in p.TILE_SIDES}
    return p.verdict(matrix.size, int((matrix == 0).sum()), (rows, columns, *dead), conforming, covered)


def planted(name):
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(96, 128))
    if name in ("rows", "rows and columns"):
        matrix[rng.permutation(96)[:30]] = 0
    if name in ("columns", "rows and columns"):
        matrix[:, rng.permutation(128)[:40]] = 0
    if name.startswith("blocks"):
        side = int(name.split()[-1])
        mask = rng.random((96 // side, 128 // side)) < 0.5
        mask[0, 0], mask[-1, -1], mask[0, -1] = True, False, False
        matrix[np.kron(mask, np.ones((side, side), bool))] = 0
    if name.endswith("kept"):
        matrix *= p.mask_of(np.abs(matrix), int(name[0]), int(name[5]))
    if name == "unstructured":
        matrix[rng.random(matrix.shape) < 0.5] = 0
    if name == "all zero":
        matrix[:] = 0
    return matrix


NAMES = [
    "dense",
    "rows",
    "columns",
    "rows and columns",
    "blocks of 4",
    "blocks of 8",
    "blocks of 16",
    "blocks of 32",
    "unstructured",
    "all zero",
]


@pytest.mark.parametrize("name", NAMES + [p.name_of(*one) for one in p.PATTERNS])
def test_every_planted_structure_is_called_by_its_name(name):
    assert named(planted(name))[0] == name


def test_a_few_zeros_are_still_dense_and_a_few_strays_do_not_hide_a_structure():
    matrix = planted("dense")
    matrix[0, 0] = 0
    assert named(matrix) == ("dense", None)
    matrix = planted("rows")
    matrix[np.flatnonzero(matrix[:, 0])[0], :5] = 0
    name, share = named(matrix)
    assert name == "rows"
    assert 0.99 < share < 1
