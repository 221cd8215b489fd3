"""Thresholds over batch-norm scales: the value of METHODS A19, planted groups, edge cases."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats import scales


def test_slimming_removes_exactly_the_floor_as_the_original_counts():
    gamma = [0.001, 0.5, 1.0]
    threshold = scales.slimming_threshold(gamma, 0.34)
    assert threshold == 0.001
    assert scales.n_kept(gamma, threshold) == 2
    assert scales.slimming_threshold(gamma, 0.3) is None
    assert scales.n_kept(gamma, None) == 3
    assert scales.n_kept(gamma, scales.slimming_threshold(gamma, 1.0)) == 1, "one channel is always kept"


def test_signs_do_not_matter():
    assert scales.slimming_threshold([-3.0, 1.0, 2.0], 0.7) == 2


def test_the_energy_threshold_parts_two_planted_groups():
    rng = np.random.default_rng(0)
    gamma = np.concatenate([rng.uniform(1e-5, 1e-4, 20), rng.uniform(0.5, 1, 12)])
    threshold = scales.energy_threshold(gamma)
    assert 1e-4 < threshold < 0.5
    assert scales.n_kept(gamma, threshold) == 12
    assert scales.gap_ratio(gamma) > 1000


def test_a_layer_of_tiny_scales_goes_as_a_whole_and_equal_scales_stay():
    assert scales.energy_threshold([1e-4, 2e-4]) == 1
    assert scales.n_kept(np.ones(8), scales.energy_threshold(np.ones(8))) == 8
    assert scales.gap_ratio(np.ones(8)) == 1
    assert scales.gap_ratio([0.0, 2.0]) is None


@pytest.mark.parametrize("gamma", [[], [np.nan, 1.0]])
def test_scales_that_are_no_numbers_are_refused(gamma):
    with pytest.raises(ValueError, match="scales must be finite"):
        scales.slimming_threshold(gamma, 0.5)
