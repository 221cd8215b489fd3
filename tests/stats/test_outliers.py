"""Outlier weights by magnitude and by sensitivity (METHODS A17)."""

from __future__ import annotations

import pytest
import torch

from analysis.stats.outliers import count_outliers, crowding, magnitude_outliers, sensitivity_outliers


def grid(rows=8, groups=2):
    """Weights that 3 bits hit exactly: every group has all eight levels, twice."""
    levels = torch.arange(8.0).repeat(2 * groups) - 3.5
    return torch.stack([levels.roll(r) for r in range(rows)])


def test_a_grid_that_can_be_represented_has_no_outliers():
    assert not sensitivity_outliers(grid(), torch.ones(32)).any()
    assert not magnitude_outliers(grid()).any()


def test_one_weight_times_a_hundred_is_the_one_that_is_flagged():
    w = grid(rows=64)
    w[3, 5] = 250.0
    found = sensitivity_outliers(w, torch.ones(32))
    assert found.nonzero().tolist() == [[3, 5]]
    assert magnitude_outliers(w).nonzero().tolist() == [[3, 5]]


def test_the_authors_rule_flags_it_too_and_neighbours_that_it_makes_round_badly():
    w = grid(rows=64)
    w[3, 5] = 250.0
    rows, columns = sensitivity_outliers(w, torch.ones(32), variant="code").nonzero().T.tolist()
    assert set(rows) == {3}
    assert 5 in columns
    assert len(columns) > 1
    assert max(columns) < 16, "none of another group"


def test_an_infinite_threshold_flags_none_and_a_column_of_no_weight_neither():
    w = grid(rows=64)
    w[3, 5] = 250.0
    assert not sensitivity_outliers(w, torch.ones(32), threshold=float("inf")).any()
    unread = torch.ones(32)
    unread[5] = 1e6
    assert not sensitivity_outliers(w, unread)[:, 5].any(), "an input that hardly varies makes its column insensitive"


def test_a_last_group_that_is_short_is_judged_too():
    w = torch.cat([grid(rows=64), torch.tensor([0.0, 1.3, 2.9, 2.2, 0.7]).repeat(64, 1)], 1)
    w[1, 33] = 60.0
    assert sensitivity_outliers(w, torch.ones(37)).nonzero().tolist() == [[1, 33]]


def test_the_scale_of_weights_and_inputs_changes_nothing():
    torch.manual_seed(0)
    w = torch.randn(50, 40) ** 3
    one = sensitivity_outliers(w, torch.ones(40))
    assert 0 < one.sum() < one.numel() / 4
    assert (sensitivity_outliers(w * 1000, torch.full((40,), 7.0)) == one).all()


def test_outliers_are_beyond_so_many_deviations():
    w = torch.zeros(10, 10)
    w[0, 0], w[1, 1] = 1.0, -1.0  # deviation sqrt(2/100) = 0.1414
    assert magnitude_outliers(w, 7.0).sum() == 2
    assert magnitude_outliers(w, 7.1).sum() == 0
    assert magnitude_outliers(w, 6.0, deviation=0.2).sum() == 0
    assert not magnitude_outliers(torch.full((4, 4), 3.0)).any()
    assert not magnitude_outliers(torch.zeros(4, 4)).any()


def test_crowding_is_one_where_one_row_has_all_and_small_where_all_have_some():
    assert crowding([0, 5, 0, 0]) == 1
    assert crowding([1] * 200) == pytest.approx(0.01)
    assert crowding([2, 1, 1]) == 0.5
    assert crowding([0, 0]) is None


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="diagonal"):
        sensitivity_outliers(torch.ones(3, 4), torch.ones(3))
    with pytest.raises(ValueError, match="diagonal"):
        sensitivity_outliers(torch.ones(3, 4), torch.zeros(4))


def test_slices_count_what_the_whole_matrix_has():
    torch.manual_seed(0)
    w = torch.randn(300, 20) ** 5 + 1.0
    whole, sliced = magnitude_outliers(w), count_outliers(lambda: w.split(7))
    assert 0 < whole.sum() == sliced.n
    assert sliced.rows.tolist() == whole.sum(1).tolist()
    assert sliced.columns.tolist() == whole.sum(0).tolist()
    assert sliced.limit == pytest.approx(6 * float(w.double().std(correction=0)))
