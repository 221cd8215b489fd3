"""Losses by hand: equal logits, known answers, two small distributions."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.stats.losses import IGNORED, kl_divergence, relative_error, token_nll

ALL = torch.ones(1, dtype=torch.bool)


@pytest.mark.parametrize("v", [2, 7, 49152])
def test_equal_logits_cost_exactly_ln_v(v):
    loss, _ = token_nll(torch.full((3, v), 1.7), torch.tensor([0, 1, v - 1]))
    assert loss.tolist() == [math.log(v)] * 3


def test_a_model_that_knows_the_answer_costs_nothing_and_is_right():
    logits = torch.zeros(2, 5)
    logits[0, 3] = logits[1, 0] = 1e4
    loss, right = token_nll(logits, torch.tensor([3, 0]))
    assert loss.tolist() == [0.0, 0.0] and right.all()
    wrong, right = token_nll(logits, torch.tensor([1, 1]))
    assert wrong.tolist() == [1e4, 1e4] and not right.any()


def test_a_hand_computed_case():
    """Shares 1/4 and 3/4: -ln(1/4) and -ln(3/4)."""
    logits = torch.tensor([[0.0, math.log(3.0)]] * 2, dtype=torch.float64)
    loss, right = token_nll(logits, torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx([math.log(4), math.log(4 / 3)], abs=1e-15)
    assert right.tolist() == [False, True]


def test_what_is_ignored_costs_nothing_and_is_never_right():
    loss, right = token_nll(torch.tensor([[5.0, 0.0]]), torch.tensor([IGNORED]))
    assert loss.tolist() == [0.0] and not right.any()


def test_the_size_of_a_piece_changes_nothing():
    made = torch.Generator().manual_seed(0)
    logits, other = torch.randn(4, 9, 50, generator=made) * 3, torch.randn(4, 9, 50, generator=made)
    targets = torch.randint(50, (4, 9), generator=made)
    targets[0, 3:] = IGNORED
    whole, pieces = token_nll(logits, targets), token_nll(logits, targets, piece=70)
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces))
    kept = targets != IGNORED
    assert torch.equal(kl_divergence(logits, other, kept)[0], kl_divergence(logits, other, kept, piece=70)[0])


def test_float32_agrees_with_float64():
    logits = torch.randn(200, 3000, generator=torch.Generator().manual_seed(1)) * 4
    targets = torch.arange(200)
    assert torch.allclose(token_nll(logits, targets)[0], token_nll(logits.double(), targets)[0], atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_logits_are_widened_before_anything_is_added(dtype):
    logits = torch.randn(5, 400, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(token_nll(logits, torch.arange(5))[0], token_nll(logits.float(), torch.arange(5))[0])


def test_kl_of_two_small_distributions():
    """P = (.5, .5): KL to (.9, .1) is .510826, to (.6, .4) .020411 (METHODS D4)."""
    p = torch.tensor([[0.5, 0.5]]).log()
    for q, expected in (((0.9, 0.1), 0.510826), ((0.6, 0.4), 0.020411)):
        assert kl_divergence(p, torch.tensor([q]).log(), ALL)[0].item() == pytest.approx(expected, abs=1e-6)


def test_kl_is_not_symmetric_and_starts_from_the_reference():
    p, q = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert kl_divergence(p, q, ALL)[0].item() == pytest.approx(math.log(2))
    assert kl_divergence(q, p, ALL)[0].item() == math.inf


def test_kl_to_itself_is_exactly_zero_and_a_shift_of_logits_changes_nothing():
    logits = torch.randn(6, 100, generator=torch.Generator().manual_seed(0)).double()
    kept = torch.ones(6, dtype=torch.bool)
    assert kl_divergence(logits, logits, kept)[0].tolist() == [0.0] * 6
    assert kl_divergence(logits, logits + 3, kept)[0].max() < 1e-12


def test_relative_error_by_hand():
    y0, y = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 9.0], [1.0, 1.0], [1.0, 0.0]])
    error, has = relative_error(y0, y, torch.ones(3, dtype=torch.bool))
    assert error.tolist() == [1.0, 0.0, 0.0]
    assert has.tolist() == [True, False, True], "nothing is relative to a zero vector"
