"""Both ends of every intervention on attention: next to nothing removed is the dense model, and level 1 leaves each query a key."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.attention import METHODS
from tests.interventions.attention.tiny import Tiny, calibrated, ids, run, subject

N, PAIRS = 24, 300
FEATURES = ("low-rank-attention", "scatterbrain")
"""Stand-ins for the softmax that are never it: their limit is in numbers of features."""
HALVES = ("alisa",)
"""Rounds both halves of its budget down, so it removes some where nothing was asked for, as its source does."""
LEFT = {"attention-blocks": 48, "minference": 48, "moa": 47, "attention-random": 47, "low-rank-attention": 48, "scatterbrain": 72}
"""Pairs at level 1: the own tile and the first one; the first key and itself; one feature a token, beside one key a query."""


def made(slug):
    return next(entry for entry in METHODS if entry.slug == slug).make(0)


@pytest.fixture(scope="module")
def model():
    return Tiny().eval()


@pytest.mark.parametrize("slug", [entry.slug for entry in METHODS if entry.slug not in (*FEATURES, *HALVES)])
def test_a_level_next_to_nothing_is_the_dense_model_up_to_rounding(model, slug):
    batch = {"input_ids": ids()}
    dense = run(model, batch)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(1e-9)
        assert torch.allclose(run(model, batch), dense, atol=1e-6)
        assert held.measured_share() == 0.0
        assert held.cost(1e-9).shares.pairs == 1.0


@pytest.mark.parametrize("slug", [entry.slug for entry in METHODS])
def test_at_level_1_as_few_pairs_are_left_as_the_method_can_and_every_query_has_one(model, slug):
    batch = {"input_ids": ids()}
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(1.0)
        out = run(model, batch)
        assert held.cost(1.0).shares.pairs == pytest.approx(LEFT.get(slug, N) / PAIRS)
    assert out.isfinite().all()


@pytest.mark.parametrize("slug", FEATURES)
@pytest.mark.parametrize("length", [3, 24])
def test_features_never_remove_less_than_nothing_and_keep_to_their_budget(model, slug, length):
    batch = {"input_ids": ids()[:, :length]}
    with made(slug).on(subject(model), calibrated(batch)) as held:
        for level in (1e-9, 0.1, 0.5):
            held.at(level)
            run(model, batch)
            assert 0 <= held.measured_share() <= 1
            if length == N:
                assert held.cost(level).shares.pairs <= 1 - level + 1e-9
