"""Ranks and residual branches: numbers of METHODS A16 and A14, and planted truths."""

import numpy as np
import pytest
import torch

from analysis.interventions.structure.rank import MatrixRank, directions, rank_kept, relative_error, share_kept, truncated
from analysis.interventions.structure.scaling import BranchScaling, learned, updated
from tests.interventions.structure.planted import answer, calibrated, language_subject, llama, loss, planted


def test_the_error_of_rank_1_by_hand():
    squares, vectors = directions(torch.diag(torch.tensor([4.0, 3.0, 0.0])))
    assert squares.tolist() == [16, 9, 0]
    assert [relative_error(squares, r) for r in (0, 1, 2, 3)] == pytest.approx([1, 0.6, 0, 0])
    assert truncated(torch.diag(torch.tensor([4.0, 3.0, 0.0])), vectors, 1).abs().tolist() == [[4, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_truncated_matrix_is_that_of_the_svd(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    _, vectors = directions(matrix)
    torch.testing.assert_close(truncated(matrix, vectors, 3), u[:, :3] @ s[:3].diag() @ v[:3])


def test_the_shorter_side_counts_and_factors_are_used_only_where_they_are_smaller():
    assert [rank_kept((8, 20), level) for level in (0, 0.3, 1)] == [8, 6, 0]
    assert share_kept((8, 8), 2) == 0.5 and share_kept((8, 8), 4) == 1.0 and share_kept((8, 8), 7) == 1.0


def test_weights_that_are_exactly_of_low_rank_lose_nothing_down_to_it():
    model = llama()
    torch.manual_seed(3)
    with torch.no_grad():
        for layer in model.model.layers:
            for part in layer.modules():
                if isinstance(part, torch.nn.Linear):
                    out, into = part.weight.shape
                    low = torch.randn(out, min(out, into) // 4) @ torch.randn(min(out, into) // 4, into)
                    part.weight.copy_(low * 0.1)
    subject = language_subject(model)
    dense, before = answer(subject), loss(subject)
    with MatrixRank().on(subject) as held:
        applied = held.at(0.75)
        assert applied.achieved == 0.75 and applied.native_value < 1e-5
        assert loss(subject) == pytest.approx(before, abs=1e-6)
        assert held.at(0.85).native_value > 0.1
        assert abs(loss(subject) - before) > 1e-4
        held.at(0.0)
        assert torch.equal(answer(subject), dense)
    assert torch.equal(answer(subject), dense)


def test_at_rank_0_no_matrix_is_left_and_the_weights_come_back_after_an_error():
    subject = language_subject(llama())
    dense = answer(subject)
    with pytest.raises(ZeroDivisionError), MatrixRank().on(subject) as held:
        assert held.at(1.0).achieved == 1.0
        assert set(held.cost(1.0).shares.products.values()) == {0.0}
        assert not subject.model.model.layers[0].mlp.up_proj.weight.any()
        raise ZeroDivisionError
    assert torch.equal(answer(subject), dense)


def test_scores_of_importance_by_hand():
    p = 0.5
    found = updated(np.zeros(2), [np.array([0]), np.array([1])], np.array([1.0, -1.0]))
    assert found == pytest.approx([10 * p * (1 - p), -10 * p * (1 - p)]) and found[0] == 2.5


def test_scores_find_the_blocks_that_matter():
    important = np.array([0, 3])
    over = [learned(6, lambda chosen: float(np.isin(important, chosen).sum()), np.random.default_rng(seed), 40) for seed in range(5)]
    mean = np.mean(over, axis=0)
    assert set(np.argsort(mean)[:2].tolist()) == {0, 3}, "a low score means important"


def test_a_quarter_of_what_a_block_adds_is_left():
    subject = language_subject(llama(layers=1))
    calibration = calibrated(subject)
    with BranchScaling().on(subject, calibration) as held:
        held.at(1.0)
        scaled = answer(subject)
        assert set(held.cost(1.0).shares.products.values()) <= {1.0}
    block = subject.model.model.layers[0]
    with torch.no_grad():
        block.self_attn.o_proj.weight.mul_(0.25)
        block.mlp.down_proj.weight.mul_(0.25)
    torch.testing.assert_close(scaled, answer(subject))


def test_scaling_a_block_that_adds_nothing_costs_nothing():
    subject = language_subject(planted())
    dense = answer(subject)
    with BranchScaling().on(subject, calibrated(subject)) as held:
        held.order = np.array([2, 0, 1])
        held.at(1 / 3)
        assert torch.equal(answer(subject), dense)
        held.at(2 / 3)
        assert not torch.equal(answer(subject), dense)
