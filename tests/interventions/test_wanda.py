"""Wanda: known answers, the mask against a slow reference written from METHODS A7, and its symmetries."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.structures import UNSTRUCTURED, keep_mask, n_of_m
from analysis.interventions.weights.method import Asked
from analysis.interventions.weights.wanda import Wanda, WandaCumulative, cumulative_kept, wanda_scores
from analysis.sensitivity.choices import prunings
from analysis.spec import UserError


def made(d_out, d_in, rows=20, seed=0):
    random = torch.Generator().manual_seed(seed)
    w, x = torch.randn(d_out, d_in, generator=random), torch.randn(rows, d_in, generator=random)
    return w, x * torch.rand(d_in, generator=random) * 3


def inputs_of(x, n_sequences=2):
    x = x.double()
    return MatrixInputs(len(x), n_sequences, (x**2).sum(0), x.sum(0), x.T @ x)


def slow(w, x, level, pattern=None):
    """METHODS A7 with loops: |w| times the norm of a column; in each row int(d_in s) go, or M - N of each group."""
    kept = torch.ones(w.shape, dtype=torch.bool)
    for r in range(w.shape[0]):
        scores = [abs(float(w[r, j])) * sum(float(v) ** 2 for v in x[:, j]) ** 0.5 for j in range(w.shape[1])]
        groups = (
            [range(w.shape[1])]
            if pattern is None
            else [range(g, g + pattern[1]) for g in range(0, w.shape[1] // pattern[1] * pattern[1], pattern[1])]
        )
        for group in groups:
            n = int(len(group) * level + 1e-9) if pattern is None else pattern[1] - pattern[0]
            for j in sorted(group, key=lambda j: (scores[j], j))[:n]:
                kept[r, j] = False
    return kept


def test_the_scores_and_the_mask_of_the_hand_computed_case():
    w, norms = torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([10.0, 1.0])
    scores = wanda_scores(w, norms)
    assert scores.tolist() == [[10.0, 2.0], [30.0, 0.5]]
    assert keep_mask(scores, 0.5, UNSTRUCTURED, "per_row").tolist() == [[True, False], [True, False]]
    assert keep_mask(w.abs(), 0.5, UNSTRUCTURED, "per_row").tolist() == [[False, True], [True, False]], "magnitude chooses otherwise"


@pytest.mark.parametrize("shape", [(1, 8), (5, 13), (16, 40)])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_the_mask_is_the_slow_reference(shape, level):
    w, x = made(*shape)
    scores = Wanda().score(w, inputs_of(x), 0)
    assert torch.equal(keep_mask(scores, level, UNSTRUCTURED, "per_row"), slow(w, x, level))


@pytest.mark.parametrize("shape", [(5, 16), (3, 42)])
@pytest.mark.parametrize("pattern", [(2, 4), (4, 8), (1, 4)])
def test_patterns_are_the_slow_reference(shape, pattern):
    w, x = made(*shape)
    scores = Wanda().score(w, inputs_of(x), 0)
    assert torch.equal(keep_mask(scores, 0.5, n_of_m(*pattern)), slow(w, x, 0.5, pattern))


def test_scaling_all_inputs_changes_no_mask():
    w, x = made(6, 20)
    masks = [keep_mask(Wanda().score(w, inputs_of(x * c), 0), 0.6, UNSTRUCTURED, "per_row") for c in (1, 7.5)]
    assert torch.equal(*masks)


def test_permuting_the_inputs_permutes_the_scores():
    w, x = made(6, 20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert torch.equal(Wanda().score(w[:, order], inputs_of(x[:, order]), 0), Wanda().score(w, inputs_of(x), 0)[:, order])


def test_an_input_that_is_always_zero_goes_first():
    w, x = made(6, 20)
    x[:, 7] = 0
    kept = keep_mask(Wanda().score(w, inputs_of(x), 0), 0.05, UNSTRUCTURED, "per_row")
    assert not kept[:, 7].any() and int((~kept).sum()) == 6


def test_weights_compete_in_their_row_unless_the_user_says_otherwise():
    chosen = [prunings("wanda,magnitude", structure, "auto", "", "", 0, 1)[0].scope for structure in ("unstructured", "rows")]
    assert chosen == ["per_row", "per_matrix"]
    assert prunings("wanda", "unstructured", "per_matrix", "", "", 0, 1)[0].scope == "per_matrix"


def test_without_calibration_there_is_a_sentence():
    with pytest.raises(UserError, match="calibrate"):
        Wanda().score(torch.ones(2, 2), None, 0)
    with pytest.raises(UserError, match="square_sum"):
        Wanda().score(torch.ones(2, 2), MatrixInputs(), 0)


def test_the_cumulative_variant_removes_one_share_of_every_rows_score():
    scores = torch.tensor([[1.0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [30.0, 30, 30, 30, 30, 30, 30, 30, 30, 2730]])
    kept = cumulative_kept(scores, 0.65)
    # alpha in [0.4, 0.5): 4 of the even row, and the nine small ones of the other, 270 of 3000: 13 of 20.
    assert (~kept).sum(1).tolist() == [4, 9]


@pytest.mark.parametrize("level", [0.2, 0.5, 0.7])
def test_the_cumulative_variant_reaches_its_level(level):
    w, x = made(64, 128)
    pruned = WandaCumulative().prune(w, inputs_of(x), Asked(level, UNSTRUCTURED))
    assert float((pruned == 0).double().mean()) == pytest.approx(level, abs=0.002)
    assert torch.equal(pruned[pruned != 0], w[pruned != 0])


def test_the_cumulative_variant_at_level_0_is_the_identity():
    w, x = made(4, 8)
    x[:, 1] = 0
    assert torch.equal(WandaCumulative().prune(w, inputs_of(x), Asked(0.0, UNSTRUCTURED)), w)
    with pytest.raises(UserError, match="unstructured"):
        WandaCumulative().prune(w, inputs_of(x), Asked(0.5, n_of_m(2, 4)))
