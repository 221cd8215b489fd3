"""Sharing a level out at the least predicted loss: against every other way on a grid, and by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from analysis.stats.allocating import allocate, convexified


def test_a_hull_by_hand():
    s, loss = convexified([0.3, 0.5, 0.7], [0.3, 0.1, 0.9])
    assert s.tolist() == [0, 0.5, 0.7] and loss[1] == pytest.approx(0.2), "0.3 and 0.1 are pooled to 0.2 each; the hull skips the first"


def test_noise_below_zero_counts_as_nothing_and_infinite_levels_are_left_out():
    s, loss = convexified([0.3, 0.5, 0.7], [-0.2, 0.1, np.inf])
    assert s.tolist() == [0, 0.3, 0.5] and loss.tolist() == [0, 0, pytest.approx(0.1)]


def test_by_hand_the_cheap_matrix_goes_first_and_size_counts():
    cheap, dear = (np.array([0.0, 1.0]), np.array([0.0, 0.1])), (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    shares, predicted = allocate([dear, cheap], [100, 100], 0.5)
    assert shares.tolist() == [0, 1] and predicted == pytest.approx(0.1)
    shares, predicted = allocate([dear, cheap], [300, 100], 0.5)
    assert shares == pytest.approx([1 / 3, 1]) and predicted == pytest.approx(0.1 + 1 / 3)


def test_no_other_sharing_on_a_grid_is_predicted_to_cost_less():
    random = np.random.default_rng(0)
    levels, sizes = [0.25, 0.5, 0.75], [1, 2, 3]
    for _ in range(20):
        curves = [convexified(levels, np.sort(random.exponential(1, 3))) for _ in sizes]
        for target in (0.2, 0.5, 0.7):
            shares, predicted = allocate(curves, sizes, target)
            assert np.dot(shares, sizes) == pytest.approx(target * 6)
            assert predicted == pytest.approx(sum(np.interp(x, *c) for x, c in zip(shares, curves)))
            others = [
                sum(np.interp(x, *c) for x, c in zip(other, curves))
                for other in product(np.linspace(0, 0.75, 16), repeat=3)
                if np.dot(other, sizes) >= target * 6 - 1e-9
            ]
            assert predicted <= min(others) + 1e-9


def test_shares_grow_with_the_target():
    curves = [convexified([0.5, 1.0], [0.1, 0.5]), convexified([0.5, 1.0], [0.2, 0.3])]
    every = np.array([allocate(curves, [5, 7], target)[0] for target in np.linspace(0, 1, 21)])
    assert (np.diff(every, axis=0) >= -1e-12).all() and every[0].tolist() == [0, 0] and every[-1] == pytest.approx([1, 1])


def test_a_target_beyond_what_was_measured_is_refused():
    with pytest.raises(ValueError, match="at most 0.5"):
        allocate([convexified([0.5], [0.1])], [10], 0.6)
