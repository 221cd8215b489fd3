"""Predictions of what pruning costs, against numbers by hand; and when a ranking may be trusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.stats.proxies import fisher_increase, output_error, output_square, rank_agreement, taylor_increase

W = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
REMOVED = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
X = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 3.0]])


def test_output_square_by_hand_and_as_the_outputs_say():
    gram = X.T @ X  # [[5, 1], [1, 10]]
    assert output_square(REMOVED, gram) == pytest.approx(5.0)
    assert output_square(W, gram) == pytest.approx(float(((X @ W.T) ** 2).sum()))
    assert output_square(W, gram.diag()) == pytest.approx(1 * 5 + 4 * 10 + 9 * 5 + 16 * 10)


def test_output_error_is_0_for_nothing_1_for_all_and_0_for_a_matrix_that_gives_nothing():
    gram = X.T @ X
    assert output_error(torch.zeros(2, 2), W, gram) == 0
    assert output_error(W, W, gram) == pytest.approx(1)
    assert output_error(REMOVED, W, gram) == pytest.approx(math.sqrt(5 / float(((X @ W.T) ** 2).sum())))
    assert output_error(REMOVED, W, torch.zeros(2, 2)) == 0


def test_taylor_and_fisher_by_hand():
    gradient = torch.tensor([[0.5, 9.0], [9.0, 9.0]])
    assert taylor_increase(REMOVED, gradient) == pytest.approx(-0.5)
    assert fisher_increase(2 * REMOVED, gradient) == pytest.approx(0.5 * 4 * 0.5)
    assert taylor_increase(0 * REMOVED, gradient) == 0 == fisher_increase(0 * REMOVED, gradient)


def test_fisher_is_exact_for_a_quadratic_loss_at_its_minimum():
    curvature = torch.tensor([[2.0, 1.0], [0.5, 4.0]])
    loss = lambda w: 0.5 * float((curvature * (w - W) ** 2).sum())  # noqa: E731
    assert fisher_increase(REMOVED, curvature) == pytest.approx(loss(W - REMOVED))


def test_the_same_order_is_trusted_the_reverse_is_not_and_a_few_say_nothing():
    measured = np.array([0.1, 0.2, 0.4, 0.9, 2.0])
    assert (
        rank_agreement(measured**3, measured).value == pytest.approx(1) and "may be trusted" in rank_agreement(measured**3, measured).words
    )
    assert (
        rank_agreement(-measured, measured).value == pytest.approx(-1) and "may not be trusted" in rank_agreement(-measured, measured).words
    )
    few, flat = rank_agreement(measured[:4], measured[:4]), rank_agreement(np.ones(5), measured)
    assert few.value is None and "too few" in few.words and flat.value is None and "the same for all" in flat.words


def test_noise_in_the_measurement_takes_the_trust_away():
    measured = np.arange(8.0)
    still, noisy = np.tile(measured, (50, 1)), measured + np.random.default_rng(0).normal(0, 4, (50, 8))
    assert "may be trusted" in rank_agreement(measured, measured, still).words
    assert "not replace" in rank_agreement(measured, measured, noisy).words
