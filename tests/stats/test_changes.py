"""Differences of units between two models: bounds that hold however they are correlated, and the correction for many units."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.changes import corrected, gap_interval, gap_p, largest_changes, share_gap, share_p
from analysis.stats.intervals import mean_over_documents


def interval(y):
    found = mean_over_documents(y, np.ones(len(y)))
    return found.value, found.low, found.high


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.9, 1.0])
def test_the_interval_of_a_difference_holds_the_paired_one_whatever_the_correlation(correlation):
    random = np.random.default_rng(0)
    a, noise = random.normal(0.3, 1, 40), random.normal(0, 1, 40)
    b = correlation * a + np.sqrt(1 - correlation**2) * noise
    (_, low, high), (_, base_low, base_high), (_, paired_low, paired_high) = interval(a), interval(b), interval(a - b)
    found = gap_interval(low, high, base_low, base_high)
    assert found[0] <= paired_low + 1e-12
    assert found[1] >= paired_high - 1e-12


def test_the_bound_on_p_is_the_paired_t_test_where_both_move_against_each_other_and_larger_elsewhere():
    a = np.random.default_rng(1).normal(0.4, 1, 25)
    for b, exact in ((-a, True), (0.5 * a, False), (np.random.default_rng(2).normal(0, 1, 25), False)):
        (value, _, high), (base, _, base_high) = interval(a), interval(b)
        p = float(gap_p(value, high - value, base, base_high - base, 25))
        paired = float(stats.ttest_rel(a, b).pvalue)
        assert p == pytest.approx(paired) if exact else p > paired


def test_equal_numbers_give_p_of_one_and_different_ones_without_spread_none():
    assert gap_p([2.0, 2.0, 2.0], [0.0, 0.5, np.nan], [2.0, 3.0, 2.0], [0.0, 0.0, 0.1], 9)[[0, 2]] == pytest.approx(
        [1.0, np.nan], nan_ok=True
    )
    assert gap_p(2.0, 0.0, 3.0, 0.0, 9) == 0
    with pytest.raises(ValueError, match="at least 2, got 1"):
        gap_p(1, 1, 1, 1, 1)


def test_shares_by_hand():
    assert share_p(6, 0, 10) == pytest.approx(2 / 2**6)
    assert share_p([3, 0, 10], [3, 0, 10], 10).tolist() == [1, 1, 1]
    low, high = share_gap(10, 0, 10)
    edge = 0.0125 ** (1 / 10)  # Clopper and Pearson: 10 of 10 at 97.5 % two-sided
    assert low == pytest.approx(edge - (1 - edge))
    assert high == pytest.approx(1)
    with pytest.raises(ValueError, match="between 0 and the 10 documents"):
        share_p(11, 0, 10)


def test_no_arrangement_of_documents_has_a_larger_p_than_the_bound():
    n = 12
    for k in range(n + 1):
        for base in range(n + 1):
            bound = float(share_p(k, base, n))
            for both in range(max(0, k + base - n), min(k, base) + 1):
                only, other = k - both, base - both
                p = 1.0 if only + other == 0 else stats.binomtest(only, only + other).pvalue
                assert p <= bound + 1e-12, (k, base, both)


def test_the_correction_by_hand_and_missing_values_do_not_count():
    assert corrected([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.04, 0.04])
    assert corrected([0.01, np.nan, 0.04, 0.03])[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(corrected([np.nan])).all()


def test_of_units_without_any_change_few_are_called_changed():
    random = np.random.default_rng(3)
    called = 0
    for _ in range(40):
        a, b = random.normal(0, 1, (2, 30, 50))
        rows = [[*interval(x), *interval(y)] for x, y in zip(a, b, strict=True)]
        value, _, high, base, _, base_high = np.array(rows).T
        called += int((corrected(gap_p(value, high - value, base, base_high - base, 50)) < 0.05).any())
    assert called <= 2, "at most 5 % of experiments in which nothing changed"


def test_identical_units_have_no_largest_changes_and_ties_go_by_place():
    same = np.arange(5.0)
    assert largest_changes(same, same, 3).tolist() == []
    assert largest_changes([1, 5, 0, np.nan, 2], [0, 4, 0, 1, 0], 10).tolist() == [4, 0, 1]
    assert largest_changes([1, 5, 0], [0, 0, 0], 1).tolist() == [1]
    twos = np.random.default_rng(0).integers(1, 3, 1000)
    assert largest_changes(twos, np.zeros(1000), 20).tolist() == np.flatnonzero(twos == 2)[:20].tolist()
