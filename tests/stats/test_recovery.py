"""Loss and KL recovered against numbers by hand; an ablation that costs nothing leaves nothing to recover."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.stats.losses import kl_divergence
from analysis.stats.paired import Resample
from analysis.stats.recovery import SAELENS_NAMES, recovered, recovered_over_documents, saelens_metrics


def test_loss_recovered_by_hand():
    """METHODS D4: clean 3, spliced 3.2, zero ablation 10, mean ablation 5."""
    assert recovered(3.2 - 3, 10 - 3) == pytest.approx(0.971429, abs=1e-6)
    assert recovered(3.2 - 3, 5 - 3) == pytest.approx(0.9)


def test_the_truth_recovers_all_and_the_ablation_itself_nothing():
    assert recovered(0.0, 4.5) == 1
    assert recovered(4.5, 4.5) == 0
    assert recovered(9.0, 4.5) == -1, "not clamped"


def test_where_ablating_costs_nothing_there_is_no_score():
    assert recovered(0.1, 0.0) is None
    assert recovered(0.1, -0.2) is None
    found = recovered_over_documents([1.0, 1.0], [-1.0, 0.5], Resample.of([10, 10]))
    assert found.value is None and "nothing to recover" in found.why


def test_kl_score_by_hand():
    p = torch.tensor([[0.5, 0.5]]).log()
    kl = {q: float(kl_divergence(p, torch.tensor([[q, 1 - q]]).log(), torch.ones(1, dtype=torch.bool))[0]) for q in (0.9, 0.6)}
    assert kl[0.9] == pytest.approx(0.510826, abs=1e-6)
    assert kl[0.6] == pytest.approx(0.020411, abs=1e-6)
    assert recovered(kl[0.6], kl[0.9]) == pytest.approx(0.960043, abs=1e-6)


def test_means_come_first_then_the_ratio():
    """By document the ratios are 0.5 and 0.9; the ratio of means is 0.86, since one document is nine times as much."""
    found = recovered_over_documents([5.0, 9.0], [10.0, 90.0], Resample.of([1, 1]))
    assert found.value == pytest.approx(1 - 14 / 100)


def test_the_interval_is_over_documents():
    random = np.random.default_rng(0)
    ablated = random.uniform(50, 150, 60)
    found = recovered_over_documents(0.1 * ablated * random.uniform(0.5, 1.5, 60), ablated, Resample.of(np.full(60, 10)))
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.05
    alone = recovered_over_documents([1.0], [10.0], Resample.of([5]))
    assert (alone.value, alone.low) == (0.9, None) and "one document" in alone.why
    assert recovered_over_documents([math.inf, 0], [10.0, 1], Resample.of([5, 5])).value is None


def test_export_has_saelens_groups_and_leaves_out_what_is_missing():
    found = saelens_metrics({"loss_clean": 3.0, "loss_recovered_zero": None, "l0": 12.5, "cosine": 0.9}, 100, 120)
    assert found == {
        "model_performance_preservation": {"ce_loss_without_sae": 3.0},
        "reconstruction_quality": {"cossim": 0.9},
        "sparsity": {"l0": 12.5},
        "token_stats": {"total_tokens_eval_reconstruction": 100, "total_tokens_eval_sparsity_variance": 120},
    }
    assert len(set(SAELENS_NAMES.values())) == len(SAELENS_NAMES)
