"""Threshold, cumulative mass, Keyformer, ALISA, Double Sparsity, HiP and random keys: METHODS' values, and plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.interventions.attention.alisa import SparseWindow
from analysis.interventions.attention.channels import Channels, strengths
from analysis.interventions.attention.h2o import HeavyHitters
from analysis.interventions.attention.hierarchy import Halving
from analysis.interventions.attention.keyformer import Keyformer
from analysis.interventions.attention.mass import Mass, tokens_kept
from analysis.interventions.attention.random_keys import RandomKeys
from analysis.interventions.attention.threshold import Threshold, sizes_of, threshold_at
from analysis.interventions.attention.top_k import TopK
from analysis.stats.attention_policies import alisa_mask
from tests.interventions.attention.tiny import (
    HEADS,
    T4,
    N,
    Tiny,
    answer_at,
    calibrated,
    dense_weights,
    ids,
    run,
    subject,
    written_out,
)

LOWER = torch.ones(N, N, dtype=torch.bool).tril()
EYE = torch.eye(N, dtype=torch.bool)


@pytest.fixture
def layer():
    tokens = ids()
    return Tiny().eval(), tokens, {"input_ids": tokens}


# ---------------------------------------------------------------------------------------------------------------------
# Threshold


def test_a_threshold_is_the_calibrations_quantile(layer):
    model, tokens, batch = layer
    weights = dense_weights(model, tokens)
    for level in (0.3, 0.8):
        with Threshold().on(subject(model), calibrated(batch)) as held:
            tau = held.at(level).native_value
            out = run(model, batch)
            removed = held.measured_share()
        below = (weights[LOWER.expand_as(weights)] < tau).double().mean()
        assert level - 0.05 < float(below) <= level + 1e-9
        masks = (weights >= tau) & LOWER | torch.zeros_like(LOWER.expand_as(weights)).scatter(-1, weights.argmax(-1, keepdim=True), True)
        assert removed == pytest.approx(1 - float(masks.sum()) / (300 * 2 * HEADS))
        assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)


def test_the_histogram_of_sizes_knows_its_edges():
    counts = sizes_of(torch.tensor([1.0, 0.5, 0.25, 0.25]))
    assert int(counts.sum()) == 4
    assert threshold_at(counts, 0.0) <= 0.25
    assert 0.25 < threshold_at(counts, 0.5) <= 0.5
    assert threshold_at(counts, 1.0) > 1
    assert int(sizes_of(torch.zeros(3))[0]) == 3


def test_at_level_1_a_threshold_leaves_the_largest_weight(layer):
    model, _, batch = layer
    assert torch.allclose(answer_at(Threshold(), model, batch, 1.0)[0], answer_at(TopK(), model, batch, 1.0)[0])


# ---------------------------------------------------------------------------------------------------------------------
# Cumulative mass


@pytest.mark.parametrize(("tau", "kept"), [(0.5, [0, 2]), (0.8, [0, 2, 3]), (0.96, [0, 1, 2, 3]), (0.975, [0, 1, 2, 3]), (0.0, [])])
def test_zipvl_on_t4_keeps_what_methods_says(tau, kept):
    assert tokens_kept(T4.sum(0), torch.tensor([4.0, 3, 2, 1]), tau).nonzero()[:, 0].tolist() == kept


def test_zipvl_goes_by_the_queries_so_far(layer):
    model, tokens, batch = layer
    with Mass().on(subject(model), calibrated(batch)) as held:
        held.at(0.3)
        out = run(model, batch)
        removed = held.measured_share()
    weights = dense_weights(model, tokens)
    masks = torch.zeros_like(weights, dtype=torch.bool)
    for b in range(2):
        pattern = weights[b].mean(0)
        for r in range(N):
            sums = [float(pattern[: r + 1, c].sum()) for c in range(r + 1)]
            count, held_mass = 0, 0.0
            for value in sorted(sums, reverse=True):
                if held_mass >= 0.7 * sum(sums):
                    break
                count, held_mass = count + 1, held_mass + value
            means = {c: s / (r + 1 - c) for c, s in enumerate(sums)}
            masks[b, :, r, sorted(means, key=lambda c, m=means: -m[c])[:count]] = True
            masks[b, :, r, r] = True
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)
    assert removed == pytest.approx(float(weights.masked_fill(masks, 0.0).sum()) / (2 * HEADS * N)), "of the mass, not of the pairs"


# ---------------------------------------------------------------------------------------------------------------------
# Eviction


def test_keyformer_without_noise_and_temperature_is_h2o_with_its_window(layer):
    model, _, batch = layer
    plain = Keyformer(noise=0.0, warmest=1.0, recent=0.5)
    assert torch.allclose(answer_at(plain, model, batch, 0.5)[0], answer_at(HeavyHitters(), model, batch, 0.5)[0], atol=1e-6)
    assert not torch.allclose(answer_at(Keyformer(recent=0.5), model, batch, 0.5)[0], answer_at(plain, model, batch, 0.5)[0], atol=1e-4)


def test_keyformers_draw_follows_its_seed(layer):
    model, _, batch = layer
    one, same, other = (answer_at(Keyformer(seed=seed), model, batch, 0.6)[0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_alisa_on_t4_keeps_what_methods_says():
    assert alisa_mask(T4[None], 0.5)[0, 3].nonzero()[:, 0].tolist() == [2, 3]


def test_alisa_goes_by_the_latest_queries(layer):
    model, tokens, batch = layer
    out, cost = answer_at(SparseWindow(), model, batch, 0.5)
    weights = dense_weights(model, tokens)
    masks = torch.zeros_like(weights, dtype=torch.bool)
    for b in range(2):
        for r in range(N):
            k = (r + 1) // 4
            sums = {c: float(weights[b, :, r + 1 - k : r + 1, c].sum()) for c in range(r + 1 - k)} if k else {}
            masks[b, :, r, [*range(r + 1 - k, r + 1), *sorted(sums, key=lambda c, s=sums: -s[c])[:k]]] = True
            masks[b, :, r, r] = True
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)
    assert cost.shares.keys_held == 1.0


@pytest.mark.parametrize("method", [SparseWindow(), Keyformer(), Mass()])
def test_at_level_1_each_query_sees_itself_only(layer, method):
    model, tokens, batch = layer
    assert torch.allclose(answer_at(method, model, batch, 1.0)[0], written_out(model, tokens, EYE.expand(2, HEADS, -1, -1)), atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Selection by less than all products


def test_strengths_of_channels_are_those_of_methods():
    q = torch.tensor([[[1.0, 2, 0, 3], [1, -2, 1, 3]]])
    k = torch.tensor([[[1.0, 1, 5, 0], [2, 1, 1, 0.1]]])
    assert strengths(q, k)[0].tolist() == pytest.approx([1.5, 2, 0.5, 0.15])


def test_all_channels_find_the_top_k(layer):
    model, _, batch = layer
    whole, few = (answer_at(Channels(share=share), model, batch, 0.6) for share in (1.0, 0.25))
    assert torch.allclose(whole[0], answer_at(TopK(), model, batch, 0.6)[0], atol=1e-6)
    assert not torch.allclose(few[0], whole[0], atol=1e-3)
    assert few[1].shares.overhead_pairs == pytest.approx(2 / 6 / 2), "two of six channels of every pair, half of a pair's cost"
    assert few[1].shares.overhead_keys == pytest.approx(2 / 6 / 2)


def test_channels_are_those_of_the_calibration(layer):
    model, tokens, batch = layer
    other = {"input_ids": ids(seed=7)}
    out, _ = answer_at(Channels(), model, batch, 0.6, other)
    q, k, _ = (x.detach() for x in model.parts(other["input_ids"]))
    chosen = (q * k).abs().mean((0, 2)).topk(2, dim=-1).indices
    q, k, _ = (x.detach() for x in model.parts(tokens))
    keys = next(K for K in range(1, N + 1) if sum(min(K, r + 1) for r in range(N)) >= 0.4 * 300)
    masks = torch.zeros(2, HEADS, N, N, dtype=torch.bool)
    for b in range(2):
        for h in range(HEADS):
            at = chosen[h]
            for r in range(N):
                scores = {c: float(q[b, h, r, at] @ k[b, h, c, at]) for c in range(r + 1)}
                masks[b, h, r, sorted(scores, key=lambda c, s=scores: -s[c])[:keys]] = True
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)


def test_halving_keeps_k_keys_and_pays_for_what_it_asks(layer):
    model, _, batch = layer
    out, cost = answer_at(Halving(), model, batch, 0.6)
    best, oracle = answer_at(TopK(), model, batch, 0.6)
    assert cost.shares.pairs == pytest.approx(oracle.shares.pairs)
    assert not torch.allclose(out, best, atol=1e-3)
    keys = 6  # leave 129 of 300 pairs; 5 leave 110
    asked = sum(min(2 * keys * 2, r + 1) - keys for r in range(N) if r + 1 > keys)
    assert cost.shares.overhead_pairs == pytest.approx(asked / 300 / 2)


def test_halving_finds_the_largest_where_logits_rise_with_position():
    model = Tiny().eval()
    with torch.no_grad():  # q . k = position of the key
        model.table.weight.zero_()
        model.table.weight[:, 0] = model.table.weight[:, 6] = torch.arange(40) * 1.0
        model.query.weight.zero_()
        model.key.weight.copy_(torch.eye(12))
    batch = {"input_ids": torch.arange(1, N + 1)[None]}
    with torch.no_grad():
        model.query.weight[0, 0] = model.query.weight[6, 6] = 0.2
    one, two = (answer_at(method, model, batch, 0.5)[0] for method in (Halving(), TopK()))
    assert torch.allclose(one, two, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Random keys


def test_random_keys_are_nested_and_keep_the_first_and_themselves(layer):
    model, tokens, batch = layer
    made = {}
    for level in (0.5, 0.8, 1.0):
        with RandomKeys().on(subject(model), calibrated(batch)) as held:
            held.at(level)
            made[level] = run(model, batch)
            share = held.measured_share()
        assert share == pytest.approx(level * (1 - 47 / 300), abs=0.08), "47 of the 300 pairs always stay"
    least = EYE.clone()
    least[:, 0] = True
    assert torch.allclose(made[1.0], written_out(model, tokens, least.expand(2, HEADS, -1, -1)), atol=1e-5)


def test_random_keys_vary_uniform_attention_as_theory_says():
    model = Tiny(causal=False).eval()
    n, rho = 400, 0.25
    with torch.no_grad():
        model.query.weight.zero_()
        model.out.weight.copy_(torch.eye(12))
        model.table.weight.normal_()
        model.value.weight.copy_(torch.eye(12))
    batch = {"input_ids": torch.arange(40).repeat(n // 40)[None]}
    dense = run(model, batch)
    out, _ = answer_at(RandomKeys(), model, batch, 1 - rho)
    expected = (1 - rho) / (rho * n) * float(model.table.weight.detach().var(0).mean())
    assert float((out - dense).square().mean()) == pytest.approx(expected, rel=0.15)
    assert math.isfinite(expected)
