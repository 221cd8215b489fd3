"""Which level comes next: planned against curves that are known in full."""

from __future__ import annotations

import math

import pytest

from analysis.interventions.levels import Estimate, Levels, numbers
from analysis.spec import UserError

EPS = (0.01, 0.05, 0.1)


def follow(levels, curve, error=0.0, spread=0.0):
    """All levels that are asked for when the truth is ``curve``, in order."""
    seen = {}
    while (level := levels.next(seen)) is not None:
        assert level not in seen and len(seen) < 100
        value = curve(level)
        seen[level] = Estimate(value, value - spread * value, value + spread * value, error if level else 0.0)
        assert len(seen) <= levels.expected(seen) + 30
    return list(seen)


def hinge(level):
    return max(0.0, 4 * (level - 0.53))


def test_a_fixed_list_is_measured_in_order_from_zero():
    assert follow(Levels.of("0.5, 0.2;0.9", EPS), hinge) == [0.0, 0.2, 0.5, 0.9]


def test_fixed_levels_go_on_after_a_collapse_unless_told_to_stop():
    collapsing = lambda s: 5.0 if s > 0.35 else 0.0  # noqa: E731
    assert follow(Levels.of("0.2, 0.4, 0.6, 0.8", EPS), collapsing) == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert follow(Levels.of("0.2, 0.4, 0.6, 0.8", EPS, stops=True), collapsing) == [0.0, 0.2, 0.4]
    assert follow(Levels.of("0.2, 0.4, 0.6, 0.8", EPS, stops=True), lambda s: 0.0) == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_crossings_are_bracketed_as_narrowly_as_asked():
    asked = sorted(follow(Levels.of("adaptive", EPS, resolution=0.0125), hinge))
    for eps in EPS:
        at = 0.53 + eps / 4
        below, above = max(x for x in asked if x <= at), min(x for x in asked if x > at)
        assert above - below <= 0.0125 + 1e-9
    assert len(asked) <= 17


def test_a_collapsed_model_is_not_measured_further():
    for collapsed in (math.inf, 5.0):
        asked = follow(Levels.of("adaptive", EPS), lambda s, worst=collapsed: worst if s > 0.35 else 0.0)
        assert max(asked) == 0.4


def test_a_flat_curve_is_followed_to_the_end_and_bisected_nowhere():
    assert follow(Levels.of("adaptive", EPS), lambda s: 0.0) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]


def test_levels_beyond_nine_tenths_are_only_for_curves_that_are_still_within():
    assert max(follow(Levels.of("adaptive", EPS), hinge)) == 0.9


def test_no_evaluation_is_spent_where_noise_hides_the_tolerance():
    noisy = follow(Levels.of("adaptive", EPS), hinge, error=0.05)
    quiet = follow(Levels.of("adaptive", EPS), hinge)
    assert len(noisy) < len(quiet) and noisy == [round(0.1 * i, 1) for i in range(10)]


def test_the_ends_of_the_band_are_bracketed_too():
    wide = sorted(follow(Levels.of("adaptive", (0.05,), resolution=0.0125), hinge, spread=0.9))
    at = 0.53 + 0.05 / 0.1 / 4  # the lower end of the band is a tenth of the value
    below, above = max(x for x in wide if x <= at), min(x for x in wide if x > at)
    assert above - below <= 0.025 + 1e-9


def test_what_comes_next_does_not_depend_on_the_order_of_what_was_measured():
    levels = Levels.of("adaptive", EPS)
    asked = follow(levels, hinge)
    half = {x: Estimate(hinge(x), hinge(x), hinge(x), 0.0) for x in reversed(asked[:11])}
    assert levels.next(half) == asked[11]


@pytest.mark.parametrize("text", ["", "a", "0.5, 1.2", "-0.1", "nan"])
def test_lists_that_are_none_are_refused_in_a_sentence(text):
    with pytest.raises(UserError, match="levels must be"):
        numbers(text, "levels", 0.0, 1.0)


def test_a_drop_point_close_to_zero_is_bracketed_to_a_quarter_of_itself():
    """Divergences rise steeply from the very first weights: at a bracket of 0.0125 the answer would be the interpolation's."""
    asked = sorted(follow(Levels.of("adaptive", (0.1,), resolution=0.0125), lambda s: 1.4 * s**0.5))
    at = (0.1 / 1.4) ** 2
    below, above = max(x for x in asked if x <= at), min(x for x in asked if x > at)
    assert above - below <= 0.25 * above and above < 0.01


def test_a_drop_point_close_to_zero_that_noise_hides_costs_nothing_either():
    asked = follow(Levels.of("adaptive", (0.01,)), lambda s: 0.12 * s, error=0.009)
    assert asked[:3] == [0, 0.1, 0.2] and not [x for x in asked if 0 < x < 0.1]
