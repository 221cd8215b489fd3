"""Patterns of few keys, halving, sparse and low-rank errors, page rank, similarity, spans: hand-computed values of METHODS (T4)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.stats import attention_spans, head_similarity, page_rank, pattern_errors, pattern_hierarchy, pattern_masks, pattern_shapes

T4 = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)[None]
CAUSAL = torch.ones(4, 4, dtype=torch.bool).tril()
TWO = torch.stack([torch.eye(2), torch.full((2, 2), 0.5)]).double()


def kept_rows(mask):
    return T4.where(mask, 0.0).sum(-1)[0].tolist()


def random_causal(heads, n, seed=0, sharp=1.0):
    logits = torch.randn(heads, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * sharp
    return logits.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -math.inf).softmax(-1)


# ---------------------------------------------------------------------------------------------------------------------
# C2


def test_the_a_shape_keeps_what_was_computed_by_hand():
    assert kept_rows(pattern_masks.a_shape(4, 1, 1)) == pytest.approx([1, 1, 0.7, 0.5])
    assert np.mean(kept_rows(pattern_masks.a_shape(4, 1, 1))) == pytest.approx(0.8)


def test_columns_and_diagonals_keep_what_was_computed_by_hand():
    columns = torch.tensor([[True, True, False, False]])
    diagonals = torch.zeros(1, 7, dtype=torch.bool)
    diagonals[0, 3] = True
    assert kept_rows(pattern_masks.lines_mask(columns, diagonals)) == pytest.approx([1, 1, 1, 0.7])


def test_blocks_by_their_sum_keep_what_was_computed_by_hand():
    sums = torch.tensor([[[2.0, 0.0], [0.8, 1.2]]])
    assert np.mean(kept_rows(pattern_masks.block_mask(sums, 1, 2, 4))) == pytest.approx(0.8)


def test_a_window_around_the_query_holds_as_many_keys_ahead_of_it_as_behind():
    mask = pattern_masks.a_shape(9, 0, 3, causal=False)
    assert mask[4].nonzero()[:, 0].tolist() == [3, 4, 5]
    assert pattern_masks.a_shape(9, 0, 3)[4].nonzero()[:, 0].tolist() == [2, 3, 4]


def test_mean_logits_of_blocks_are_products_of_mean_pooled_queries_and_keys():
    q, k = torch.randn(2, 1, 6, 5, dtype=torch.float64).unbind(0)
    found = pattern_masks.block_means(q @ k.transpose(1, 2), torch.ones(6, 6, dtype=torch.bool), 2)
    pooled = [x.unflatten(1, (-1, 2)).mean(2) for x in (q, k)]
    torch.testing.assert_close(found, pooled[0] @ pooled[1].transpose(1, 2))
    masked = pattern_masks.block_means(torch.zeros(1, 5, 5), torch.ones(5, 5, dtype=torch.bool).tril(), 2)
    assert masked[0, 0].tolist() == [0, -math.inf, -math.inf]
    assert masked.shape == (1, 3, 3), "the last block is narrower"


def test_diagonals_add_up():
    sums = pattern_masks.diagonal_sums(T4)[0]
    assert sums[3:].tolist() == pytest.approx([2.4, 1.1, 0.4, 0.1])
    assert sums[:3].tolist() == [0, 0, 0]


def test_a_search_gives_every_class_its_budget_and_finds_what_was_planted():
    n, keys = 64, 16
    row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    valid = key <= row
    looks = torch.stack([(row - key < 8) | (key == 0), (key % 11 == 5) | (row - key == 17), (row // 16 == key // 16)]) & valid
    logits = torch.where(looks | (valid & (row == key)), 0.0, -30.0).double().masked_fill(~valid, -1e10)
    found = pattern_masks.search(logits.softmax(-1), logits, valid, keys, 16, causal=True)
    assert [pattern_masks.chosen_class(r) for r in found.recall.tolist()] == ["A-shape", "vertical-slash", "block-sparse"]
    assert (found.recall.diagonal() > 0.99).all()
    assert (found.density * valid[n // 2 :].sum() <= keys * n / 2 + 1e-6).all(), "no class keeps more than its budget"
    assert found.density[0, 0] == pytest.approx(keys * n / 2 / float(valid[n // 2 :].sum())), "the A-shape keeps exactly it"


def test_everything_kept_is_everything_recalled():
    weights = random_causal(2, 8)
    found = pattern_masks.search(weights, weights.clamp(min=1e-30).log(), torch.ones(8, 8, dtype=torch.bool).tril(), 8, 8, causal=True)
    torch.testing.assert_close(found.recall[:, 2], torch.ones(2, dtype=torch.float64))
    assert found.recall[:, 0].tolist() == pytest.approx([1, 1])


def test_the_a_shape_spends_a_ninth_of_its_budget_on_the_first_keys():
    weights = torch.zeros(1, 64, 64, dtype=torch.float64)
    weights[:, :, :4] = 0.25
    valid = torch.ones(64, 64, dtype=torch.bool).tril()
    found = pattern_masks.search(weights, weights.log().clamp(min=-1e10), valid, 18, 16, causal=True)
    assert found.recall[0, 0].item() == pytest.approx(0.5), "2 of 18 keys"


def test_of_classes_that_tie_the_simplest_is_taken():
    assert pattern_masks.chosen_class([0.9995, 1.0, 1.0]) == "A-shape"
    assert pattern_masks.chosen_class([0.99, 1.0, 1.0]) == "vertical-slash"


# ---------------------------------------------------------------------------------------------------------------------
# Ours: shapes


def test_staying_within_blocks_is_told_from_being_local():
    n, width = 128, 32
    row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    local = ((row - key < 8) & (key <= row)).double()
    blocks = ((row // width == key // width) & (key <= row)).double()
    weights = torch.stack([local, blocks])
    weights /= weights.sum(-1, keepdim=True)
    stats = pattern_shapes.shape_stats(weights, key <= row, 16, causal=True)
    gain, inside = (stats[:, pattern_shapes.STATS.index(name)] for name in ("block_gain", "block"))
    assert gain.tolist() == pytest.approx([0, 1], abs=0.05)
    assert inside[1] == pytest.approx(1)
    assert stats[0, pattern_shapes.STATS.index("local")] == pytest.approx(1)


def test_evenness_is_one_for_equal_weights_and_0_for_one_key():
    n = 16
    even = torch.ones(n, n).tril().double()
    weights = torch.stack([even / even.sum(-1, keepdim=True), torch.eye(n).double()])
    stats = pattern_shapes.shape_stats(weights, even.bool(), 2, causal=True)
    assert stats[:, pattern_shapes.STATS.index("evenness")].tolist() == pytest.approx([1, 0])
    assert stats[1, pattern_shapes.STATS.index("current")] == 1
    with pytest.raises(ValueError, match="must be numbers"):
        pattern_shapes.shape_of(dict.fromkeys(pattern_shapes.STATS, math.nan), 0.0, 0.8, 0.95, 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# C8


def test_halving_finds_the_largest_of_scores_that_rise_with_position():
    scores = torch.arange(64.0).expand(1, 64, 64)
    counts = torch.arange(64) + 1
    for keys in (4, 8, 13):
        assert torch.equal(pattern_hierarchy.halving(scores, counts, keys), pattern_hierarchy.largest(scores, counts, keys)), keys


def test_halving_with_as_many_keys_as_there_are_is_dense():
    scores, counts = torch.randn(2, 9, 9), torch.arange(9) + 1
    assert torch.equal(pattern_hierarchy.halving(scores, counts, 9)[0], torch.ones(9, 9, dtype=torch.bool).tril())


def test_halving_can_miss_a_lonely_spike_and_keeps_as_many_keys_all_the_same():
    scores = torch.linspace(0, 1, 64).expand(1, 1, 64).clone()
    scores[0, 0, 2] = 100.0
    counts = torch.tensor([64])
    found = pattern_hierarchy.halving(scores, counts, 4)
    assert found.sum() == 4
    assert not found[0, 0, 2]
    assert pattern_hierarchy.largest(scores, counts, 4)[0, 0, 2]


def test_a_range_is_known_by_its_middle_key():
    scores = torch.zeros(2, 1, 8)
    scores[0, 0, 5], scores[1, 0, 4] = 1.0, 1.0
    found = pattern_hierarchy.halving(scores, torch.tensor([8]), 1)
    assert found[0, 0].nonzero().tolist() == [[5]]
    assert not found[1, 0, 4], "key 4 is the middle of no first half"


# ---------------------------------------------------------------------------------------------------------------------
# C15


def test_singular_values_and_errors_are_those_computed_by_hand():
    squares, _ = pattern_errors.spectrum(T4)
    assert squares.sqrt()[0].tolist() == pytest.approx([1.201870, 0.701972, 0.384043, 0.308634], abs=1e-6)
    assert pattern_errors.rank_error(squares, 1).item() == pytest.approx(0.580852, abs=1e-6)
    assert pattern_errors.rank_error(squares, 2).item() == pytest.approx(0.333692, abs=1e-6)
    assert pattern_errors.sparse_error(T4, 1).item() == pytest.approx(0.488397, abs=1e-6)


def test_full_support_or_full_rank_leaves_no_error():
    squares, vectors = pattern_errors.spectrum(T4)
    assert pattern_errors.sparse_error(T4, 4).item() == 0
    assert pattern_errors.rank_error(squares, 4).item() == 0
    assert pattern_errors.combined_error(T4, 4, vectors, 1).item() == pytest.approx(0, abs=1e-6)
    assert pattern_errors.combined_error(T4, 1, vectors, 4).item() == pytest.approx(0, abs=1e-6)


def test_a_low_rank_pattern_with_spikes_is_found_as_the_sum_of_both():
    n = 64
    random = torch.Generator().manual_seed(0)
    weights = torch.full((1, n, n), 0.5 / n, dtype=torch.float64)
    weights[0, torch.arange(n), torch.randperm(n, generator=random)] += 0.5
    squares, vectors = pattern_errors.spectrum(weights)
    both = pattern_errors.combined_error(weights, 1, vectors, 1).item()
    assert both < 1e-5
    assert both < min(pattern_errors.sparse_error(weights, 3).item(), pattern_errors.rank_error(squares, 1).item()) / 10


def test_the_sum_is_never_worse_than_its_parts():
    weights = random_causal(3, 32, sharp=2.0)
    squares, vectors = pattern_errors.spectrum(weights)
    both = pattern_errors.combined_error(weights, 4, vectors, 2)
    assert (both <= pattern_errors.sparse_error(weights, 4) + 1e-6).all()
    assert (both <= pattern_errors.rank_error(squares, 2) + 1e-6).all()


# ---------------------------------------------------------------------------------------------------------------------
# C13


def test_page_rank_is_uniform_for_doubly_stochastic_patterns_and_as_computed_by_hand():
    ring = torch.roll(torch.eye(4), 1, dims=1).double() * 0.7 + 0.3 / 4
    walk = torch.tensor([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]], dtype=torch.float64)
    assert page_rank.page_rank(ring[None])[0].tolist() == pytest.approx([0.25] * 4)
    assert page_rank.page_rank(walk[None])[0].tolist() == pytest.approx([0.25, 0.5, 0.25])


def test_a_bipartite_pattern_does_not_oscillate():
    star = torch.tensor([[0, 0.5, 0.5], [1, 0, 0], [1, 0, 0]], dtype=torch.float64)
    for iterations in (50, 51):
        assert page_rank.page_rank(star[None], iterations)[0].tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_importance_on_one_token_has_the_largest_variance():
    ranks = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4], dtype=torch.float64)
    assert page_rank.rank_variance(ranks).tolist() == pytest.approx([3, 0])
    assert page_rank.top_share(ranks, 0.25).tolist() == pytest.approx([1, 0.25])


def test_heads_with_flat_or_degenerate_importance_are_left_out_of_the_mean_over_heads():
    ranks = torch.tensor([[0.4, 0.2, 0.2, 0.2], [0.25] * 4, [1.0, 0, 0, 0]], dtype=torch.float64)
    found, counted = page_rank.over_heads(ranks)
    assert counted.tolist() == [True, False, False]
    assert found.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])


# ---------------------------------------------------------------------------------------------------------------------
# C16


def test_agreement_divergences_and_cosine_are_those_computed_by_hand():
    assert head_similarity.agreement(TWO).mean().item() == pytest.approx(0.625)
    assert head_similarity.divergence(TWO[0], TWO[1]).tolist() == pytest.approx([math.log(2)] * 2)
    assert head_similarity.jensen_shannon(TWO)[0, 1].item() == pytest.approx(0.215762, abs=1e-6)
    half = (TWO[0] + TWO[1]) / 2
    by_parts = (head_similarity.divergence(TWO[0], half) + head_similarity.divergence(TWO[1], half)) / 2
    assert by_parts.mean().item() == pytest.approx(0.215762, abs=1e-6)


def test_equal_heads_are_equal_by_every_measure():
    weights = random_causal(1, 12).expand(2, -1, -1)
    outputs = torch.randn(1, 12, 4).expand(2, -1, -1)
    assert head_similarity.jensen_shannon(weights)[0, 1].item() == pytest.approx(0, abs=1e-12)
    assert head_similarity.output_cosine(outputs)[0, 1].item() == pytest.approx(1)
    assert head_similarity.linear_cka(outputs)[0, 1].item() == pytest.approx(1)
    pool = head_similarity.pooled(weights, 4)
    torch.testing.assert_close(pool.sum(-1), torch.ones(2, 4, dtype=torch.float64))
    assert head_similarity.overlap(pool, pool)[0, 1].item() == pytest.approx(1)


def test_the_blocks_of_t4_with_the_largest_sums_hold_four_fifths():
    t4 = torch.tensor([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]]])
    assert pattern_masks.block_sums(t4, 2)[0].flatten().tolist() == pytest.approx([2, 0, 0.8, 1.2])
    valid = torch.ones(4, 4, dtype=torch.bool).tril()
    assert pattern_masks.block_sum_recall(t4, valid, 2, 2, causal=False).item() == pytest.approx(0.8)
    assert pattern_masks.block_sum_recall(t4, valid, 2, 2, causal=True).item() == pytest.approx((0.5 + 0.7) / 2), "the later rows"
    assert pattern_masks.block_sum_recall(t4, valid, 4, 2, causal=False).item() == pytest.approx(1)
    uniform = torch.full((1, 8, 8), 1 / 8)
    assert pattern_masks.block_sum_recall(uniform, torch.ones(8, 8, dtype=torch.bool), 2, 2, causal=False).item() == pytest.approx(0.25)


def test_a_query_that_sees_no_key_is_in_no_mean_and_leads_nowhere_in_particular():
    weights = torch.stack([torch.eye(8), torch.roll(torch.eye(8), 1, dims=1)])
    weights[:, [0, 5]] = 0.0
    pool = head_similarity.pooled(weights, 4)
    torch.testing.assert_close(pool.sum(-1), torch.ones(2, 4))
    whole = head_similarity.pooled(weights.index_fill(1, torch.tensor(1), 0.0), 4)
    assert whole[0].sum(-1).tolist() == [0, 1, 1, 1]
    assert head_similarity.overlap(whole, pool)[0, 0].item() == pytest.approx(1), "the empty part counts for nothing"
    ranks = page_rank.page_rank(weights)
    assert ranks.sum(1).tolist() == pytest.approx([1, 1])
    even = weights.clone()
    even[:, [0, 5]] = 1 / 8
    torch.testing.assert_close(ranks, page_rank.page_rank(even))
    valid = torch.ones(8, 8, dtype=torch.bool).tril(-1)
    assert pattern_masks.counted_rows(valid, causal=True).tolist() == [4, 5, 6, 7]
    assert pattern_masks.counted_rows(valid, causal=False).tolist() == [1, 2, 3, 4, 5, 6, 7]
    valid[4:] = False
    assert pattern_masks.counted_rows(valid, causal=True).tolist() == [1, 2, 3]


def test_heads_that_share_no_key_are_as_far_apart_as_can_be():
    apart = torch.stack([torch.eye(4), torch.roll(torch.eye(4), 2, dims=1)])
    assert head_similarity.jensen_shannon(apart)[0, 1].item() == pytest.approx(math.log(2))
    assert head_similarity.distance(np.array([0.0, math.log(2)])).tolist() == pytest.approx([0, 1])
    assert head_similarity.overlap(head_similarity.pooled(apart, 2), head_similarity.pooled(apart, 2))[0, 1] == 0


def test_cka_does_not_change_with_rotation_and_scale_and_is_0_for_unrelated_outputs():
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    constant = torch.ones(20, 3, dtype=torch.float64)
    found = head_similarity.linear_cka(torch.stack([z, 5 * z @ turn + 2, constant]))
    assert found[0, 1].item() == pytest.approx(1)
    assert found[0, 2] == 0
    one, other = torch.zeros(4, 1).double(), torch.zeros(4, 1).double()
    one[:, 0], other[:, 0] = torch.tensor([1, -1, 1, -1.0]), torch.tensor([1, 1, -1, -1.0])
    assert head_similarity.linear_cka(torch.stack([one, other]))[0, 1].item() == pytest.approx(0, abs=1e-12)


def test_the_tree_joins_the_nearest_first_and_its_branches_do_not_cross():
    far = np.array([[0, 0.9, 0.1, 0.8], [0.9, 0, 0.9, 0.2], [0.1, 0.9, 0, 0.8], [0.8, 0.2, 0.8, 0]])
    merges, leaves, clusters = head_similarity.tree(far, 0.25)
    assert merges[:2, :2].tolist() == [[0, 2], [1, 3]]
    assert merges[:, 2].tolist() == pytest.approx([0.1, 0.2, 0.85])
    assert clusters.tolist() == [0, 1, 0, 1]
    assert abs(leaves[0] - leaves[2]) == 1
    assert sorted(leaves) == [0, 1, 2, 3]
    assert head_similarity.tree(np.zeros((1, 1)), 0.25)[0].shape == (0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# C3


def masked_loss(weights, gradient, masked):
    left = weights.where(~masked, 0.0)
    return ((left / left.sum(-1, keepdim=True) - weights) * gradient).sum().item()


def test_influence_is_the_exact_change_of_a_linear_loss():
    weights = random_causal(1, 5)
    gradient = torch.randn(1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    masked = torch.zeros(5, 5, dtype=torch.bool)
    masked[3, 1] = True
    found = attention_spans.influence(weights, gradient)[0, 3, 1].item()
    assert found == pytest.approx(masked_loss(weights, gradient, masked), rel=1e-4)
    assert attention_spans.influence(weights, gradient)[0, 0, 0].item() == pytest.approx(-gradient[0, 0, 0].item()), "a single key"


def test_masking_a_set_at_once_is_not_the_sum_of_its_parts():
    weights = random_causal(1, 5)
    gradient = torch.randn(1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    masked = attention_spans.beyond(5, 1, 1)
    true = masked_loss(weights, gradient, masked)
    assert attention_spans.masked_change(weights, gradient * weights, masked).item() == pytest.approx(true)
    summed = attention_spans.influence(weights, gradient)[0][masked].sum().item()
    assert abs(summed - true) > 0.01


def test_a_span_keeps_its_last_blocks_and_the_first_and_the_whole_window_costs_nothing():
    masked = attention_spans.beyond(6, 2, 2)
    assert masked.nonzero().tolist() == []
    assert attention_spans.beyond(8, 2, 2)[6].nonzero()[:, 0].tolist() == [2, 3]
    weights, gradient = random_causal(2, 8), torch.randn(2, 8, 8, dtype=torch.float64)
    costs = attention_spans.span_costs(weights, gradient, 2)
    assert costs.shape == (2, 4, 2)
    assert costs[:, -1].tolist() == [[0, 0], [0, 0]]
    assert (costs[:, :-1, 0].diff(dim=1) <= 1e-12).all(), "longer spans sum fewer influences"


def test_costs_by_blocks_are_those_of_the_pairs_and_of_a_head_that_looks_at_one_key_only():
    weights = random_causal(2, 10)
    weights[1] = 1e-9
    weights[1, :, 5] = 1.0
    weights = weights.tril() / weights.tril().sum(-1, keepdim=True)
    gradient = torch.randn(2, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    costs = attention_spans.span_costs(weights, gradient, 4)
    for blocks in (1, 2, 3):
        masked = attention_spans.beyond(10, blocks, 4)
        summed = attention_spans.influence(weights, gradient).abs().where(masked, 0.0).sum((1, 2))
        assert costs[:, blocks - 1, 0].tolist() == pytest.approx(summed.tolist())
        for h in range(2):
            assert costs[h, blocks - 1, 1].item() == pytest.approx(masked_loss(weights[h], gradient[h], masked), abs=1e-9), (h, blocks)
    assert abs(costs[1, 0, 1].item()) > 0.1, "what it looks at lies beyond the span of one block"
