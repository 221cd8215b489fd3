"""Curves on the same documents: the bootstrap against hand computation and against the analytic interval."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.intervals import mean_over_documents
from analysis.stats.paired import Resample, band, difference, rank_intervals, resolved

RANDOM = np.random.default_rng(0)
COUNTS = RANDOM.integers(5, 50, 80)
SUMS = COUNTS * (2 + RANDOM.standard_normal(80))


def test_a_mean_is_a_ratio_of_sums_and_not_a_mean_of_ratios():
    resample = Resample.of([1, 9])
    assert resample.value([2.0, 0.0]) == pytest.approx(0.2)


def test_every_draw_takes_as_many_documents_as_there_are():
    resample = Resample.of(COUNTS, draws=20)
    assert (resample.weights.sum(axis=1) == 80).all()
    assert (Resample.of(COUNTS, draws=20).weights == resample.weights).all()
    assert (Resample.of(COUNTS, seed=1, draws=20).weights != resample.weights).any()


def test_standard_errors_are_those_of_the_one_formula():
    resample = Resample.of(COUNTS)
    assert resample.standard_errors(SUMS[None])[0] == pytest.approx(mean_over_documents(SUMS, COUNTS).standard_error, rel=1e-12)


def test_the_band_agrees_with_the_analytic_interval():
    analytic = mean_over_documents(SUMS, COUNTS)
    low, high = band(Resample.of(COUNTS, draws=4000).means(SUMS[None]))
    assert analytic.low is not None and analytic.high is not None
    width = analytic.high - analytic.low
    assert low[0] == pytest.approx(analytic.low, abs=0.1 * width) and high[0] == pytest.approx(analytic.high, abs=0.1 * width)


def test_equal_documents_have_no_width():
    resample = Resample.of(COUNTS)
    low, high = band(resample.means((3.0 * COUNTS)[None]))
    assert low[0] == pytest.approx(3) and high[0] == pytest.approx(3)
    assert resample.standard_errors((3.0 * COUNTS)[None])[0] == pytest.approx(0, abs=1e-12)


def test_all_curves_share_their_draws():
    """Two curves that differ by a constant differ by it in every draw."""
    means = Resample.of(COUNTS, draws=50).means(np.stack([SUMS, SUMS + 0.25 * COUNTS]))
    assert means[:, 1] - means[:, 0] == pytest.approx(0.25)


def test_a_difference_of_equals_is_exactly_nothing_and_cannot_be_told_apart():
    found = difference(Resample.of(COUNTS), SUMS, SUMS)
    assert (found.value, found.low, found.high) == (0, 0, 0) and found.words == "cannot be told apart"


def test_a_steady_difference_is_told_apart_where_the_means_overlap():
    resample = Resample.of(COUNTS)
    worse = SUMS + 0.05 * COUNTS * (1 + 0.1 * RANDOM.standard_normal(80))
    low, high = band(resample.means(np.stack([SUMS, worse])))
    assert low[1] < high[0]
    assert difference(resample, worse, SUMS).words == "the second is smaller"
    assert difference(resample, SUMS, worse).words == "the first is smaller"


def test_an_infinite_loss_is_infinite_in_every_draw():
    sums = np.stack([SUMS, SUMS])
    sums[1, 3] = np.inf
    resample = Resample.of(COUNTS, draws=200)
    means = resample.means(sums)
    assert np.isinf(means[:, 1]).all() and np.isfinite(means[:, 0]).all()
    low, high = band(means)
    assert np.isinf([low[1], high[1], resample.value(sums)[1], resample.standard_errors(sums)[1]]).all() and np.isfinite(low[0])


def test_ranks_are_sure_where_methods_are_far_apart_and_wide_where_they_are_not():
    far = np.stack([np.full(100, v) for v in (3.0, 1.0, 2.0)], axis=1)
    assert [r.tolist() for r in rank_intervals(far)] == [[3, 1, 2], [3, 1, 2]]
    noise = np.random.default_rng(1).standard_normal((500, 3))
    assert [r.tolist() for r in rank_intervals(noise)] == [[1, 1, 1], [3, 3, 3]]


def test_fewer_than_thirty_documents_are_said():
    assert "fewer than 30" in Resample.of(np.ones(29)).note and Resample.of(np.ones(30)).note == ""
    assert "one document" in Resample.of([5]).note and np.isinf(Resample.of([5]).standard_errors([[1.0]])).all()


def test_a_tolerance_is_resolved_from_three_standard_errors():
    assert resolved(0.01, 0.03) and not resolved(0.0101, 0.03)


def test_documents_without_a_position_are_refused():
    with pytest.raises(ValueError, match="leave documents"):
        Resample.of([3, 0])
