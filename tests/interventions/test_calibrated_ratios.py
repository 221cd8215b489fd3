"""OWL, SNIP and GraSP shares: known answers, means, and what a level of 0 or 1 gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.ratios.grasp import Grasp
from analysis.interventions.ratios.owl import Owl, outlier_share, owl_densities
from analysis.interventions.ratios.snip import Snip
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Matrix


def matrix(name, w, layer=0, **measured):
    w = torch.as_tensor(w, dtype=torch.float32)
    return Matrix(name, tuple(w.shape), layer, lambda: w, MatrixInputs(n=1, n_sequences=1, **measured), 0)


def test_the_densities_of_the_hand_computed_case():
    found = owl_densities([1, 2, 5], 0.7, 0.08)
    assert found.tolist() == pytest.approx([0.2333, 0.2733, 0.3933], abs=5e-5)
    assert (1 - found).tolist() == pytest.approx([0.7667, 0.7267, 0.6067], abs=5e-5)
    assert float(found.mean()) == pytest.approx(0.3) and float(np.ptp(found)) == pytest.approx(0.16)
    assert owl_densities([1, 2, 5], 0.7, 0.08, variant="code").tolist() == pytest.approx(found.tolist())


def test_blocks_with_equal_outliers_share_alike():
    assert owl_densities([3, 3, 3], 0.6).tolist() == pytest.approx([0.4] * 3)


def test_blocks_of_different_sizes_keep_the_level_of_the_whole():
    found = owl_densities([1, 2, 5], 0.7, sizes=[10, 10, 80])
    assert float(np.average(found, weights=[10, 10, 80])) == pytest.approx(0.3)


@pytest.mark.parametrize("level", [0.0, 0.02, 0.05, 0.5, 0.97, 1.0])
def test_shares_keep_the_level_and_stay_shares_at_either_end(level):
    found = owl_densities([1, 2, 9], level)
    assert float(found.mean()) == pytest.approx(1 - level) and found.min() >= 0 and found.max() <= 1


def test_shares_grow_with_the_level():
    found = np.array([owl_densities([1, 2, 9], level) for level in np.linspace(0, 1, 101)])
    assert (np.diff(found, axis=0) <= 1e-12).all()


def test_the_code_gives_a_block_that_would_lose_nothing_one_percent():
    assert owl_densities([1, 2, 9], 0.05, variant="code").tolist()[2] == 0.99


def test_the_share_of_outliers_pools_the_matrices_of_a_block():
    one, other = torch.ones(1, 9), torch.full((1, 1), 41.0)
    # ten scores with mean 5: only the last is above 5 times that
    assert outlier_share([(one, torch.ones(9)), (other, torch.ones(1))], 5.0) == pytest.approx(10.0)
    assert outlier_share([(one, torch.ones(9))], 5.0) == 0.0, "alone the first matrix has none"
    assert outlier_share([(one, torch.ones(9)), (other, torch.ones(1))], 9.0) == 0.0
    assert outlier_share([]) == 0.0


def test_owl_counts_what_an_input_weighs_and_ignores_scale():
    quiet, loud = torch.ones(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    loud[3] = 400.0  # norm 20: scores 1 but for one of 20, whose mean is 3.4
    made = [matrix("a", np.ones((2, 8)), 0, square_sum=quiet), matrix("b", 100 * np.ones((2, 8)), 1, square_sum=loud)]
    shares = Owl().prepare(made, Magnitude())(0.5)
    assert shares == pytest.approx([0.58, 0.42]), "the block with outliers keeps more"
    same = [matrix("a", np.ones((2, 8)), 0, square_sum=quiet), matrix("b", 100 * np.ones((2, 8)), 1, square_sum=quiet)]
    assert Owl().prepare(same, Magnitude())(0.5) == pytest.approx([0.5, 0.5])


def test_the_first_block_of_an_encoder_and_that_of_a_decoder_are_two_for_owl():
    quiet, loud = torch.ones(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    loud[3] = 400.0
    kinds = (("encoder", quiet), ("decoder", loud))
    made = [replace(matrix(f"{stack}.block.0.up.weight", np.ones((2, 8)), 0, square_sum=s), role="up") for stack, s in kinds]
    assert Owl().prepare(made, Magnitude())(0.5) == pytest.approx([0.58, 0.42])
    beside = [replace(made[0], name="encoder.block.0.down.weight", role="down"), made[0]]
    assert Owl().prepare([*beside, made[1]], Magnitude())(0.5) == pytest.approx([0.5 + 0.16 / 3] * 2 + [0.5 - 0.32 / 3])


def test_snip_keeps_the_largest_products_over_all_matrices():
    a = matrix("a", [[1.0, 2.0], [3.0, 4.0]], gradient=torch.tensor([[4.0, -3.0], [0.1, 0.2]]))  # 4 6 .3 .8
    b = matrix("b", [[10.0, 0.1]], gradient=torch.tensor([[0.01, 9.0]]))  # .1 .9
    shares = Snip().prepare([a, b], Magnitude())
    assert shares(0.5) == pytest.approx([2 / 4, 1 / 2]), ".1 .3 .8 go"
    assert shares(4 / 6) == pytest.approx([2 / 4, 1.0])
    assert shares(0.0) == [0, 0] and shares(1.0) == [1, 1]


def test_grasp_removes_the_largest_of_minus_w_hg_first():
    """L = 1/2 sum h w^2: g = h w, Hg = h^2 w, so w Hg = (h w)^2: what carries the gradient flow stays."""
    h = torch.tensor([[1.0, 3.0], [0.5, 2.0]])
    w = torch.tensor([[4.0, 1.0], [2.0, 0.1]])  # (h w)^2 = 16 9 / 1 .04
    made = [matrix("a", w[:1], hessian_gradient=(h**2 * w)[:1]), matrix("b", w[1:], hessian_gradient=(h**2 * w)[1:])]
    shares = Grasp().prepare(made, Magnitude())
    assert shares(0.5) == pytest.approx([0.0, 1.0])
    # A weight whose removal raises the flow (w Hg < 0) goes before one that does nothing.
    a = matrix("a", [[1.0, 1.0]], hessian_gradient=torch.tensor([[-5.0, 2.0]]))
    b = matrix("b", [[1.0]], hessian_gradient=torch.zeros(1, 1))
    assert Grasp().prepare([a, b], Magnitude())(1 / 3) == pytest.approx([0.5, 0.0])
