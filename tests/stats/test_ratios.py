"""Per-layer densities against the values of METHODS A2, A3 and A6, and against plain sorting."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.ratios import (
    Infeasible,
    Magnitudes,
    densities,
    distance,
    erdos_renyi,
    floor_weights,
    is_collapsed,
    lamp_scores,
    magnitude_kept,
    n_removed,
    with_floor,
)

SHAPES3 = ((16, 3, 3, 3), (32, 16, 3, 3), (10, 32))
SIZES3 = np.array([432, 4608, 320])


@pytest.mark.parametrize(
    ("method", "density", "wanted"),
    [
        ("erk", 0.1, (0.256351, 0.051911, 0.581405)),
        ("erk", 0.2, (0.550867, 0.111551, 1.0)),
        ("er", 0.1, (0.328941, 0.077907, 0.109070)),
        ("er", 0.2, (0.657881, 0.155814, 0.218140)),
    ],
)
def test_er_and_erk_have_the_densities_of_the_methods(method, density, wanted):
    found = densities(SHAPES3, density, method)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert (found * SIZES3).sum() / SIZES3.sum() == pytest.approx(density, rel=1e-12)


@pytest.mark.parametrize(("density", "factor"), [(0.1, 4.429752), (0.2, 9.518987)])
def test_the_factor_of_erk_is_that_of_the_methods(density, factor):
    raw = np.array([25 / 432, 54 / 4608, 42 / 320])
    assert erdos_renyi(raw, SIZES3, density)[1] == pytest.approx(factor, abs=1e-6)


def test_layers_that_attain_the_same_maximum_become_dense_together():
    found = densities([(2, 2), (100, 100), (2, 2)], 0.05, "er")
    assert found[0] == found[2] == 1.0
    assert found[1] == pytest.approx((0.05 * 10008 - 8) / 10000)


def test_what_capped_layers_cannot_take_is_shared_by_the_others():
    """Twice over: the smallest becomes dense, then the next one, and the mean still is the target."""
    shapes = [(2, 2), (8, 8), (64, 64)]
    found, n = densities(shapes, 0.3, "er"), np.array([4, 64, 4096])
    assert found[:2].tolist() == [1, 1]
    assert (found * n).sum() / n.sum() == pytest.approx(0.3)


@pytest.mark.parametrize("method", ["uniform", "uniform+", "er", "erk"])
def test_everything_stays_at_density_one(method):
    assert densities(SHAPES3, 1.0, method).tolist() == [1, 1, 1]


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_matrix():
    assert densities(SHAPES3, 0.15, "uniform+") == pytest.approx([1.0, (0.15 * 5360 - 432 - 64) / 4608, 0.2])
    assert densities(SHAPES3, 0.3, "uniform+") == pytest.approx([1.0, (0.3 * 5360 - 432) / 4928, (0.3 * 5360 - 432) / 4928])
    assert densities([(10, 10), (10, 10)], 0.1, "uniform+") == pytest.approx([0.0, 0.2])


def test_uniform_plus_says_when_the_first_convolution_alone_is_too_much():
    with pytest.raises(Infeasible, match="density must be at least 0.0925"):
        densities(SHAPES3, 0.05, "uniform+")


def test_a_stack_of_experts_is_its_matrix_many_times():
    apart = densities([(8, 4), (8, 4), (64, 64)], 0.2, "er")
    stack = densities([(8, 4), (64, 64)], 0.2, "er", sizes=[64, 4096])
    assert stack == pytest.approx(apart[1:])


def test_power_zero_makes_erk_uniform():
    assert densities(SHAPES3, 0.1, "erk", power=0.0) == pytest.approx([0.1] * 3)


def test_vectors_and_unknown_methods_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="two axes or more"):
        densities([(5,)], 0.5, "uniform")
    with pytest.raises(ValueError, match="method must be one of uniform, "):
        densities(SHAPES3, 0.5, "magic")
    with pytest.raises(ValueError, match="density must be between 0 and 1, got 1.5"):
        densities(SHAPES3, 1.5, "erk")


def test_exactly_the_floor_goes_whatever_the_rounding_of_the_difference():
    assert [n_removed(10, d) for d in (0.9, 0.7, 0.3, 0.1, 0.95, 1.0, 0.0)] == [1, 3, 7, 9, 0, 0, 10]


# ---------------------------------------------------------------------------------------------------------------------
# Global magnitude, with and without a floor


def test_the_floor_has_the_sparsities_of_the_methods():
    n, s = [100, 1000, 10000], [0.98, 0.5, 0.95]
    least = floor_weights(sum(n), 0.1)
    assert least == 11
    assert with_floor(n, s, 0.9, 0) == pytest.approx([0.969519, 0.494652, 0.939840], abs=1e-6), "scaled once"
    found = with_floor(n, s, 0.9, least)
    assert found == pytest.approx([0.89, 0.49505, 0.940595], abs=1e-6)
    assert np.array(n) * (1 - found) == pytest.approx([11, 504.95, 594.05], abs=0.01)


def test_a_floor_that_exceeds_what_may_be_kept_is_infeasible():
    with pytest.raises(Infeasible, match=r"at most 0.9, got 0.95|at most 0.9 where"):
        with_floor([100, 100], [0.95, 0.95], 0.95, 10)
    assert with_floor([100, 100], [0.9, 0.9], 0.9, 10) == pytest.approx([0.9, 0.9])


def test_layers_smaller_than_the_floor_stay_whole():
    assert with_floor([5, 95, 900], [0.8, 0.5, 0.9], 0.8, 10)[0] == 0


def plain(layers, density):
    """Kept per layer by one stable sort of everything."""
    flat = np.concatenate([np.abs(w).ravel() for w in layers])
    gone = np.argsort(flat, kind="stable")[: n_removed(len(flat), density)]
    owner = np.repeat(np.arange(len(layers)), [w.size for w in layers])
    return np.array([w.size for w in layers]) - np.bincount(owner[gone], minlength=len(layers))


@pytest.fixture
def layers():
    rng = np.random.default_rng(0)
    return [np.round(rng.normal(0, scale, shape), 2) for scale, shape in ((1.0, (20, 30)), (0.2, (10, 10)), (3.0, 50))]


@pytest.mark.parametrize("density", [0.9, 0.5, 0.1, 0.01])
def test_global_magnitude_keeps_what_one_stable_sort_keeps(layers, density):
    """Rounded to two digits, so that there are ties within layers and across them."""
    kept = magnitude_kept([Magnitudes.of(np.where(w == 0, 0.004, w)) for w in layers], density, "global")
    assert kept.tolist() == plain([np.where(w == 0, 0.004, w) for w in layers], density).tolist()


def test_a_small_layer_collapses_under_global_magnitude_and_the_floor_repairs_it():
    weights = [np.full(100, 0.01), np.arange(1, 1001) / 10]
    counted = [Magnitudes.of(w) for w in weights]
    kept = magnitude_kept(counted, 0.5, "global")
    assert kept.tolist() == [0, 550]
    assert is_collapsed(kept, [100, 1000]).tolist() == [True, False]
    repaired = magnitude_kept(counted, 0.5, "global_floor", floor_percent=1.0)
    assert repaired.tolist() == [11, 539]
    assert not is_collapsed(repaired, [100, 1000]).any()


@pytest.mark.parametrize("method", ["global", "lamp", "global_floor"])
def test_zeros_go_first_and_no_sparsity_below_the_present_one_is_made(method):
    weights = [np.array([0, 0, 0, 1.0]), np.array([0, 0, 2.0, 3.0])]
    assert magnitude_kept([Magnitudes.of(w) for w in weights], 0.9, method, floor_percent=0.0).tolist() == [1, 2]


# ---------------------------------------------------------------------------------------------------------------------
# LAMP


def test_lamp_has_the_scores_of_the_methods_and_scale_does_not_matter():
    assert lamp_scores([3.0, -1.0, 2.0]) == pytest.approx([1, 0.071429, 0.307692], abs=1e-6)
    assert lamp_scores([3e-30, -1e-30, 2e-30]) == pytest.approx([1, 0.071429, 0.307692], abs=1e-6)
    assert lamp_scores(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert lamp_scores([[1.0, 1.0], [1.0, 1.0]]) == pytest.approx(np.array([[1 / 4, 1 / 3], [1 / 2, 1]]))


@pytest.mark.parametrize("density", [0.9, 0.5, 0.1, 0.01])
def test_lamp_keeps_what_sorting_all_its_scores_keeps(layers, density):
    layers = [np.where(w == 0, 0.004, w) for w in layers]
    scores = np.concatenate([lamp_scores(w).ravel() for w in layers])
    gone = np.argsort(scores, kind="stable")[: n_removed(len(scores), density)]
    owner = np.repeat(np.arange(len(layers)), [w.size for w in layers])
    wanted = np.array([w.size for w in layers]) - np.bincount(owner[gone], minlength=len(layers))
    found = magnitude_kept([Magnitudes.of(w) for w in layers], density, "lamp")
    assert found.sum() == wanted.sum()
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1), "scores that differ in the last digit may change places"


def test_lamp_never_empties_a_layer_as_long_as_each_may_keep_one():
    weights = [np.full(100, 0.01), np.arange(1, 1001) / 10, np.array([1e-9, 1e-9])]
    assert magnitude_kept([Magnitudes.of(w) for w in weights], 3 / 1102, "lamp").tolist() == [1, 1, 1]
    assert magnitude_kept([Magnitudes.of(w) for w in weights], 0.0, "lamp").tolist() == [0, 0, 0]


def test_the_distance_is_weighted_by_size():
    assert distance([0.5, 0.5], [0.5, 0.5], [1, 9]) == 0
    assert distance([1.0, 0.5], [0.5, 0.5], [9, 1]) == pytest.approx(0.45)
