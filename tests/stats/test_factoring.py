"""Sparse plus low rank, and dense times sparse, on matrices that are exactly that (METHODS A16)."""

from __future__ import annotations

import pytest
import torch

from analysis.stats.factoring import (
    dense_sparse,
    dense_sparse_sizes,
    index_bits,
    keep_largest,
    matching_pursuit,
    relative_error,
    sparse_plus_low_rank,
)
from analysis.stats.spectrum import errors, singular_values


@pytest.fixture
def low_and_sparse():
    torch.manual_seed(0)
    low = torch.randn(60, 3, dtype=torch.float64) @ torch.randn(3, 50, dtype=torch.float64)
    sparse = torch.zeros(3000, dtype=torch.float64)
    sparse[torch.randperm(3000)[:100]] = 10.0
    return low, sparse.view(60, 50)


def product(blocks, rows, rank, per_column, n_in):
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(blocks, rows, rank, dtype=torch.float64, generator=generator)
    places = torch.rand(blocks, rank, n_in, generator=generator).topk(per_column, 1).indices
    values = torch.randn(blocks, per_column, n_in, dtype=torch.float64, generator=generator)
    return (dense @ torch.zeros(blocks, rank, n_in, dtype=torch.float64).scatter(1, places, values)).reshape(-1, n_in)


def test_what_is_exactly_sparse_plus_low_rank_is_found(low_and_sparse):
    low, sparse = low_and_sparse
    found = sparse_plus_low_rank(low + sparse, 3, 100)
    assert found.error < 1e-6
    assert found.dense[0] @ found.dense[1] == pytest.approx(low, abs=1e-6)
    assert int((found.sparse != 0).sum()) == 100
    assert sparse_plus_low_rank(low + sparse, 2, 100).error > 0.05, "one direction too few"
    assert sparse_plus_low_rank(low + sparse, 3, 80).error > 0.05, "twenty entries too few"


def test_its_ends_are_the_two_parts_alone(low_and_sparse):
    w = low_and_sparse[0] + low_and_sparse[1]
    svd = errors(singular_values(w))[5]
    assert sparse_plus_low_rank(w, 5, 0, iterations=100).error == pytest.approx(svd, rel=1e-6)
    alone = sparse_plus_low_rank(w, 0, 100)
    assert alone.error == pytest.approx(relative_error(w, keep_largest(w, 100)))
    assert alone.dense[0].shape == (60, 0)


def test_more_rounds_never_make_it_worse():
    torch.manual_seed(1)
    w = torch.randn(40, 30)
    found = [sparse_plus_low_rank(w, 5, 200, iterations=n).error for n in (1, 2, 5, 20, 60)]
    assert found == sorted(found, reverse=True)


def test_the_largest_entries_are_kept():
    w = torch.tensor([[1.0, -4.0], [3.0, 2.0]])
    assert keep_largest(w, 2).tolist() == [[0, -4], [3, 0]]
    assert keep_largest(w.T, 2).tolist() == [[0, 3], [-4, 0]], "also where it is not contiguous"
    assert keep_largest(w, 0).tolist() == [[0, 0], [0, 0]]
    assert keep_largest(w, 9).tolist() == w.tolist()
    assert relative_error(w, keep_largest(w, 2)) == pytest.approx((5 / 30) ** 0.5)


def test_what_is_exactly_dense_times_sparse_is_found_at_its_true_sizes():
    w = product(3, 16, 8, 2, 400)
    assert dense_sparse(w, 16, 8, 2, iterations=60, restarts=3).error < 1e-6
    assert dense_sparse(w, 16, 8, 1, iterations=20).error > 0.1, "one entry per column too few"
    assert dense_sparse(w, 16, 6, 2, iterations=20).error > 0.1, "two atoms too few"


def test_one_entry_per_column_finds_columns_that_are_multiples_of_few():
    assert dense_sparse(product(2, 10, 4, 1, 100), 10, 4, 1, iterations=40, restarts=5).error < 1e-6


def test_a_full_dictionary_loses_nothing():
    torch.manual_seed(0)
    assert dense_sparse(torch.randn(12, 40), 6, 6, 6).error < 1e-6


def test_matching_pursuit_keeps_as_many_entries_as_it_may_and_finds_those_of_orthogonal_atoms():
    w = torch.tensor([[[3.0, 0.0], [1.0, 2.0], [-2.0, 5.0]]], dtype=torch.float64)
    found = matching_pursuit(torch.eye(3, dtype=torch.float64)[None], w, 2)
    assert found[0].numpy() == pytest.approx(torch.tensor([[3.0, 0], [0, 2], [-2, 5]]).numpy(), abs=1e-9)


def test_the_budget_is_that_of_both_factors():
    assert dense_sparse_sizes(16, 576, 32, 0.5) == 7
    assert 16 * 32 + 7 * 576 <= 0.5 * 16 * 576 < 16 * 32 + 8 * 576
    assert dense_sparse_sizes(16, 20, 32, 0.5) == 0
    assert dense_sparse_sizes(16, 576, 4, 1.0) == 4


def test_positions_cost_the_logarithm_of_the_choices():
    assert index_bits(4, 2) == 3, "six choices"
    assert index_bits(8, 1) == 3
    assert index_bits(100, 0) == index_bits(100, 100) == 0


def test_wrong_sizes_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="multiple of the block of 5, got 12"):
        dense_sparse(torch.ones(12, 3), 5, 2, 1)
    with pytest.raises(ValueError, match="per_column must be between 1 and the rank 2, got 3"):
        dense_sparse(torch.ones(10, 3), 5, 2, 3)
