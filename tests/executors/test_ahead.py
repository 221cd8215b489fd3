"""Which levels may be measured ahead of time: those that one process would ask for, as far as can be told."""

from __future__ import annotations

import pytest

from analysis.interventions.levels import Estimate, Levels

EPS = (0.01, 0.05, 0.1)


def measured(value, error=0.0001):
    return Estimate(value, value - 2 * error, value + 2 * error, error)


def truth(level):
    """A loss that grows like the fourth power."""
    return measured(level**4)


@pytest.mark.parametrize("text", ["adaptive", "0.25, 0.5, 0.75"])
def test_the_first_level_ahead_is_the_next_one_all_the_way(text):
    levels, curve = Levels.of(text, EPS), {}
    while (level := levels.next(curve)) is not None:
        ahead = list(levels.ahead(curve))
        assert ahead[0] == level and len(set(ahead)) == len(ahead) and not set(ahead) & set(curve)
        curve[level] = truth(level)
    assert not list(levels.ahead(curve))


def test_a_bisection_can_be_worked_on_at_every_tolerance_at_once():
    levels, curve = Levels.of("adaptive", EPS), {}
    while (level := levels.next(curve)) in (0.0, *(round(i / 10, 1) for i in range(10))):
        curve[level] = truth(level)
    middles = list(levels.ahead(curve))
    assert middles[:3] == [0.35, 0.45, 0.55], "0.01, 0.05 and 0.1 lie at 0.316, 0.473 and 0.562"
    wanted = set()
    while (level := levels.next(curve)) is not None:
        wanted.add(level)
        curve[level] = truth(level)
    assert set(middles) <= wanted, "none of them was measured in vain"


def test_nothing_is_ahead_once_the_loss_has_collapsed():
    levels = Levels.of("0.3, 0.6, 0.9", EPS, stops=True)
    assert list(levels.ahead({0.0: measured(0), 0.3: measured(0.1)})) == [0.6, 0.9]
    assert list(levels.ahead({0.0: measured(0), 0.3: measured(9.0)})) == []
