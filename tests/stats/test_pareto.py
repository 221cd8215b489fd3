"""The front of points that should be small in two ways, by hand."""

import numpy as np

from analysis.stats.pareto import pareto_front


def test_what_another_beats_in_one_and_equals_in_the_other_is_not_on_the_front():
    cost, loss = [1.0, 0.8, 0.8, 0.5, 0.9], [0.0, 0.1, 0.2, 0.4, 0.1]
    assert pareto_front(cost, loss).tolist() == [True, True, False, True, False]


def test_equal_points_stay_together_and_one_point_is_a_front():
    assert pareto_front([1.0, 1.0], [2.0, 2.0]).all() and pareto_front([3.0], [4.0]).all()


def test_a_point_that_is_no_number_is_on_no_front_and_beats_nothing():
    assert pareto_front([0.1, 1.0, 0.0], [np.inf, 0.0, np.nan]).tolist() == [False, True, False]
