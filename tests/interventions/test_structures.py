"""Masks of one matrix."""

import pytest
import torch

from analysis.interventions.structures import (
    COLUMNS,
    ROWS,
    blocks,
    conformance,
    keep_mask,
    keep_n_of_m,
    n_of_m,
    removed_of,
    spread,
    structure_of,
    unit_scores,
    unit_sizes,
)
from analysis.spec import UserError


def _random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_of_four_keeps_the_two_largest_and_their_energy():
    w = torch.tensor([[0.1, 0.5, 0.4, 0.2]], dtype=torch.float64)
    keep = keep_n_of_m(w.abs(), 2, 4)
    assert keep.tolist() == [[False, True, True, False]]
    assert float((w * keep).square().sum() / w.square().sum()) == pytest.approx(0.891304, abs=1e-6)  # METHODS A0


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (2, 8), (1, 2), (3, 5), (4, 20)])
def test_equal_magnitudes_conform_and_have_exactly_the_patterns_sparsity(n, m):
    w = torch.ones(3, m * 4)
    keep = keep_n_of_m(w, n, m)
    assert conformance(w * keep, n, m) == 1.0
    assert float((~keep).double().mean()) == 1 - n / m
    assert keep[0, :m].tolist() == [False] * (m - n) + [True] * n  # of equals the first goes first


@pytest.mark.parametrize("m", [4, 8, 20])
def test_n_of_m_agrees_with_sorting_each_group(m):
    scores = torch.randint(0, 5, (7, 3 * m), generator=torch.Generator().manual_seed(1)).float()
    keep = keep_n_of_m(scores, 2, m)
    for row, kept in zip(scores.tolist(), keep.tolist()):
        for start in range(0, 3 * m, m):
            order = sorted(range(m), key=lambda j: (row[start + j], j))
            assert [j for j in range(m) if not kept[start + j]] == sorted(order[: m - 2])


def test_columns_that_fill_no_group_stay():
    keep = keep_n_of_m(_random(2, 10), 2, 4)
    assert keep[:, 8:].all() and int((~keep).sum()) == 8
    assert keep_n_of_m(_random(2, 3), 2, 4).all()


def test_a_dense_matrix_does_not_conform():
    assert conformance(torch.ones(2, 8), 2, 4) == 0.0
    with pytest.raises(ValueError, match="at least 4 inputs"):
        conformance(torch.ones(2, 3), 2, 4)


def test_tile_scores_are_sums_of_magnitudes_or_roots_of_squares():
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert unit_scores(w, blocks(1, 2)).tolist() == [[3.0], [7.0]]  # METHODS A5
    assert unit_scores(w, ROWS).tolist() == [[3.0], [7.0]]
    assert unit_scores(w, COLUMNS).tolist() == [[4.0, 6.0]]
    assert unit_scores(-w, blocks(2, norm="l2")).tolist() == [[pytest.approx(30**0.5)]]


def test_tiles_at_the_edge_are_padded_with_zeros_and_hold_fewer_weights():
    w = torch.ones(5, 3)
    assert unit_scores(w, blocks(2)).tolist() == [[4, 2], [4, 2], [2, 1]]
    assert unit_sizes(5, 3, blocks(2)).tolist() == [[4, 2], [4, 2], [2, 1]]
    assert int(spread(torch.tensor([[1, 0], [0, 0], [0, 0]]), 5, 3, blocks(2)).sum()) == 4


def test_whole_tiles_go_and_no_more_than_fit_into_the_level():
    scores = _random(6, 6)
    for level in (0.1, 0.3, 0.5, 0.77, 1.0):
        keep = keep_mask(scores, level, blocks(2))
        tiles = keep.unflatten(0, (3, 2)).unflatten(2, (3, 2)).sum((1, 3))
        assert set(tiles.flatten().tolist()) <= {0, 4}
        assert int((~keep).sum()) == removed_of(36, level) // 4 * 4


def test_the_weakest_row_goes_first():
    scores = torch.tensor([[3.0, 3.0], [1.0, 1.5], [2.0, 2.0]])
    assert keep_mask(scores, 1 / 3, ROWS).tolist() == [[True, True], [False, False], [True, True]]
    assert keep_mask(scores, 0.5, COLUMNS).tolist() == [[False, True]] * 3


def test_every_row_of_tiles_keeps_as_many():
    keep = keep_mask(_random(8, 16), 0.5, blocks(2), within="per_row")
    assert keep.unflatten(0, (4, 2)).sum((1, 2)).tolist() == [16] * 4


def test_rounding_does_not_lose_a_weight():
    assert [removed_of(100, level) for level in (0.29, 0.57, 0.0, 1.0)] == [29, 57, 0, 100]
    assert removed_of(84_934_656, 0.5) == 42_467_328


@pytest.mark.parametrize("words", ["unstructured", "rows", "columns", "2:4", "n:8", "block 4x4", "block 1x8 l2"])
def test_a_structure_is_found_by_its_slug(words):
    assert structure_of(words).slug == words


def test_what_is_no_structure_is_refused():
    for words in ("4:2", "0:4", "block 0x2", "diagonal"):
        with pytest.raises(UserError):
            structure_of(words)


def test_n_follows_the_level_where_it_is_free():
    assert [n_of_m(None, 4).pattern_at(level) for level in (0, 0.25, 0.5, 0.74, 1)] == [(4, 4), (3, 4), (2, 4), (2, 4), (0, 4)]
    assert n_of_m(1, 4).pattern_at(0.1) == (1, 4) and blocks(2).pattern_at(0.5) is None
