"""SparseGPT against a slow reference written from METHODS A8, its known answers, and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.interventions.weights.sparsegpt import Factor, factor_of, obs_saliency, obs_update, sparsegpt
from analysis.spec import UserError

torch.manual_seed(0)


def matrix(d_out, d_in, seed=0):
    return torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow(w, x, n_sequences, level, pattern=None, variant="text", block=128):
    """METHODS A8 as it is written, weight by weight: columns of H eliminated one after the other, inverses by `torch.linalg.inv`."""
    d_out, d_in = w.shape
    w = w.clone()
    h = 2 / n_sequences * x.T @ x
    for j in range(d_in):
        if h[j, j] == 0:
            h[j, j] = 1
            w[:, j] = 0
    h = h + 0.01 * h.diagonal().mean() * torch.eye(d_in, dtype=torch.float64)
    u = torch.linalg.cholesky(torch.linalg.inv(h)).T  # any U with H^-1 = U^T U and U upper triangular
    mask = torch.ones(d_out, d_in, dtype=torch.bool)
    loss = 0.0
    for start in range(0, d_in, block):
        end = min(d_in, start + block)
        if pattern is None:
            entries = sorted((float(w[r, j] ** 2 / u[j, j] ** 2), r, j) for r in range(d_out) for j in range(start, end))
            if variant == "text":
                gone = entries[: math.floor(len(entries) * level + 1e-9)]
            else:
                limit = entries[min(int(len(entries) * level), len(entries) - 1)][0]
                gone = [e for e in entries if e[0] <= limit]
            for _, r, j in gone:
                mask[r, j] = False
        for j in range(start, end):
            if pattern is not None and j % pattern[1] == 0 and j + pattern[1] <= d_in:
                for r in range(d_out):
                    group = sorted((float(w[r, k] ** 2 / u[k, k] ** 2), k) for k in range(j, j + pattern[1]))
                    for _, k in group[: pattern[1] - pattern[0]]:
                        mask[r, k] = False
            for r in range(d_out):
                q = float(w[r, j]) if mask[r, j] else 0.0
                e = (float(w[r, j]) - q) / float(u[j, j])
                loss += (float(w[r, j]) - q) ** 2 / (2 * float(u[j, j]) ** 2)
                for k in range(j, d_in):
                    w[r, k] -= e * u[j, k]
                w[r, j] = q
    return w, mask, loss


def test_the_factor_and_the_scores_of_the_hand_computed_case():
    h = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    factor = factor_of(h / 2, 1, damp=0.0)
    assert torch.allclose(factor.upper, torch.tensor([[0.816497, -0.408248], [0.0, 0.707107]], dtype=torch.float64), atol=1e-6)
    w = torch.ones(1, 2, dtype=torch.float64)
    assert (w**2 / factor.upper.diagonal() ** 2).tolist() == [pytest.approx([1.5, 2.0])]
    pruned = sparsegpt(w, factor, 0.5)
    assert pruned.weights.tolist() == [pytest.approx([0.0, 1.5])] and pruned.kept.tolist() == [[False, True]]
    assert pruned.loss == pytest.approx(0.75)


def test_removing_one_weight_alone_costs_what_the_saliency_says():
    h = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    inverse = torch.linalg.inv(h)
    w = torch.ones(2, dtype=torch.float64)
    step = obs_update(w, inverse, 0)
    assert (w + step).tolist() == pytest.approx([0.0, 1.5])
    assert float(step @ h @ step) / 2 == pytest.approx(0.75) == pytest.approx(float(obs_saliency(w, inverse)[0]))


@pytest.mark.parametrize("shape", [(3, 5), (4, 12), (2, 130)])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("variant", ["text", "code"])
def test_it_is_the_slow_reference(shape, level, variant):
    w, x = matrix(*shape), matrix(shape[1] + 20, shape[1], seed=1)
    expected, mask, loss = slow(w, x, 4, level, variant=variant)
    found = sparsegpt(w, factor_of(x.T @ x, 4), level, variant=variant)
    assert torch.equal(found.kept, mask)
    assert torch.allclose(found.weights, expected, atol=1e-9)
    assert found.loss == pytest.approx(loss)


def test_it_is_the_slow_reference_where_inputs_are_never_there():
    w, x = matrix(3, 8), 5 * matrix(30, 8, seed=1)
    x[:, [1, 6]] = 0
    expected, mask, loss = slow(w, x, 4, 0.6)
    found = sparsegpt(w, factor_of(x.T @ x, 4), 0.6)
    assert torch.equal(found.kept, mask) and torch.allclose(found.weights, expected, atol=1e-9) and found.loss == pytest.approx(loss)


@pytest.mark.parametrize("pattern", [(2, 4), (4, 8), (1, 3)])
@pytest.mark.parametrize("d_in", [12, 14, 132])
def test_patterns_are_the_slow_reference(pattern, d_in):
    w, x = matrix(3, d_in), matrix(d_in + 20, d_in, seed=1)
    expected, mask, _ = slow(w, x, 4, 0.0, pattern, block=128 // pattern[1] * pattern[1])
    found = sparsegpt(w, factor_of(x.T @ x, 4), 0.0, pattern)
    assert torch.equal(found.kept, mask) and torch.allclose(found.weights, expected, atol=1e-9)
    whole = d_in // pattern[1]
    groups = found.kept[:, : whole * pattern[1]].view(3, whole, pattern[1])
    assert (groups.sum(2) == pattern[0]).all() and found.kept[:, whole * pattern[1] :].all()


def test_with_independent_inputs_of_one_size_it_is_magnitude_in_each_block_and_changes_nothing_else():
    w = matrix(4, 200)
    factor = factor_of(3.0 * torch.eye(200, dtype=torch.float64), 1)
    found = sparsegpt(w, factor, 0.5)
    for part in (slice(0, 128), slice(128, 200)):
        limit = w[:, part].abs().reshape(-1).sort().values[w[:, part].numel() // 2 - 1]
        assert torch.equal(found.kept[:, part], w[:, part].abs() > limit)
    assert torch.allclose(found.weights, w * found.kept, atol=1e-12)


def test_the_update_lowers_the_output_error_of_the_very_same_mask():
    w, x = matrix(6, 24), matrix(50, 24, seed=1) @ matrix(24, 24, seed=2)
    found = sparsegpt(w, factor_of(x.T @ x, 1), 0.5)
    error = lambda new: float(((x @ (new - w).T) ** 2).sum())  # noqa: E731
    assert error(found.weights) < 0.6 * error(w * found.kept)


def test_level_0_is_the_identity_even_with_dead_inputs_and_in_either_variant():
    x = matrix(9, 6)
    x[:, 2] = 0
    w = matrix(3, 6)
    for variant in ("text", "code"):
        assert torch.equal(sparsegpt(w, factor_of(x.T @ x, 1), 0.0, variant=variant).weights, w)


def test_level_1_removes_everything_in_either_variant():
    w, x = matrix(3, 6), matrix(9, 6, seed=1)
    for variant in ("text", "code"):
        assert not sparsegpt(w, factor_of(x.T @ x, 1), 1.0, variant=variant).weights.any()


def test_inputs_that_are_never_there_lose_their_weights_first():
    x = matrix(9, 6)
    x[:, 2] = 0
    factor = factor_of(x.T @ x, 1)
    assert factor.dead.tolist() == [False, False, True, False, False, False]
    found = sparsegpt(matrix(3, 6), factor, 3 / 18)
    assert not found.kept[:, 2].any() and found.kept.sum() == 15


def test_the_code_removes_one_more_weight_than_asked_for():
    w, x = matrix(4, 10), matrix(30, 10, seed=1)
    factor = factor_of(x.T @ x, 1)
    assert int((~sparsegpt(w, factor, 0.5).kept).sum()) == 20
    assert int((~sparsegpt(w, factor, 0.5, variant="code").kept).sum()) == 21


def test_rank_one_inputs_are_damped():
    row = matrix(1, 8)
    factor = factor_of(row.T @ row, 1)
    assert isinstance(factor, Factor) and factor.damp == 0.01 and factor.upper.isfinite().all()


def test_damping_is_raised_and_told_where_the_moments_are_not_positive():
    broken = torch.eye(3, dtype=torch.float64)
    broken[0, 1] = broken[1, 0] = 1.05
    assert factor_of(broken, 1).damp == pytest.approx(0.1)
    with pytest.raises(UserError, match="positive definite"):
        factor_of(torch.full((3, 3), float("nan"), dtype=torch.float64), 1)
