"""Drop points against hand-made curves. The golden values of published curve files need those files, which are not in the repository."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.stats.drops import crossing, drop_difference, drop_draws, drop_point, drop_spread, sharpest_bend, smooth
from analysis.stats.paired import Resample

GRID = np.round(np.arange(0, 1, 0.1), 1)
HINGE = np.maximum(0, 4 * (GRID - 0.5))
"""Flat to 0.5, then a slope of 4: METHODS A1, test (a)."""


def documents(curve, n=60, spread=0.0, seed=0):
    """Sums of n documents of 10 positions whose mean is exactly the curve; each document has its own factor around 1."""
    factor = 1 + spread * np.random.default_rng(seed).standard_normal(n)
    factor -= factor.mean() - 1
    return 10 * np.asarray(curve)[:, None] * factor[None, :], np.full(n, 10)


# -------------------------------------------------------------------------------------------------- the definition


def test_a_hinge_leaves_its_tolerance_where_computed_by_hand():
    assert crossing(GRID, HINGE, 0.01).level == pytest.approx(0.5025)
    assert crossing(GRID, HINGE, 0.1).level == pytest.approx(0.525)


def test_a_loss_that_comes_back_does_not_count_as_within_tolerance():
    found = crossing([0, 0.1, 0.2, 0.3], [0, 0.02, 0.005, 0.2], 0.01)
    assert found.reached and found.level == pytest.approx(0.05)


def test_the_crossing_is_interpolated_from_the_running_maximum():
    """Running maximum 0.04 at 0.2, 0.2 at 0.3: 0.2 + 0.1 x 0.01 / 0.16."""
    assert crossing([0, 0.1, 0.2, 0.3], [0, 0.04, 0, 0.2], 0.05).level == pytest.approx(0.20625)


def test_a_flat_curve_is_not_reached_and_names_the_last_level():
    found = crossing(GRID, np.zeros(10), 0.01)
    assert found.answer == "not reached" and found.level == 0.9
    assert found.words == "> 0.9 (not reached)"


def test_pruning_that_helps_is_not_reached():
    assert crossing(GRID, -HINGE, 0.01).answer == "not reached"


def test_a_curve_above_the_tolerance_from_its_first_level_lies_below_it():
    found = crossing([0.1, 0.2], [0.5, 0.6], 0.05)
    assert found.answer == "below first level" and found.words == "< 0.1 (below the first level)"


def test_exactly_at_the_tolerance_is_within_it():
    assert crossing([0, 0.5], [0, 0.05], 0.05).answer == "not reached"
    assert crossing([0, 0.5, 1], [0, 0.05, 1], 0.05).level == pytest.approx(0.5)


def test_an_infinite_loss_is_crossed_at_the_level_before_and_1e10_survives():
    assert crossing([0, 0.5, 0.6], [0, 0.001, math.inf], 0.05).level == 0.5
    assert crossing([0, 0.5, 0.6], [0, 0.0, 1e10], 0.05).level == pytest.approx(0.5, abs=1e-9)


def test_what_cannot_be_a_curve_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        crossing([0, 0.5], [0, math.nan], 0.05)
    with pytest.raises(ValueError, match="ascend"):
        crossing([0.5, 0.5], [0, 1], 0.05)
    with pytest.raises(ValueError, match="eps"):
        crossing([0, 0.5], [0, 1], 0)


def test_of_steps_the_last_one_within_is_the_answer_and_nothing_between():
    """3, 2 and 1 of 4 kept, by hand: 0.0095, 0.126 and 2.1 above the dense model."""
    levels, increase = [0, 0.25, 0.5, 0.75], [0, 0.0095, 0.126, 2.1]
    assert [crossing(levels, increase, eps, steps=True).level for eps in (0.001, 0.05, 0.126, 1)] == [0, 0.25, 0.5, 0.5]
    assert crossing(levels, increase, 3, steps=True).answer == "not reached"


def test_steps_whose_band_holds_the_tolerance_lie_between_the_ends_of_the_interval():
    """The second step is within in most draws and beyond in some; the first and the third are clear."""
    sums, counts = documents([0, 0.01, 0.045, 0.3], spread=1.0)
    sums[1] = 0.01 * counts
    found = drop_point([0, 0.25, 0.5, 0.75], sums, 0.05, Resample.of(counts), steps=True)
    assert (found.answer, found.low.level, found.point.level, found.high.level) == ("reached", 0.25, 0.5, 0.5)
    assert found.bracket == (0.5, 0.75)


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.1])
def test_the_answer_does_not_move_when_the_range_is_cut(eps):
    curve = np.expm1(6 * GRID**4) / 20
    whole = crossing(GRID, curve, eps)
    cut = crossing(GRID[:8], curve[:8], eps)
    assert whole == cut and whole.reached


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.1])
def test_the_answer_hardly_moves_when_half_of_the_levels_are_dropped(eps):
    fine = np.linspace(0, 0.95, 39)
    curve = np.expm1(6 * fine**4) / 20
    whole, half = crossing(fine, curve, eps), crossing(fine[::2], curve[::2], eps)
    assert half.level == pytest.approx(whole.level, abs=0.015)
    assert half.level <= whole.level  # a chord of a convex curve lies above it: dropping levels is never bolder


# -------------------------------------------------------------------------------------------------- smoothing


def test_smoothing_leaves_a_rising_curve_alone():
    assert smooth(HINGE).tolist() == HINGE.tolist()


def test_smoothing_pools_what_falls_by_hand():
    assert smooth([0, 0.02, 0.005, 0.2]).tolist() == pytest.approx([0, 0.0125, 0.0125, 0.2])


def test_smoothing_trusts_the_more_certain_level():
    """Weights 1/0.01^2 and 1/0.02^2: (4 x 0.02 + 0.005) / 5."""
    assert smooth([0, 0.02, 0.005], [0.0, 0.01, 0.02])[1] == pytest.approx(0.017)


def test_the_dense_level_stays_at_zero_under_smoothing():
    assert abs(smooth([0, -0.5, 0.1], [0.0, 0.1, 0.1])[0]) < 1e-9


def test_smoothing_keeps_an_infinite_end_infinite():
    assert smooth([0, 0.2, math.inf, 3]).tolist() == [0, 0.2, math.inf, math.inf]


def test_smoothing_takes_back_most_of_the_bias_of_the_running_maximum():
    """A true crossing at 0.5025, noise of half the tolerance at every level, 37 levels."""
    levels = np.linspace(0, 0.9, 37)
    truth = np.maximum(0, 4 * (levels - 0.5))
    random = np.random.default_rng(0)
    noisy = [truth + 0.005 * random.standard_normal(37) * (levels > 0) for _ in range(200)]
    raw = np.mean([crossing(levels, c, 0.01).level for c in noisy])
    smoothed = np.mean([crossing(levels, smooth(c), 0.01).level for c in noisy])
    assert raw < 0.5025 - 0.02
    assert abs(smoothed - 0.5025) < 0.005


# -------------------------------------------------------------------------------------------------- with an interval


def test_without_noise_the_interval_is_the_point():
    sums, counts = documents(HINGE)
    found = drop_point(GRID, sums, 0.05, Resample.of(counts))
    assert found.answer == "reached" and found.note == "" and found.bracket == (0.5, 0.6)
    assert [c.level for c in (found.low, found.point, found.high)] == pytest.approx([0.5125] * 3)


def test_a_bump_that_smoothing_takes_back_moves_neither_end_of_the_interval_nor_the_draws():
    """Raw, the running maximum crosses 0.015 at 0.075; smoothed, the curve, its band and every draw cross it just above 0.2."""
    sums, counts = documents([0, 0.02, 0.005, 0.2], 60, spread=0.05)
    resample = Resample.of(counts, draws=200)
    found = drop_point([0, 0.1, 0.2, 0.3], sums, 0.015, resample)
    assert found.raw.level == pytest.approx(0.075)
    assert [c.level for c in (found.low, found.point, found.high)] == pytest.approx([0.205] * 3, abs=0.005)
    assert drop_draws([0, 0.1, 0.2, 0.3], resample.means(sums), 0.015)[0] == pytest.approx(0.2, abs=0.005)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        slopes = 4 + 2 * random.standard_normal(60)  # each document has its own slope; their true mean crosses 0.05 at 0.5125
        sums = 10 * np.maximum(0, GRID - 0.5)[:, None] * slopes[None, :]
        found = drop_point(GRID, sums, 0.05, Resample.of(np.full(60, 10), seed=seed, draws=200))
        hits += found.low.level <= 0.5125 <= found.high.level
    assert 130 <= hits <= 149


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_with_noise_fewer_levels_and_a_cut_range_move_answer_and_interval_by_no_more_than_the_band(eps, seed):
    """Standard error a quarter of the tolerance at every level, of which half are dropped, or the upper fifth."""
    fine = np.linspace(0, 0.95, 39)
    sums, counts = documents(np.expm1(6 * fine**4) / 20)
    noise = np.random.default_rng(seed).standard_normal(sums.shape) * (fine > 0)[:, None]
    sums = sums + counts * noise * eps / 4 * np.sqrt(len(counts))
    resample = Resample.of(counts, seed=seed)
    whole = drop_point(fine, sums, eps, resample)
    assert whole.answer == "reached" and whole.low.level < whole.point.level < whole.high.level
    band = whole.high.level - whole.low.level
    for kept in (np.s_[::2], np.s_[:32]):
        part = drop_point(fine[kept], sums[kept], eps, resample)
        assert part.answer == "reached" and whole.low.level <= part.point.level <= whole.high.level
        assert part.low.level <= whole.high.level and whole.low.level <= part.high.level
        assert abs(part.low.level - whole.low.level) <= band and abs(part.high.level - whole.high.level) <= band


def test_a_flat_curve_has_no_drop_point_with_words_to_say_so():
    sums, counts = documents(np.zeros(10))
    found = drop_point(GRID, sums, 0.05, Resample.of(counts))
    assert found.answer == "not reached" and found.words == "> 0.9 (not reached)" and found.bracket == (0.9, 0.9)


def test_noise_above_a_third_of_the_tolerance_is_not_resolvable():
    noise = np.random.default_rng(0).standard_normal((10, 40))
    noise[0] = 0
    sums = documents(HINGE, 40)[0] + 10 * noise * 0.5  # standard error 0.5 / sqrt(40) = 0.08
    found = drop_point(GRID, sums, 0.05, Resample.of(np.full(40, 10)))
    assert found.answer == "not resolvable" and "not resolvable" in found.words and found.standard_error > 0.05 / 3
    assert drop_point(GRID, sums, 0.5, Resample.of(np.full(40, 10))).answer == "reached"


def test_few_documents_are_said_and_one_allows_no_interval():
    sums, counts = documents(HINGE, 12, spread=0.1)
    assert "fewer than 30" in drop_point(GRID, sums, 0.05, Resample.of(counts)).note
    sums, counts = documents(HINGE, 1)
    alone = drop_point(GRID, sums, 0.05, Resample.of(counts))
    assert "one document" in alone.words and alone.point.level == pytest.approx(0.5125)


def test_a_document_with_an_infinite_loss_ends_the_curve_before_it():
    sums, counts = documents(HINGE, 40)
    sums[7:, 3] = np.inf
    found = drop_point(GRID, sums, 0.9, Resample.of(counts))
    assert found.point.level == pytest.approx(0.6)


def test_the_difference_of_two_drop_points_is_surer_than_either():
    """Documents differ a lot, in the same way under both methods: paired, their difference hardly varies."""
    sums, counts = documents(HINGE, 60, spread=0.5)
    better = documents(np.maximum(0, 4 * (GRID - 0.6)), 60, spread=0.5)[0]
    resample = Resample.of(counts, draws=300)
    draws = [drop_draws(GRID, resample.means(y), 0.2) for y in (better, sums)]
    gap = drop_difference(*draws)
    assert not isinstance(gap, str)
    width = np.subtract(*np.quantile(draws[0][0], [0.975, 0.025]))
    assert gap.value == pytest.approx(0.1, abs=0.01) and gap.low > 0 and gap.high - gap.low < width / 3


def test_a_method_that_never_drops_is_not_compared_by_a_number():
    sums, counts = documents(HINGE)
    resample = Resample.of(counts, draws=50)
    flat = drop_draws(GRID, resample.means(np.zeros_like(sums)), 0.05)
    assert "not comparable" in str(drop_difference(flat, drop_draws(GRID, resample.means(sums), 0.05)))


# -------------------------------------------------------------------------------------------------- the hint


def test_the_hint_finds_the_hinge_and_nothing_on_a_straight_line():
    assert sharpest_bend(GRID, HINGE).level == 0.5
    assert not sharpest_bend(GRID, 2 * GRID).reached
    assert not sharpest_bend(GRID[:2], HINGE[:2]).reached


def test_the_hint_is_at_the_hinge_with_uneven_levels_too():
    levels = np.array([0, 0.1, 0.4, 0.5, 0.55, 0.9])
    assert sharpest_bend(levels, np.maximum(0, 4 * (levels - 0.5))).level == 0.5


def drawn(*s):
    """Drop points at these levels: the loss rises from 0 there to 1 a tenth of a level later, so that 0.5 is crossed in between."""
    resample = Resample.of(np.ones(40))
    return [drop_point([0, level - 0.05, level + 0.05], np.outer([0, 0, 1], np.ones(40)), 0.5, resample) for level in s]


def test_the_spread_over_draws_is_that_of_their_drop_points():
    spread = drop_spread(drawn(0.4, 0.5, 0.6))
    assert (spread.n, spread.low, spread.high) == (3, pytest.approx(0.4), pytest.approx(0.6)) and spread.sd == pytest.approx(0.1)
    assert spread.words == "over 3 draws 0.4 to 0.6, standard deviation 0.1; a headline needs at least 5"
    assert "headline" not in drop_spread(drawn(0.4, 0.5, 0.6, 0.5, 0.5)).words


def test_draws_without_a_drop_point_leave_no_spread_rather_than_that_of_the_others():
    flat = drop_point([0, 0.5], np.zeros((2, 40)), 0.5, Resample.of(np.ones(40)))
    spread = drop_spread([*drawn(0.4, 0.5), flat])
    assert spread.sd is None and spread.low is None and spread.words.startswith("2 of 3 draws have a drop point")
    assert drop_spread(drawn(0.4)).sd is None and "one draw" in drop_spread(drawn(0.4)).words
