"""Models whose own windows are narrower than the text: a level is a share of the pairs that the model itself computes."""

from __future__ import annotations

import functools

import pytest
import torch

from analysis.interventions.attention import METHODS
from analysis.interventions.attention.blocks import tiles_kept
from analysis.spec import IncompatibleSubject
from analysis.stats.attention_policies import alisa_mask, h2o_mask
from tests.interventions.attention.tiny import calibrated, run, subject

WINDOW, N = 8, 40
WHOLE_ONLY = {"minference", "moa"}
PARTS = {"low-rank-attention", "scatterbrain"}
"""Their level is worth of features, rounded down to whole ones; no pair is removed."""


@functools.cache
def qwen(first_windowed):
    """Two layers, of which those from ``first_windowed`` on see the last 8 keys only; and a batch of 40 tokens."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, initializer_range=0.3, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=first_windowed,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval(), {"input_ids": torch.randint(3, 60, (2, N), generator=torch.Generator().manual_seed(1))}


def made(slug):
    return next(entry for entry in METHODS if entry.slug == slug).make(0)


MASKED = [entry.slug for entry in METHODS if entry.slug not in PARTS]


@pytest.mark.parametrize("slug", [slug for slug in MASKED if slug not in WHOLE_ONLY])
def test_a_level_next_to_nothing_removes_nothing_within_a_window(slug):
    model, batch = qwen(0)
    dense = run(model, batch)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(1e-9)
        found = run(model, batch)
        pairs = WINDOW * (WINDOW + 1) // 2 + (N - WINDOW) * WINDOW
        # ALISA keeps an even number of keys, so that of its rows with 3, 5 and 7 keys one is gone at any level above 0
        gone = 3 / pairs if slug == "alisa" else 0.0
        assert held.measured_share() == pytest.approx(gone, abs=1e-9)
        assert held.facts["calls_left_dense"] == 0
    assert slug == "alisa" or torch.allclose(found, dense, atol=1e-4)


@pytest.mark.parametrize("slug", [slug for slug in MASKED if slug not in WHOLE_ONLY and slug != "zipvl"])
def test_half_of_a_window_is_half_of_its_pairs(slug):
    """Of blocks a tile is the least that can go, and of ALISA's keys two."""
    model, batch = qwen(0)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        run(model, batch)
        assert held.measured_share() == pytest.approx(0.5, abs=0.25 if slug == "attention-blocks" else 0.13)


@pytest.mark.parametrize("slug", sorted(WHOLE_ONLY))
def test_methods_that_need_the_whole_text_leave_windows_dense_or_say_why_not(slug):
    model, batch = qwen(1)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        assert held.facts["calls"] == 1 and held.facts["calls_left_dense"] == 1
        held.at(0.6)
        run(model, batch)
        assert held.measured_share() > 0.4
    model, batch = qwen(0)
    with pytest.raises(IncompatibleSubject, match="windows narrower than it everywhere"), made(slug).on(subject(model), calibrated(batch)):
        pass
    short = {"input_ids": batch["input_ids"][:, :WINDOW]}
    with made(slug).on(subject(model), calibrated(short)) as held:
        assert held.facts["calls_left_dense"] == 0, "texts that fit are whole"


def test_heavy_hitters_that_a_window_left_behind_take_no_place():
    weights = torch.tensor([[[1.0, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 0.7, 0.3]]])
    window = weights > 0
    assert h2o_mask(weights, 1, 1, window)[0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert h2o_mask(weights, 1, 1)[0, 3].tolist() == [True, False, False, True], "without it the first key is the heaviest"


def test_alisa_chooses_among_the_keys_of_the_window():
    weights = torch.tensor([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0.2, 0.3, 0.5]]])
    assert alisa_mask(weights, 0.7, [1, 2, 2, 3])[0, 3].tolist() == [False, False, True, True]


def test_tiles_that_no_query_may_see_are_never_chosen():
    seen = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    kept = tiles_kept(torch.zeros(1, 3, 3), 2, True, seen)[0]
    assert kept[2].tolist() == [False, True, True] and kept[1].tolist() == [True, True, False]


@functools.cache
def modernbert():
    """Three layers that look both ways, two of them at 4 keys on either side; and a batch of 40 tokens."""
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, local_attention=WINDOW,
        global_attn_every_n_layers=3, max_position_embeddings=64, pad_token_id=0, attn_implementation="eager",
        bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    return ModernBertModel(config).eval(), {"input_ids": torch.randint(3, 60, (2, N), generator=torch.Generator().manual_seed(1))}


BOTH_WAYS = [entry.slug for entry in METHODS if entry.needs_causal is None and entry.slug in MASKED]


@pytest.mark.parametrize("slug", BOTH_WAYS)
def test_a_level_next_to_nothing_removes_nothing_of_models_that_look_both_ways(slug):
    model, batch = modernbert()
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(1e-9)
        run(model, batch)
        assert held.measured_share() == pytest.approx(0.0, abs=1e-9)
        assert held.facts["calls_left_dense"] == (2 if slug in WHOLE_ONLY else 0)


def test_calls_that_are_left_dense_are_paid_for():
    """Two layers of equal heads, one acted on: half of the attention is dense."""
    costs = {}
    for layers in (1, 2):
        model, batch = qwen(layers)
        with made("moa").on(subject(model), calibrated(batch)) as held:
            held.at(0.6)
            run(model, batch)
            costs[layers] = held.cost(0.6).shares, held.measured_share()
    one, gone = costs[1]
    assert 1 - one.pairs == pytest.approx(gone / 2) and one.keys_read > 0.5 and one.keys_held > 0.5
    both, gone = costs[2]
    assert 1 - both.pairs == pytest.approx(gone)
