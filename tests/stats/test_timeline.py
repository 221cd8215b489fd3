"""Jumps, schedules and phases of a series: METHODS A1 (b) and A4 by hand, and what must not be called a jump."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.stats.timeline import cubic, is_abrupt, largest_jump, linear, phases, schedule

STEPS = list(range(0, 1100, 100))
CUBIC = [cubic(t, 0, 1000, 0.0, 0.9) for t in STEPS]


def test_the_jump_of_methods_a1():
    jump = largest_jump([0.10, 0.12, 0.11, 0.45, 0.46])
    assert jump is not None and jump.place == 3 and jump.size == pytest.approx(0.34)
    assert is_abrupt([0.10, 0.12, 0.11, 0.45, 0.46], [1, 2, 3, 4, 5])


def test_the_cubic_schedule_of_methods_a4():
    found = [cubic(t, 0, 10, 0.0, 0.9) for t in (0, 2, 5, 8, 10)]
    assert found == pytest.approx([0, 0.4392, 0.7875, 0.8928, 0.9], abs=1e-12)
    assert cubic(-5, 0, 10, 0.1, 0.9) == 0.1 and cubic(50, 0, 10, 0.1, 0.9) == 0.9
    assert [linear(t, 0, 10, 0.0, 0.9) for t in (-1, 5, 11)] == [0.0, pytest.approx(0.45), pytest.approx(0.9)]


SMOOTH = {
    "a cubic schedule": (STEPS, CUBIC),
    "a straight line": (STEPS, [t / 2000 for t in STEPS]),
    "a logistic curve": (STEPS, [1 / (1 + math.exp(-(t - 500) / 80)) for t in STEPS]),
    "a constant": (STEPS, [0.3] * len(STEPS)),
    "noise of two points": (STEPS, (0.3 + np.random.default_rng(0).uniform(-0.01, 0.01, len(STEPS))).tolist()),
    "a line with checkpoints missing": ([0, 100, 200, 900, 1000], [0.0, 0.05, 0.1, 0.45, 0.5]),
    "a logarithm at doubling steps": ([2**k for k in range(10)], [k / 20 for k in range(10)]),
    "a fall": (STEPS, [0.9 if t < 500 else 0.1 for t in STEPS]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_no_jump_is_reported_on_what_has_none(name):
    steps, values = SMOOTH[name]
    assert is_abrupt(values, steps) is False


@pytest.mark.parametrize("at", range(1, 11))
def test_a_planted_jump_is_found_wherever_it_is(at):
    values = [0.1 + 0.002 * i + (0.3 if i >= at else 0.0) for i in range(11)]
    jump = largest_jump(values)
    assert jump is not None and jump.place == at and jump.size == pytest.approx(0.302)
    assert is_abrupt(values, STEPS)


@pytest.mark.parametrize(
    ("values", "abrupt"),
    [
        ([0.0, 0.0, 0.0501, 0.0501], True),  # a little more than five points
        ([0.0, 0.0, 0.0499, 0.0499], False),
        ([0.0, 0.1, 0.5, 0.5], True),  # four times the change before it
        ([0.0, 0.1, 0.39, 0.39], False),  # 2.9 times
        ([0.0, 0.0, 0.4, 0.5], True),  # four times the change after it
        ([0.0, 0.0, 0.29, 0.39], False),
        ([0.4, 0.0, 0.5, 0.5], False),  # what fell came back: the change beside it is as large, downwards
        ([0.0, 0.0, 0.5, 0.1], False),
    ],
)
def test_a_jump_is_five_points_and_three_times_the_changes_on_both_sides(values, abrupt):
    assert is_abrupt(values, [10, 20, 30, 40]) is abrupt


def test_a_jump_must_stand_out_per_step_and_as_it_is():
    """First: 0.4 over 100 steps beside 0.1 over 10, per step less than its neighbour; then 0.4 over 1 step beside 0.2 over 100."""
    assert is_abrupt([0.0, 0.1, 0.5, 0.5], [0, 10, 110, 120]) is False
    assert is_abrupt([0.0, 0.2, 0.6, 0.6], [0, 100, 101, 102]) is False


def test_too_few_checkpoints_are_undecided():
    assert is_abrupt([0.0, 0.0, 0.9], [1, 2, 3]) is None
    assert is_abrupt([0.0, 0.0, 0.9, 0.9], [1, 2, 3, 4]) is True, "four are enough"
    assert largest_jump([0.5]) is None


def test_a_series_pruned_by_the_cubic_schedule_does_not_deviate_and_by_a_line_does():
    found = schedule(STEPS, CUBIC)
    assert found is not None
    assert (found.begin, found.end) == (0, 1000) and found.deviation == pytest.approx(0, abs=1e-12)
    assert found.linear_deviation == pytest.approx(max(s - 0.9 * t / 1000 for s, t in zip(CUBIC, STEPS)))
    line = schedule(STEPS, [linear(t, 200, 800, 0.0, 0.8) for t in STEPS])
    assert line is not None and (line.begin, line.end, line.n_between) == (200, 800, 5)
    assert line.linear_deviation == pytest.approx(0)
    # cubic minus line is largest where (1 - x)^2 = 1/3; of the checkpoints x = k/6: .8 (1 - 1/8 - 1/2) at x = 1/2
    assert line.deviation == pytest.approx(0.8 * 0.375) and STEPS[line.place] == 500


def test_sparsity_that_hardly_rises_follows_no_schedule():
    assert schedule(STEPS, [0.3] * 11) is None
    assert schedule(STEPS, [0.9 - 0.05 * i for i in range(11)]) is None


def test_a_rise_of_two_points_follows_a_schedule_and_one_of_less_than_a_point_does_not():
    assert schedule([1, 2, 3], [0.3, 0.31, 0.32]) is not None
    assert schedule([1, 2, 3], [0.3, 0.304, 0.3099]) is None


def test_the_ends_of_a_schedule_are_where_it_has_all_but_begun_and_all_but_ended():
    """Of a rise of 0.9, 0.0045 count as not begun and all but 9e-6 as ended; what happens after the end does not move the begin."""
    begun, ended = schedule([1, 2, 3, 4], [0.0, 0.004, 0.5, 0.9]), schedule([1, 2, 3, 4], [0.0, 0.5, 0.899995, 0.9])
    assert begun is not None and (begun.begin, begun.end) == (2, 4)
    assert ended is not None and (ended.begin, ended.end) == (1, 3)
    again = schedule([1, 2, 3, 4], [0.0, 0.5, 0.0, 0.5])
    assert again is not None and (again.begin, again.end) == (1, 2) and (again.deviation, again.place) == (0.5, 2)


def test_below_the_line_counts_as_off_it():
    found = schedule([0, 1, 2], [0.0, 0.1, 0.9])
    assert found is not None and found.linear_deviation == pytest.approx(0.35)
    assert found.deviation == pytest.approx(0.9 * 7 / 8 - 0.1)


def test_one_step_pruning_has_nothing_between_to_tell_schedules_apart():
    found = schedule([1, 2, 3], [0.0, 0.5, 0.5])
    assert found is not None and found.n_between == 0 and found.deviation == 0


def test_phases_by_hand():
    assert phases([5, 3, 1, 2, 6, 5], 0.5) == [(0, 2, "falls"), (2, 4, "rises"), (4, 5, "falls")]
    assert phases([5, 3, 1, 2, 6, 5], 1.0) == [(0, 2, "falls"), (2, 5, "rises")], "a move back within the tolerance is no turn"
    assert phases([0, 3, 1, 2, 3], 0.5) == [(0, 1, "rises"), (1, 2, "falls"), (2, 4, "rises")], "a turn is at the extreme"
    assert phases([1, 1.2, 0.9, 1.1], 0.5) == [(0, 3, "flat")]
    assert phases([0, 0.5], 0.5) == phases([0.5, 0], 0.5) == [(0, 1, "flat")], "a move of just the tolerance is none"
    assert phases([3, 2, 3.5, 4], 0.75) == [(0, 1, "falls"), (1, 3, "rises")], "the way is told from the lowest so far"
    assert phases([2, 3, 1.5, 1], 0.75) == [(0, 1, "rises"), (1, 3, "falls")]
    assert phases([1, 2, 3], 0.1) == [(0, 2, "rises")]
    assert phases([1], 0.1) == []
