"""Coding rates and the sparsifying step of CRATE against numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.stats.coding_rate import coding_rate, coding_rate_of_parts, column_space, ista_step, unit_tokens


def test_orthonormal_tokens_and_equal_tokens_by_hand():
    """METHODS D9: p = N = 4, eps^2 = 0.01."""
    assert coding_rate(torch.eye(4)) == pytest.approx(2 * math.log(101)) == pytest.approx(9.230241, abs=1e-6)
    same = torch.zeros(4, 4)
    same[:, 1] = 1
    assert coding_rate(same) == pytest.approx(0.5 * math.log(401)) == pytest.approx(2.996981, abs=1e-6)


def test_no_tokens_take_no_room_and_a_wrong_scale_is_refused():
    assert coding_rate(torch.zeros(5, 3)) == 0
    with pytest.raises(ValueError, match="at least one row"):
        coding_rate(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="eps_squared must be above 0"):
        coding_rate(torch.eye(2), 0.0)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_tokens_by_tokens_and_dimensions_by_dimensions_agree(shape):
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    n, d = shape
    wanted = [torch.logdet(torch.eye(len(g)) + d / (n * 0.01) * g) / 2 for g in (z @ z.T, z.T @ z)]
    assert coding_rate(z) == pytest.approx(float(wanted[0])) == pytest.approx(float(wanted[1]))


def test_compressing_within_each_heads_subspace_takes_less_room_than_the_whole():
    """Tokens spread over two heads' subspaces: the sum of the parts is above what one subspace holds, and 0 outside of all."""
    basis = torch.eye(6, dtype=torch.float64)
    z = basis[[0, 1, 0, 1]]
    inside, outside = basis[:, :2], basis[:, 4:]
    assert coding_rate_of_parts(z, [outside]) == 0
    assert coding_rate_of_parts(z, [inside]) == pytest.approx(coding_rate(z, dimension=2))
    assert coding_rate_of_parts(z, [inside, outside]) == pytest.approx(coding_rate_of_parts(z, [inside]))


def test_the_column_space_is_what_a_projection_reads():
    weight = torch.tensor([[2.0, 0, 0, 0], [0, 3.0, 0, 0], [2.0, 3.0, 0, 0]])
    basis = column_space(weight)
    assert basis.shape == (4, 2)
    projected = basis @ basis.T
    assert torch.allclose(projected, torch.diag(torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)))


def test_ista_step_by_hand_and_as_its_definition_says():
    assert ista_step(torch.tensor([[1.0, -0.5]]), torch.eye(2)).tolist() == [[pytest.approx(0.99), 0]]
    random = torch.Generator().manual_seed(0)
    x, d = torch.randn(3, 4, generator=random), torch.randn(4, 4, generator=random)
    wanted = torch.stack([torch.relu(row + 0.1 * (d.T @ row - d.T @ d @ row) - 0.01) for row in x])
    assert torch.allclose(ista_step(x, d), wanted, atol=1e-6)


def test_unit_tokens_have_length_one_and_zeros_stay():
    found = unit_tokens(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
