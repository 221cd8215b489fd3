"""Principal components, random directions and dictionary learning, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.latents.rivals import Fit, Rival, pca, random_directions
from analysis.latents.sparse_coding import learn, sparse_coding
from analysis.stats.reconstruction import Fidelity


def fitted(rows, n_active):
    made = Fit.empty(rows.shape[1])
    made.update(rows, n_active * len(rows), 10)
    return made


def explained(rows, hat):
    made = Fidelity.empty(1, rows.shape[1])
    made.update(rows, hat, np.zeros(len(rows), int))
    return made.result()["explained_variance"].value


def flat(n=400, d=8, rank=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, rank, generator=random) @ torch.randn(rank, d, generator=random) + 5


def test_as_many_components_as_there_are_dimensions_explain_all_and_fewer_as_theory_says():
    rows = flat()
    assert explained(rows, pca(fitted(rows, 2)).both(rows)[1]) == pytest.approx(1, abs=1e-5)
    values = torch.linalg.svdvals(rows - rows.mean(0)) ** 2
    assert explained(rows, pca(fitted(rows, 1)).both(rows)[1]) == pytest.approx(float(values[0] / values.sum()), abs=1e-5)


def test_components_are_about_the_mean():
    rows = flat()
    hat = pca(fitted(rows, 2)).both(torch.full((1, 8), 5.0))[1]
    assert torch.allclose(hat, torch.full((1, 8), 5.0), atol=1e-3), "the mean lies in every subspace"


def test_the_best_few_directions_get_the_weights_of_least_squares():
    rival = Rival("some", torch.zeros(3), torch.eye(3), 2)
    latents, hat = rival.both(torch.tensor([[1.0, -4.0, 2.0]]))
    assert latents[0].tolist() == pytest.approx([0, -4, 2], abs=1e-4) and hat[0].tolist() == pytest.approx([0, -4, 2], abs=1e-4)
    slanted = Rival("some", torch.zeros(2), torch.tensor([[1.0, 0], [0.6, 0.8], [0.0, -1.0]]), 2)
    x = torch.tensor([[2.0, 1.0]])
    assert torch.allclose(slanted.both(x)[1], x, atol=1e-3), "two directions span the plane"


def test_random_directions_use_as_many_as_the_dictionary_and_explain_more_than_nothing():
    rows = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    rival = random_directions(fitted(rows, 3), 40, seed=0)
    latents, hat = rival.both(rows)
    assert (latents != 0).sum(1).tolist() == [3] * 500
    assert 0.3 < explained(rows, hat) < 1
    assert torch.equal(rival.rows, random_directions(fitted(rows, 3), 40, seed=0).rows)


def test_fits_of_parts_are_the_fit_of_the_whole():
    rows = flat()
    whole, first, second = fitted(rows, 2), fitted(rows[:100], 2), fitted(rows[100:], 2)
    first.merge(Fit.of_arrays(second.arrays()))
    np.testing.assert_allclose(first.product, whole.product)
    assert (first.n, first.l0, first.rank) == (whole.n, 2, 2) and len(np.concatenate(first.sample)) == 20


def test_dictionary_learning_finds_an_orthonormal_dictionary():
    """METHODS D8: sparse combinations of orthonormal atoms, no noise."""
    random = np.random.default_rng(0)
    atoms = np.linalg.qr(random.normal(size=(12, 12)))[0]
    codes = np.zeros((3000, 12))
    for row in codes:
        row[random.choice(12, 2, replace=False)] = random.choice([-1, 1], 2) * random.uniform(2, 4, 2)
    rows = codes @ atoms
    hat = learn(rows, rows[:200], 12, 2, 60, 0)
    assert 1 - explained(torch.from_numpy(rows[:200]), torch.from_numpy(hat)) < 1e-3


def test_dictionary_learning_is_given_up_in_time_and_says_so():
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    asked = {"n_atoms": 4, "n_active": 1, "seed": 0}
    found = sparse_coding(rows, rows, **asked, steps=2, seconds=0.01)
    assert isinstance(found, str) and "longer than 0.01 seconds" in found
    failed = sparse_coding(rows, rows, **(asked | {"n_active": 9}), steps=2, seconds=60)
    assert isinstance(failed, str) and failed.startswith("dictionary learning failed")
