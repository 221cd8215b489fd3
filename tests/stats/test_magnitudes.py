"""Counts of magnitudes: exact order statistics of 16-bit types, bounded ones of float32, and the Gini index of METHODS B13."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.histogram import CENTRE, bin_index
from analysis.stats.magnitudes import N_KEYS, MagnitudeCounts, key_low
from analysis.stats.sparsity import gini


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_order_statistics_of_16_bit_types_are_those_of_a_sort(dtype):
    torch.manual_seed(0)
    values = (torch.randn(4000) * 0.05).to(dtype)
    counts = MagnitudeCounts.of(values)
    ordered = values.abs().double().sort().values.numpy()
    assert counts.exact
    for k in (1, 2, 999, 2000, 3999, 4000):
        tie = counts.rank(k)
        assert tie.low == tie.high == ordered[k - 1]
        assert tie.below == (ordered < ordered[k - 1]).sum()
        assert tie.inside == (ordered == ordered[k - 1]).sum()
    for bar in (0.0, 1e-3, float(ordered[1234]), 1.0):
        assert counts.n_up_to(bar) == (ordered <= bar).sum()


def test_every_16_bit_magnitude_has_a_key_of_its_own():
    patterns = torch.arange(32768, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        values = patterns.view(dtype)
        finite = values[values.isfinite()]
        if dtype is torch.bfloat16:
            finite = finite[(finite == 0) | (finite.float() >= 2.0**-126)]
        counts = MagnitudeCounts.of(finite)
        assert counts.counts.tolist() == [1] * len(finite)
        assert counts.lows.tolist() == finite.double().tolist()


def test_a_rank_of_float32_lies_in_its_bin_with_exact_counts_around_it():
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    counts, ordered = MagnitudeCounts.of(values), np.sort(np.abs(values))
    assert not counts.exact
    for k in (1, 500, 25_000, 50_000):
        tie = counts.rank(k)
        assert tie.low <= ordered[k - 1] < tie.high
        assert tie.high <= tie.low * (1 + 2**-11)
        assert tie.below == (ordered < tie.low).sum()
        assert tie.below < k <= tie.below + tie.inside
        assert counts.below(float(ordered[k - 1])) == tie
    bar = float(ordered[777])
    assert 0 <= (ordered <= bar).sum() - counts.n_up_to(bar) <= counts.below(bar).inside


def test_counts_of_two_tensors_add_up_to_those_of_both():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=1000).astype(np.float32), rng.laplace(size=700).astype(np.float32)
    merged = MagnitudeCounts.of(a)
    merged.merge(MagnitudeCounts.of(b))
    both = MagnitudeCounts.of(np.concatenate([a, b]))
    assert (merged.keys.tolist(), merged.counts.tolist(), merged.exact) == (both.keys.tolist(), both.counts.tolist(), False)
    mixed = MagnitudeCounts.of(torch.zeros(3, dtype=torch.float16))
    assert mixed.exact
    mixed.merge(merged)
    assert not mixed.exact
    assert mixed.n_zero == 3


def test_values_that_are_no_numbers_are_counted_apart_and_empty_slices_change_nothing():
    counts = MagnitudeCounts.of(np.array([1.0, np.nan, -np.inf, 0.0], np.float32))
    assert (counts.n, counts.n_zero, counts.n_nonfinite) == (2, 1, 2)
    counts.add(np.zeros((0, 3), np.float32))
    assert counts.n == 2
    assert MagnitudeCounts.of(np.array([1e300])).n == 1, "float64 beyond float32 counts as its largest number"


def test_ranks_outside_of_the_counts_are_refused():
    counts = MagnitudeCounts.of(np.ones(3, np.float32))
    for k in (0, 4):
        with pytest.raises(ValueError, match="k must be between 1 and 3"):
            counts.rank(k)


@pytest.mark.parametrize(
    ("c", "wanted"), [([1, 1, 1, 1], 0), ([1, 0, 0, 0], 0.75), ([1, 1, 0, 0], 0.5), ([1, 2, 3, 4], 0.25), ([3, 4], 0.071429)]
)
def test_the_gini_index_from_counts_has_the_hand_computed_values(c, wanted):
    assert float(MagnitudeCounts.of(torch.tensor(c, dtype=torch.bfloat16)).gini().value) == pytest.approx(wanted, abs=1e-6)


def test_the_gini_index_of_counts_is_that_of_a_sort():
    torch.manual_seed(0)
    half = torch.randn(10_000).to(torch.bfloat16)
    assert MagnitudeCounts.of(half).gini().value == pytest.approx(float(gini(half.float()).value), abs=1e-12)
    wide = torch.randn(200_000)
    found = MagnitudeCounts.of(wide).gini()
    assert found.value == pytest.approx(float(gini(wide).value), abs=1e-6)
    assert found.value == pytest.approx(2**0.5 - 1, abs=3e-3), "of a normal distribution"
    assert not MagnitudeCounts.of(torch.zeros(5)).gini().defined


def test_fixed_bins_are_those_of_the_values_themselves():
    values = np.random.default_rng(2).lognormal(-3, 4, 20_000).astype(np.float32)
    values[:7] = (0, 2.0**-20, 1.0, 1.125, 4096, 5000, 1e-9)
    assert MagnitudeCounts.of(values).fixed_bins().tolist() == np.bincount(bin_index(values) - CENTRE, minlength=258).tolist()


def test_keys_are_in_the_order_of_their_magnitudes():
    lows = key_low(np.arange(N_KEYS // 256 * 255))
    assert (np.diff(lows) > 0).all()
    assert lows[0] == 0
