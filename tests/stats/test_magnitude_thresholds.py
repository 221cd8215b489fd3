"""Thresholds from counts by key are those of sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.magnitudes import MagnitudeCounts, inside, threshold_keys
from analysis.stats.ratios import Magnitudes, magnitude_kept, n_removed


def weights(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator) * scale for shape, scale in (((40, 50), 1.0), ((30, 30), 0.3), ((700,), 2.0))]
    made[1][:3] = 0
    return [w.to(dtype) for w in made]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_counted_exactly(dtype):
    for w in weights(dtype):
        found, wanted = MagnitudeCounts.of(w), Magnitudes.of(w.double().numpy())
        assert found.exact
        assert found.magnitudes().values.tolist() == wanted.values.tolist()
        assert found.magnitudes().counts.tolist() == wanted.counts.tolist()


def test_half_precision_below_the_normal_range_is_exact_too():
    tiny = torch.arange(0, 200, dtype=torch.int16).view(torch.float16)
    found = MagnitudeCounts.of(tiny).magnitudes()
    assert found.values.tolist() == tiny.double().tolist()


def test_wider_types_are_within_their_key_and_said_not_to_be_exact():
    w = weights()[0]
    found = MagnitudeCounts.of(w)
    assert not found.exact
    values = np.sort(w.abs().double().numpy().ravel())
    assert np.repeat(found.magnitudes().values, found.counts) == pytest.approx(values, rel=2**-12)
    assert MagnitudeCounts.of(w.half().float()).exact, "stored wide, but of sixteen bits"
    assert not MagnitudeCounts.of(torch.tensor([1.0 + 1e-12], dtype=torch.float64)).exact


def test_slices_change_nothing():
    w = weights()[1]
    one, two = MagnitudeCounts.of(w), MagnitudeCounts.of_slices(w.split(7))
    assert one.keys.tolist() == two.keys.tolist()
    assert one.counts.tolist() == two.counts.tolist()
    assert one.n_zero == two.n_zero == 90
    assert one.n_weights == 900


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("density", [0.99, 0.6, 0.1, 0.0])
def test_a_global_threshold_inside_a_key_is_found_exactly(dtype, density):
    tensors = weights(dtype)
    counted = [MagnitudeCounts.of(w) for w in tensors]
    remove = n_removed(sum(c.n_weights for c in counted), density)
    [key] = threshold_keys(counted, [remove])
    reduced = [c.split_at(key, inside([w], [key])[key]) for c, w in zip(counted, tensors)]
    wanted = magnitude_kept([Magnitudes.of(w.double().numpy()) for w in tensors], density, "global")
    assert magnitude_kept(reduced, density, "global").tolist() == wanted.tolist()
    assert [r.n for r in reduced] == [c.n_weights for c in counted]


def test_lamp_from_keys_is_lamp_but_for_the_width_of_a_key():
    tensors = weights()
    counted = [MagnitudeCounts.of(w).magnitudes() for w in tensors]
    wanted = magnitude_kept([Magnitudes.of(w.double().numpy()) for w in tensors], 0.4, "lamp")
    assert magnitude_kept(counted, 0.4, "lamp").tolist() == pytest.approx(wanted.tolist(), abs=3)


def test_what_is_not_finite_counts_as_the_largest():
    w = torch.tensor([1.0, float("nan"), float("-inf"), 0.0])
    found = MagnitudeCounts.of(w)
    assert (found.n_weights, found.n, found.n_zero) == (4, 2, 1)
    assert magnitude_kept([found.magnitudes()], 0.5, "global").tolist() == [2]
    assert np.isfinite(found.magnitudes().values).all()


def test_a_threshold_among_zeros_needs_no_key():
    assert threshold_keys([MagnitudeCounts.of(torch.tensor([0.0, 0.0, 1.0]))], [2, 1]) == [0, 0]


def test_what_is_not_finite_goes_last_and_is_then_found_as_the_largest():
    w = torch.tensor([1.0, float("nan"), float("-inf"), 0.0])
    found = MagnitudeCounts.of(w)
    [key] = threshold_keys([found], [3])
    split = found.split_at(key, inside([w], [key])[key])
    assert split.values.tolist() == [0.0, pytest.approx(split.values[1]), pytest.approx(3.4028234663852886e38)]
    assert split.counts.tolist() == [1, 1, 2]


def test_denormal_numbers_are_tiny_and_no_zeros():
    w = torch.tensor([0.0, 0.0, 1e-44, 1.0])
    found = MagnitudeCounts.of(w)
    assert (found.n_zero, found.n_tiny, found.n) == (2, 1, 4)
    assert found.magnitudes().counts.tolist() == [2, 1, 1] and (found.magnitudes().values[1:] > 0).all()
    assert MagnitudeCounts.of(torch.tensor([0.0, 1e-60], dtype=torch.float64)).n_zero == 1
