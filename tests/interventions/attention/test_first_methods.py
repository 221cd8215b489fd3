"""Top-k, sinks and a window, blocks, H2O: against plain loops on a layer written out."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.attention.blocks import Blocks, block_of, spread, tile_pairs, tiles_at, tiles_kept
from analysis.interventions.attention.h2o import HeavyHitters
from analysis.interventions.attention.sink_window import SinkWindow
from analysis.interventions.attention.top_k import TopK, top_keys
from analysis.stats.attention_policies import h2o_mask, kept_mass
from analysis.stats.pattern_masks import a_shape
from tests.interventions.attention.tiny import HEADS, T4, N, Tiny, answer_at, dense_weights, ids, written_out

LOWER = torch.ones(N, N, dtype=torch.bool).tril()


def row_masses(mask):
    return (T4 * (mask & torch.ones(4, 4, dtype=torch.bool).tril())).sum(-1).tolist()


def test_top_two_keys_of_t4_hold_what_methods_says():
    assert row_masses(top_keys(T4, 2)) == pytest.approx([1, 1, 0.8, 0.7])
    assert row_masses(top_keys(T4, 1)) == pytest.approx([1, 0.5, 0.5, 0.4])


def test_one_sink_and_a_window_of_one_on_t4():
    assert row_masses(a_shape(4, 1, 1)) == pytest.approx([1, 1, 0.7, 0.5])


def test_one_tile_of_two_holds_four_fifths_of_t4():
    sums = torch.tensor([[[2.0, -torch.inf], [0.8, 1.2]]])
    mask = spread(tiles_kept(sums, 1, True), 2, 4)
    assert float(kept_mass(T4[None], mask, slice(0, 4))[0]) == pytest.approx(0.8)


def test_one_heavy_and_one_recent_key_on_t4():
    expected = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]).bool()
    assert torch.equal(h2o_mask(T4[None], 1, 1)[0], expected)


@pytest.mark.parametrize("causal", [True, False])
def test_top_k_is_a_softmax_over_the_largest_logits(causal):
    model, tokens = Tiny(causal).eval(), ids()
    out, cost = answer_at(TopK(), model, {"input_ids": tokens}, 0.5)
    keys = 7 if causal else 12  # 7 keys leave 147 of 300 pairs < half, 8 leave 164
    keys = 8 if causal else keys
    weights = dense_weights(model, tokens)
    masks = torch.zeros_like(weights, dtype=torch.bool)
    for b in range(2):
        for h in range(HEADS):
            for r in range(N):
                row = weights[b, h, r]
                masks[b, h, r, sorted(range(r + 1 if causal else N), key=lambda c, row=row: -row[c])[:keys]] = True
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)
    pairs = (keys * (keys + 1) / 2 + (N - keys) * keys) / 300 if causal else 0.5
    assert cost.shares.pairs == pytest.approx(pairs)
    assert cost.shares.overhead_pairs == pytest.approx((1 - pairs) / 2), "every product is computed"
    assert cost.shares.keys_read == pytest.approx(keys / N)
    assert cost.shares.keys_held == 1.0


def test_at_level_1_each_query_sees_its_best_key_only():
    model, tokens = Tiny().eval(), ids()
    out, _ = answer_at(TopK(), model, {"input_ids": tokens}, 1.0)
    best = dense_weights(model, tokens).argmax(-1)
    masks = torch.zeros(2, HEADS, N, N, dtype=torch.bool).scatter_(-1, best[..., None], True)
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)


def test_a_window_with_sinks_is_known_beforehand():
    model, tokens = Tiny().eval(), ids()
    out, cost = answer_at(SinkWindow(), model, {"input_ids": tokens}, 0.5)
    masks = torch.tensor([[(c < 4 or c > r - 4) and c <= r for c in range(N)] for r in range(N)])
    assert torch.allclose(out, written_out(model, tokens, masks.expand(2, HEADS, -1, -1)), atol=1e-5)
    assert cost.shares.keys_held == pytest.approx(8 / N)
    assert cost.shares.overhead_pairs == 0


@pytest.mark.parametrize("method", [SinkWindow(), HeavyHitters()])
def test_at_level_1_each_query_sees_itself_only(method):
    model, tokens = Tiny().eval(), ids()
    out, _ = answer_at(method, model, {"input_ids": tokens}, 1.0)
    masks = torch.eye(N, dtype=torch.bool).expand(2, HEADS, -1, -1)
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)


def test_a_tile_of_queries_chooses_by_the_tile_before_it():
    model, tokens = Tiny().eval(), ids()
    out, cost = answer_at(Blocks(block=4), model, {"input_ids": tokens}, 0.5)
    block = block_of(N, 4)
    assert block == 3
    count = tiles_at(0.5, tile_pairs(LOWER, block))
    q, k, _ = model.parts(tokens)
    logits = (q @ k.transpose(-1, -2)).detach()
    masks = torch.zeros(2, HEADS, N, N, dtype=torch.bool)
    for b in range(2):
        for h in range(HEADS):
            for t in range(8):
                scored = {}
                for j in range(1, t):
                    queries = [r for r in range(N) if r // block == t - 1]
                    inside = [logits[b, h, r, c] for r in queries for c in range(j * block, (j + 1) * block) if c <= r]
                    scored[j] = float(torch.stack(inside).mean())
                chosen = ([t] + [0] * (t > 0) + sorted(scored, key=lambda j, s=scored: -s[j]))[:count]
                for j in chosen:
                    masks[b, h, t * block : (t + 1) * block, j * block : (j + 1) * block] = True
    masks &= LOWER
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)
    assert cost.shares.pairs == pytest.approx(float(masks.sum()) / (300 * 2 * HEADS))
    assert cost.shares.overhead_pairs == pytest.approx(36 / 300 / 2), "a product for each pair of tiles"


def test_tiles_leave_at_least_the_levels_share():
    pairs = tile_pairs(LOWER, 3)
    assert float(pairs.sum()) == 300
    assert [tiles_at(level, pairs) for level in (0.0, 1.0)] == [8, 1]
    two = 8 * 6 + 7 * 9
    assert tiles_at(1 - two / 300, pairs) == 2
    assert tiles_at(1 - (two + 1) / 300, pairs) == 3


def test_heavy_hitters_are_evicted_for_good():
    model, tokens = Tiny().eval(), ids()
    out, cost = answer_at(HeavyHitters(), model, {"input_ids": tokens}, 0.5)
    weights = dense_weights(model, tokens)
    masks = torch.zeros_like(weights, dtype=torch.bool)
    for b in range(2):
        for h in range(HEADS):
            alive, score = [], dict.fromkeys(range(N), 0.0)
            for t in range(N):
                alive.append(t)
                old = [c for c in alive if c <= t - 4]
                if len(old) > 4:
                    gone = min(old, key=lambda c, s=score: s[c])
                    alive.remove(gone)
                masks[b, h, t, alive] = True
                total = sum(float(weights[b, h, t, c]) for c in alive)
                for c in alive:
                    score[c] += float(weights[b, h, t, c]) / total
    assert torch.allclose(out, written_out(model, tokens, masks), atol=1e-5)
    assert cost.shares.keys_held == pytest.approx(8 / N)
    assert cost.shares.keys_read == pytest.approx(8 / N)
