import numpy as np
import pytest

from analysis.stats.moments import Moments, Spread, central_of_shifted, merge_moments


def powers(x, shift):
    return [((x - shift) ** p).sum() for p in (1, 2, 3, 4)]


@pytest.mark.parametrize("shift", [0.0, 2.0, -7.0])
def test_central_sums_do_not_depend_on_the_shift(shift):
    """1, 2, 6 by hand: mean 3, deviations -2, -1, 3."""
    x = np.array([1.0, 2.0, 6.0])
    assert central_of_shifted(3, shift, *powers(x, shift)) == pytest.approx((3, 14, 18, 98), rel=1e-12)


def test_a_far_mean_keeps_its_digits_when_the_shift_is_the_mean_of_the_first_numbers():
    """The worst case: the first 32 are all alike, the others a thousand spreads away."""
    x = np.concatenate([np.full(32, 1000.0), np.random.default_rng(0).normal(2000, 1, 5000)])
    away = x - x.mean()
    wanted = (x.mean(), *((away**p).sum() for p in (2, 3, 4)))
    np.testing.assert_allclose(central_of_shifted(len(x), 1000.0, *powers(x, 1000.0)), wanted, rtol=1e-11)


def test_a_constant_has_no_spread_at_all():
    x = np.full(77, 0.1)
    assert central_of_shifted(77, 0.1, *powers(x, 0.1)) == (0.1, 0.0, 0.0, 0.0)


def test_spread_is_moments_without_the_higher_ones():
    rng = np.random.default_rng(0)
    first, second = (Moments.of(rng.normal(3, 2, (n, 4))) for n in (9, 30))
    spread = Spread.zeros(4)
    for part in (first, second):
        spread.merge(part)
    first.merge(second)
    for name, wanted in spread.result().items():
        np.testing.assert_allclose(first.result()[name], wanted, rtol=1e-12)
    assert set(first.result()) - set(spread.result()) == {"skewness", "excess_kurtosis"}


def test_merging_nothing_changes_nothing():
    assert merge_moments(3, 3.0, 14.0, 18.0, 98.0, 0, 0.0, 0.0, 0.0, 0.0) == (3, 3.0, 14.0, 18.0, 98.0)
