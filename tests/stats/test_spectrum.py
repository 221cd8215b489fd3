"""Singular values and what they say, against METHODS A16 and plain linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats import spectrum as module
from analysis.stats.spectrum import (
    break_even_rank,
    choose,
    effective_rank,
    energy,
    errors,
    gram_of_slices,
    numerical_rank,
    random_stable_rank,
    rank_at,
    rank_for_error,
    rank_grid,
    singular_values,
    spectrum_of_gram,
    stable_rank,
)


@pytest.fixture
def steep():
    """A 60 x 40 matrix with singular values 1, 1/2, 1/4, ..."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(60, 40, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64, generator=generator)).Q
    return left @ torch.diag(0.5 ** torch.arange(40, dtype=torch.float64)) @ right.T


def test_the_diagonal_of_the_methods():
    found = singular_values(torch.diag(torch.tensor([4.0, 3.0, 0.0])))
    assert found.values == pytest.approx([4, 3, 0])
    assert errors(found) == pytest.approx([1, 0.6, 0, 0])
    assert stable_rank(found) == pytest.approx(1.5625)
    assert effective_rank(found) == pytest.approx(1.979626, abs=1e-6)
    assert energy(found) == pytest.approx([16 / 25, 1, 1])
    assert numerical_rank(found, 1e-7) == 2
    assert (found.exact, found.n_computed, found.size) == (True, 3, 3)


def test_equal_directions_have_the_largest_ranks_and_one_direction_the_smallest():
    full, one = singular_values(torch.eye(7)), singular_values(torch.outer(torch.arange(1.0, 6), torch.ones(4)))
    assert stable_rank(full) == pytest.approx(7)
    assert effective_rank(full) == pytest.approx(7)
    assert stable_rank(one) == pytest.approx(1)
    assert effective_rank(one) == pytest.approx(1)
    assert rank_for_error(one, 1e-6) == 1
    assert numerical_rank(one, 1e-6) == 1


def test_the_zero_matrix_has_no_stable_rank_and_nothing_to_lose():
    found = singular_values(torch.zeros(3, 5))
    assert stable_rank(found) is None
    assert effective_rank(found) is None
    assert errors(found).tolist() == [0, 0, 0, 0]
    assert energy(found).tolist() == [1, 1, 1]
    assert numerical_rank(found, 1e-7) == 0


def test_a_random_matrix_has_the_stable_rank_that_theory_gives():
    torch.manual_seed(0)
    found = stable_rank(singular_values(torch.randn(900, 300)))
    assert found == pytest.approx(random_stable_rank(900, 300), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_scale_and_transposition_change_nothing(dtype):
    torch.manual_seed(0)
    w = torch.randn(30, 20).to(dtype)
    one, two = singular_values(w), singular_values((w * 8).T)
    assert stable_rank(one) == pytest.approx(stable_rank(two))
    assert effective_rank(one) == pytest.approx(effective_rank(two))
    assert np.linalg.svd(w.double().numpy(), compute_uv=False) == pytest.approx(one.values)


# ---------------------------------------------------------------------------------------------------------------------
# Three ways, one answer


def test_the_way_is_chosen_by_size():
    assert choose((576, 1536)) == "svd"
    assert choose((49152, 576)) == choose((576, 49152)) == choose((2048, 2048)) == "gram"
    assert choose((8192, 5000)) == "randomised"
    assert choose((40, 60), limit=39) == "randomised"


@pytest.mark.parametrize("transpose", [False, True])
def test_the_gram_matrix_of_slices_gives_the_singular_values(steep, monkeypatch, transpose):
    monkeypatch.setattr(module, "TALL", 1)
    monkeypatch.setattr(module, "SLICE", 7 * 40)
    found = singular_values(steep.T if transpose else steep)
    assert found.method == "gram"
    assert found.values[:20] == pytest.approx(0.5 ** np.arange(20), rel=1e-4), "down to 1e-6 of the largest"
    assert found.values[24:] == pytest.approx(np.zeros(16), abs=1e-7), "below, they are noise"
    assert stable_rank(found) == pytest.approx(4 / 3, rel=1e-12)
    assert effective_rank(found) == pytest.approx(effective_rank(singular_values(torch.diag(0.5 ** torch.arange(40.0)))), rel=1e-5)
    assert found.square_sum == pytest.approx(4 / 3, rel=1e-12)


def test_an_ill_conditioned_gram_matrix_does_not_invent_rank():
    """Rank 3 plus nothing: squared rounding errors stay below what counts as rank."""
    torch.manual_seed(0)
    w = torch.randn(500, 3, dtype=torch.float64) @ torch.randn(3, 50, dtype=torch.float64)
    found = singular_values(w)
    assert found.method == "gram"
    assert numerical_rank(found, 1e-16) == 3


def test_slices_that_never_were_one_matrix_in_memory():
    torch.manual_seed(0)
    w = torch.randn(500, 8)
    found = spectrum_of_gram(gram_of_slices(iter(w.split(64)), 8), (500, 8))
    assert found.values == pytest.approx(torch.linalg.svdvals(w.double()).numpy(), rel=1e-9)


def test_the_randomised_values_are_those_of_the_largest_directions_and_never_larger(steep):
    found = singular_values(steep, limit=39, largest=10)
    assert (found.method, found.exact, found.n_computed, found.size) == ("randomised", False, 10, 40)
    assert found.values == pytest.approx(0.5 ** np.arange(10), rel=1e-5)
    assert found.square_sum == pytest.approx(4 / 3, rel=1e-12), "the norm is exact"
    assert stable_rank(found) == pytest.approx(4 / 3, rel=1e-5)
    assert effective_rank(found) is None, "needs all values"
    assert rank_for_error(found, 0.1) == 4
    assert rank_for_error(found, 1e-6) is None
    assert numerical_rank(found, 1e-7) is None
    torch.manual_seed(0)
    flat = torch.randn(200, 150)
    some, every = singular_values(flat, limit=100, largest=20), singular_values(flat)
    assert (some.values <= every.values[:20] * (1 + 1e-6)).all()
    assert some.values[0] == pytest.approx(every.values[0], rel=0.02), "a flat spectrum is the hard case"
    assert (errors(some) >= errors(every)[:21] - 1e-7).all()


def test_the_same_seed_gives_the_same_values():
    w = torch.randn(60, 50, generator=torch.Generator().manual_seed(1))
    one, two, other = (singular_values(w, limit=10, largest=5, seed=s).values for s in (0, 0, 1))
    assert one.tolist() == two.tolist()
    assert one.tolist() != other.tolist()


def test_the_errors_of_a_full_rank_are_zero_and_of_none_one(steep):
    found = errors(singular_values(steep))
    assert found[0] == 1
    assert found[-1] == 0
    assert (np.diff(found) <= 0).all()
    assert found[10] == pytest.approx(0.5**10, rel=1e-6), "small errors keep their digits"


def test_break_even_is_where_two_factors_hold_as_many_numbers():
    assert break_even_rank(576, 576) == 288
    assert break_even_rank(1536, 576) == 418
    assert break_even_rank(1, 10) == 0
    assert rank_at(1536, 576, 0.5) == 209
    assert rank_at(4, 4, 1.0) == 2
    assert rank_at(2, 2, 0.1) == 0


def test_the_ranks_of_a_curve_have_both_ends_and_no_gap_at_the_start():
    assert rank_grid(5) == [1, 2, 3, 4, 5]
    grid = rank_grid(576)
    assert grid[:4] == [1, 2, 3, 4]
    assert grid[-1] == 576
    assert len(grid) <= 48


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 3), torch.zeros(2, 2, 2)])
def test_what_is_no_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="two axes and at least one entry"):
        singular_values(bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    w = torch.ones(5, 50)
    w[2, 2] = value
    for way in (w, w[:, :5]):
        with pytest.raises(ValueError, match="must be finite"):
            singular_values(way)
