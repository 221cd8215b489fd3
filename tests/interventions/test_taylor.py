"""First-order Taylor: the forms of METHODS A20 by hand, and against what the loss really does."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.weights.taylor import Taylor, TaylorSquared, squared_taylor_scores, taylor_scores, unit_taylor

W = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
G = torch.tensor([[0.1, 0.2], [0.3, 0.1]])


@pytest.mark.parametrize(
    ("form", "expected"),
    [("squares", [0.17, 0.0325]), ("group", [0.25, 0.0025]), ("absolute", [0.5, 0.25]), ("multivariable", [0.5, 0.05])],
)
def test_the_forms_of_the_hand_computed_case(form, expected):
    assert unit_taylor(W, G, form).tolist() == pytest.approx(expected, abs=1e-7)


def test_scores_of_single_weights():
    inputs = MatrixInputs(gradient=G, gradient_square=G**2)
    assert torch.allclose(Taylor().score(W, inputs, 0), torch.tensor([[0.1, 0.4], [0.15, 0.1]]))
    assert torch.allclose(TaylorSquared().score(W, inputs, 0), torch.tensor([[0.01, 0.16], [0.0225, 0.01]]))
    assert torch.equal(squared_taylor_scores(W, G**2), (W * G) ** 2)


def test_the_gates_gradient_is_the_sum_over_its_weights():
    random = torch.Generator().manual_seed(0)
    layer, gate = torch.randn(3, 4, generator=random, requires_grad=True), torch.ones(3, requires_grad=True)
    x = torch.randn(7, 4, generator=random)
    loss = ((x @ layer.T * gate).tanh() ** 2).sum()
    g, of_gate = torch.autograd.grad(loss, [layer, gate])
    assert torch.allclose(of_gate, (layer * g).sum(1), atol=1e-5)
    assert torch.allclose(unit_taylor(layer.detach(), g), of_gate.double() ** 2, rtol=1e-4)


def test_the_score_is_the_change_of_the_loss_as_a_weight_shrinks():
    """Central difference of the gate of one weight, step 1e-3, in float64."""
    random = torch.Generator().manual_seed(1)
    w = torch.randn(2, 3, generator=random, dtype=torch.float64)
    x = torch.randn(9, 3, generator=random, dtype=torch.float64)
    loss = lambda weights: ((x @ weights.T).sin()).mean()  # noqa: E731
    leaf = w.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(loss(leaf), [leaf])
    for r in range(2):
        for j in range(3):
            sides = []
            for gate in (1 + 1e-3, 1 - 1e-3):
                moved = w.clone()
                moved[r, j] *= gate
                sides.append(float(loss(moved)))
            assert abs(sides[0] - sides[1]) / 2e-3 == pytest.approx(float(taylor_scores(w, g)[r, j]), rel=1e-4)
