"""oBERT's block Fisher matrix: the recursion, the saliency and the update, each by hand and against the direct formula."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.structures import UNSTRUCTURED
from analysis.interventions.weights.method import Asked
from analysis.interventions.weights.obert import (
    InverseFisher,
    OBert,
    OBertUpdate,
    in_blocks,
    obert_group_saliency,
    obert_scores,
    obert_update,
)  # fmt: skip


def gradients(m, shape, seed=0):
    return torch.randn(m, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inverse_of(found, block, damp):
    made = InverseFisher(found[0].numel(), len(found), block=block, damp=damp)
    for g in found:
        made.add(g)
    return made.values


def test_the_recursion_is_the_direct_inverse():
    g = gradients(3, (4,))
    direct = torch.linalg.inv(0.01 * torch.eye(4, dtype=torch.float64) + g.T @ g / 3)
    assert float((inverse_of(g, 4, 0.01)[0] - direct).abs().max() / direct.abs().max()) < 3e-14


def test_blocks_are_consecutive_weights_and_the_last_is_padded():
    g = gradients(5, (2, 7))
    inverse = inverse_of(g, 4, 0.1)
    assert inverse.shape == (4, 4, 4)
    flat = g.flatten(1)
    for b in range(4):
        part = torch.nn.functional.pad(flat[:, 4 * b : 4 * b + 4], (0, max(0, 4 * b + 4 - 14)))
        direct = torch.linalg.inv(0.1 * torch.eye(4, dtype=torch.float64) + part.T @ part / 5)
        assert torch.allclose(inverse[b], direct, atol=1e-10)
    assert in_blocks(torch.arange(14.0).view(2, 7), 4)[-1].tolist() == [12, 13, 0, 0]


def test_the_saliency_of_the_hand_computed_case():
    inverse = inverse_of(torch.tensor([[1.0, 0.0]], dtype=torch.float64), 2, 1.0)
    assert torch.allclose(inverse[0], torch.diag(torch.tensor([0.5, 1.0], dtype=torch.float64)))
    assert obert_scores(torch.ones(1, 2), inverse).tolist() == [pytest.approx([1.0, 0.5])]


def test_the_saliency_of_a_group_is_the_least_rise_of_the_quadratic_where_it_goes():
    """min over the others of 1/2 d^T F d with d_Q = -w_Q is the Schur complement's quadratic form."""
    g = gradients(30, (6,))
    inverse = inverse_of(g, 6, 0.05)[0]
    fisher = torch.linalg.inv(inverse)
    w, group = gradients(1, (6,), seed=4)[0], torch.tensor([1, 4])
    rest = torch.tensor([0, 2, 3, 5])
    schur = fisher[group][:, group] - fisher[group][:, rest] @ torch.linalg.inv(fisher[rest][:, rest]) @ fisher[rest][:, group]
    assert obert_group_saliency(w, inverse, group) == pytest.approx(float(w[group] @ schur @ w[group]) / 2)
    single = obert_group_saliency(w, inverse, torch.tensor([2]))
    assert single == pytest.approx(float(obert_scores(w[None], inverse[None])[0, 2]), rel=1e-6)


def test_the_update_of_one_weight_a_block_is_the_best_there_is():
    g = gradients(30, (6,))
    inverse = inverse_of(g, 6, 0.05)
    fisher, w = torch.linalg.inv(inverse[0]), gradients(1, (6,), seed=4)
    kept = torch.tensor([[True, True, False, True, True, True]])
    moved = obert_update(w, inverse, kept)
    d = (moved - w)[0]
    assert float(moved[0, 2]) == 0 and float(d @ fisher @ d) / 2 == pytest.approx(float(obert_scores(w, inverse)[0, 2]), rel=1e-6)


def test_the_update_of_several_is_the_sum_of_each_alone():
    inverse, w = inverse_of(gradients(30, (6,)), 6, 0.05), gradients(1, (6,), seed=4)
    kept = torch.tensor([[True, False, False, True, True, True]])
    alone = [obert_update(w, inverse, torch.arange(6)[None] != j) - w for j in (1, 2)]
    assert torch.allclose(obert_update(w, inverse, kept), (w + sum(alone)) * kept)


def test_without_correlations_the_update_changes_nothing_that_stays():
    w = gradients(1, (3, 5))[0].float()
    inputs = MatrixInputs(fisher_inverse=torch.eye(4, dtype=torch.float64).repeat(4, 1, 1))
    pruned = OBertUpdate().prune(w, inputs, Asked(0.4, UNSTRUCTURED))
    assert int((pruned == 0).sum()) == 6 and torch.equal(pruned[pruned != 0], w[pruned != 0])
    limit = w.abs().reshape(-1).sort().values[5]
    assert torch.equal(pruned == 0, w.abs() <= limit), "with F = I the saliency is magnitude"
    assert torch.equal(OBertUpdate().prune(w, inputs, Asked(0.0, UNSTRUCTURED)), w)


def test_damping_far_below_every_curvature_costs_no_digits():
    g = gradients(400, (6,)) * 1e-2
    inverse = inverse_of(g, 6, 1e-7)[0]
    direct = torch.linalg.inv(1e-7 * torch.eye(6, dtype=torch.float64) + g.T @ g / 400)
    assert torch.allclose(inverse, direct, rtol=1e-5)
    assert OBert().score(torch.ones(1, 6), MatrixInputs(fisher_inverse=inverse[None]), 0).isfinite().all()
