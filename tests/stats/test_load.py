"""How evenly experts are used, against numbers computed by hand."""

from __future__ import annotations

import pytest

from analysis.stats.load import evenness, imbalance


def test_three_to_one_by_hand():
    assert imbalance([3, 1]) == pytest.approx(0.5)  # std 1, mean 2
    assert evenness([3, 1]) == pytest.approx(0.811278, abs=1e-6)  # -(3/4 log2 3/4 + 1/4 log2 1/4)


def test_equal_counts_are_even():
    assert imbalance([5, 5, 5]) == 0
    assert evenness([5, 5, 5]) == pytest.approx(1)


def test_one_expert_that_has_everything_is_as_uneven_as_can_be():
    assert imbalance([0, 8, 0, 0, 0]) == pytest.approx(4**0.5)
    assert evenness([0, 8, 0, 0, 0]) == 0


def test_idle_experts_count():
    assert evenness([4, 4, 0, 0]) == pytest.approx(0.5)
    assert imbalance([4, 4, 0, 0]) == pytest.approx(1)


def test_nothing_is_said_of_no_tokens_and_of_a_single_expert():
    assert imbalance([0, 0]) is None
    assert evenness([0, 0]) is None
    assert evenness([7]) is None
