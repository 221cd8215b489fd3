"""Per-query statistics against METHODS' fixture T4, against known patterns, and against plain recomputation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.stats.attention import HeadTally, Queries
from analysis.stats.attention_columns import (
    WINDOW,
    block_density,
    detected_sinks,
    ground_truth,
    heavy_mass,
    pooled,
    zipvl_ratio,
)
from analysis.stats.attention_kernel import EXCLUDED, octave, select
from analysis.stats.attention_measures import DENOMINATOR, ROW, ROWS
from analysis.stats.attention_policies import alisa_mask, channel_scores, h2o_mask, kept_mass, top_mask
from analysis.stats.attention_stripes import stripe_sums
from analysis.stats.sparsity import gini

T4 = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])
LOWER = np.tril(np.ones((4, 4), bool))


def logits_of(patterns, valid):
    """[heads, n, n] logits of given patterns; an allowed key without weight gets a logit far down."""
    with np.errstate(divide="ignore"):
        logs = np.where(patterns > 0, np.log(patterns), -80.0)
    return np.where(valid, logs, EXCLUDED).astype(np.float32)


def queries(windows, n, keys=None, **more):
    zeros = np.zeros(windows, np.int64)
    given = {"keep": np.ones((windows, n), bool), "origin": zeros, "first": zeros, "document": np.arange(windows), "is_self": True}
    return Queries(**(given | {"n_keys": n if keys is None else keys} | more))


def tally_of(logits, *, heads=1, block=16, rows=None, threads=1, **more):
    """A tally of [windows * heads, n, keys] logits, given in blocks of ``rows``."""
    made = HeadTally(heads, block=block, threads=threads)
    n, keys = logits.shape[1:]
    step = rows or n
    parts = ((r, torch.tensor(logits[:, r : r + step])) for r in range(0, n, step))
    made.update(queries(len(logits) // heads, n, keys, **more), parts)
    return made


def mean(tally, name, head=0):
    row = getattr(ROW, name)
    return tally.sums[head, :, row].sum() / tally.counts[head, :, DENOMINATOR.get(row, ROWS)].sum()


@pytest.fixture(scope="module")
def t4():
    special = np.zeros((1, 4), bool)
    return tally_of(logits_of(T4[None], LOWER), block=2, special_queries=special, special_keys=special)


def test_entropies_of_t4(t4):
    assert mean(t4, "entropy") == pytest.approx(1.000885, abs=1e-6)
    assert mean(t4, "relative_entropy") == pytest.approx(np.mean([1, 0.937231, 0.923220]), abs=1e-6)
    by_bin = t4.sums[0, :, ROW.entropy]  # positions {0}, {1}, {2, 3}
    assert by_bin[1] == pytest.approx(0.693147, abs=1e-6)
    assert by_bin[2] == pytest.approx(1.029653 + 1.279854, abs=1e-6)


def test_the_one_hot_first_row_is_left_out_of_means_but_not_of_what_keys_receive(t4):
    assert t4.odd.tolist() == [[0, 1]]
    assert t4.counts[0, :, ROWS].sum() == 3
    assert t4.window_sums[0, WINDOW.heavy_mass] == pytest.approx(1.8 / 4), "column sums 1.8, 1, .8, .4: all rows"


def test_sink_current_and_previous_mass_of_t4(t4):
    assert mean(t4, "first") == pytest.approx(0.266667, abs=1e-6)
    assert mean(t4, "current") == pytest.approx(0.466667, abs=1e-6)
    assert mean(t4, "previous") == pytest.approx(0.366667, abs=1e-6)
    assert mean(t4, "max_weight") == pytest.approx(0.466667, abs=1e-6)


def test_confidence_leaves_the_special_first_key_out_of_the_maximum():
    special = np.array([[True, False, False, False]])
    found = tally_of(logits_of(T4[None], LOWER), special_queries=special, special_keys=special)
    assert mean(found, "confidence") == pytest.approx(0.466667, abs=1e-6), "the maxima lie elsewhere"
    assert mean(found, "special") == pytest.approx((0.5 + 0.2 + 0.1) / 3, abs=1e-6)


def test_local_mass_of_t4_within_two_keys_leaves_an_eighth_of_all_rows_outside():
    outside = np.array([T4[r, : max(0, r - 1)].sum() for r in range(4)])
    np.testing.assert_allclose(outside, [0, 0, 0.2, 0.3], atol=1e-12)
    found = tally_of(logits_of(T4[None], LOWER))
    assert found.distances[0, :2].sum() == pytest.approx(3 - outside.sum(), abs=1e-6), "distances 0 and 1 of rows 1 to 3"
    assert outside.mean() == pytest.approx(0.125)


def test_keys_needed_of_t4(t4):
    # descending: [.5, .5], [.5, .3, .2], [.4, .3, .2, .1]
    assert mean(t4, "keys_50") == pytest.approx((1 + 1 + 2) / 3)
    assert mean(t4, "keys_90") == pytest.approx((2 + 3 + 3) / 3)
    assert mean(t4, "share_90") == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert mean(t4, "keys_99") == pytest.approx((2 + 3 + 4) / 3)
    assert mean(t4, "rest_keys_90") == pytest.approx((1 + 2 + 3) / 3), "without key 0: [1], [.6, .4], [.44, .33, .22]"


def test_zipvl_keeps_2_3_4_4_tokens_of_t4_and_normalised_scores_choose_others():
    received, may = T4.sum(0), LOWER.sum(0)
    assert [zipvl_ratio(received, may, tau) * 4 for tau in (0.5, 0.8, 0.96, 0.975)] == pytest.approx([2, 3, 4, 4])
    np.testing.assert_allclose(received / may, [0.45, 1 / 3, 0.4, 0.4])


def test_blocks_of_t4_are_pooled_and_normalised_as_seer_attention_does():
    maxima = np.where(np.kron(np.tril(np.ones((2, 2))), np.ones((2, 2))) * LOWER > 0, T4, -1).astype(np.float32)
    two = pooled(maxima, 2)
    np.testing.assert_allclose(two, [[1, -1], [0.3, 0.5]])
    np.testing.assert_allclose(ground_truth(two), [[1, -1], [0.375, 0.625]])
    assert block_density(two) == 1.0
    two[1, 0] = 1e-5
    assert block_density(two) == pytest.approx(2 / 3), "of the three causal blocks"


def test_the_tally_takes_the_same_block_maxima(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "analysis.stats.attention.window_sums", lambda c, m, b, s: seen.append(m) or (np.zeros((1, 1, 8)), np.zeros((1, 1, 8), bool))
    )
    tally_of(logits_of(T4[None], LOWER), block=2)
    np.testing.assert_allclose(seen[0][0, 0], [[1, -1], [0.3, 0.5]], rtol=1e-6)


def test_a_perfect_induction_head_scores_one_and_a_uniform_one_little():
    m = 5
    n = 2 * m + 1
    perfect = np.zeros((2, n, n))
    for r in range(n):
        perfect[0, r, r - (m - 1) if r > m else 0] = 1
        perfect[1, r, : r + 1] = 1 / (r + 1)
    whole = stripe_sums(torch.tensor(perfect), 0, m) / m
    np.testing.assert_allclose(whole[0], [0, 0, 1])
    np.testing.assert_allclose(whole[1], np.mean([1 / (r + 1) for r in range(m + 1, n)]))
    parts = sum(stripe_sums(torch.tensor(perfect[:, r : r + 3]), r, m) for r in range(0, n, 3)) / m
    np.testing.assert_allclose(parts, whole)


# ---------------------------------------------------------------------------------------------------------------------
# Known patterns


def test_rounding_lets_no_almost_uniform_row_be_more_even_than_uniform():
    n, heads = 5, 400
    noise = np.random.default_rng(0).normal(0, 1e-5, (heads, n, n))
    found = tally_of(np.where(np.tril(np.ones((n, n), bool)), noise, EXCLUDED).astype(np.float32), heads=heads)
    means = [mean(found, "relative_entropy", head) for head in range(heads)]
    assert min(means) == pytest.approx(1, abs=1e-6) and max(means) <= 1


def test_uniform_causal_attention():
    n = 64
    valid = np.tril(np.ones((n, n), bool))
    found = tally_of(logits_of((valid / valid.sum(1, keepdims=True))[None], valid))
    rows = np.arange(1, n)
    assert mean(found, "relative_entropy") == pytest.approx(1, abs=1e-6)
    assert mean(found, "gini") == pytest.approx(0, abs=1e-6)
    assert mean(found, "keys_90") == pytest.approx(np.mean(np.ceil(0.9 * (rows + 1) - 1e-9)))
    assert mean(found, "effective_keys") == pytest.approx(np.mean(rows + 1), rel=1e-5)
    assert mean(found, "distance") == pytest.approx(np.mean(rows / 2), rel=1e-5)
    assert mean(found, "below_fair") == 0


def test_one_hot_attention_needs_one_key():
    n = 40
    valid = np.tril(np.ones((n, n), bool))
    previous = np.eye(n, k=-1)
    previous[0, 0] = 1
    found = tally_of(logits_of(previous[None], valid))
    for name, value in (("keys_99", 1), ("entropy", 0), ("previous", 1), ("current", 0), ("span_95", 2), ("distance", 1), ("local_4", 1)):
        assert mean(found, name) == pytest.approx(value, abs=1e-6), name
    assert mean(found, "below_maximum") == pytest.approx(np.mean([r / (r + 1) for r in range(1, n)]))


def test_a_sink_in_the_middle_is_detected_and_a_short_window_has_none():
    n = 60
    valid = np.tril(np.ones((n, n), bool))
    pattern = np.zeros((n, n))
    for r in range(n):
        pattern[r, : r + 1] = (0.5 if r >= 20 else 1) / (r + 1)
        if r >= 20:
            pattern[r, 20] += 0.5
    found = tally_of(logits_of(pattern[None], valid))
    assert found.window_sums[0, WINDOW.detected_sinks] == 1
    later = np.arange(16, n)
    rows = len(later)  # key 20's own row is not counted
    expected = sum(pattern[r, 20] for r in later if r > 20) / rows
    assert found.window_sums[0, WINDOW.detected_sink_mass] == pytest.approx(expected, rel=1e-5)
    short = tally_of(logits_of(pattern[None, :24, :24], valid[:24, :24]))
    assert short.window_counts[0, WINDOW.detected_sinks] == 0, "fewer than 16 later rows: not known"


def test_a_key_that_few_rows_may_look_at_is_no_sink():
    n = 60
    valid = np.tril(np.ones((n, n), bool))
    pattern = valid / valid.sum(1, keepdims=True)
    pattern[50:] = 0
    pattern[50:, 48] = 1
    found = tally_of(logits_of(pattern[None], valid))
    assert found.window_counts[0, WINDOW.detected_sinks] == 1
    assert found.window_sums[0, WINDOW.detected_sinks] == 0, "only 11 rows may look at it"


def test_detected_sinks_need_later_rows_that_may_look():
    mass, may = np.array([9.0, 4.0, 1.0]), np.array([20.0, 8.0, 20.0])
    n, share, rows = detected_sinks(mass, may)
    assert (n, rows) == (1, 20)
    assert share == pytest.approx(0.45)


def test_heavy_mass_is_the_share_of_the_keys_with_the_most():
    assert heavy_mass(np.array([1.0, 1, 1, 1, 1]), np.ones(5), 0.2) == pytest.approx(0.2)
    assert heavy_mass(np.array([0.0, 8, 1, 1, 0]), np.ones(5), 0.2) == pytest.approx(0.8)


def test_selection_counts_the_largest_that_reach_a_sum():
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.choice([0.5, 1.0, 1.5, random.random()], random.integers(1, 40)).astype(np.float32)
        held = np.cumsum(-np.sort(-values.astype(np.float64)))
        need = random.uniform(0.01, 1.0) * held[-1]
        assert select(values.copy(), len(values), need) == (held < need - 1e-12).sum() + 1
    assert [octave(n) for n in (0, 1, 2, 3, 4, 7, 8)] == [0, 1, 2, 2, 3, 3, 4]


# ---------------------------------------------------------------------------------------------------------------------
# Any pattern, plainly


MEASURED = "keys_90 share_95 below_1e2 below_fair entropy gini span_95 local_16 rest_keys_90 rest_entropy distance first"


def plain(logits, first=0):
    """Row measures of [n, keys] logits in float64, from their definitions."""
    rows = {name: [] for name in MEASURED.split()}
    for r, line in enumerate(logits.astype(np.float64)):
        valid = np.flatnonzero(line > -1e9)
        if len(valid) < 2:
            continue
        a = np.exp(line[valid] - line[valid].max())
        a /= a.sum()
        far = np.abs(r - valid)
        rest = a[valid != first] / a[valid != first].sum()
        inside = [a[far < w].sum() for w in range(1, len(line) + 1)]
        rows["keys_90"].append(_keys(a, 0.9))
        rows["share_95"].append(_keys(a, 0.95) / len(a))
        rows["below_1e2"].append((a < 1e-2).mean())
        rows["below_fair"].append((a < 0.1 / len(a)).mean())
        rows["entropy"].append(-(a * np.log(a)).sum())
        rows["gini"].append(gini(a).value)
        rows["span_95"].append(np.argmax(np.array(inside) >= 0.95 * (1 - 1e-6)) + 1)
        rows["local_16"].append(a[far < 16].sum())
        rows["rest_keys_90"].append(_keys(rest, 0.9))
        rows["rest_entropy"].append(-(rest * np.log(rest)).sum())
        rows["distance"].append((a * far).sum())
        rows["first"].append(a[valid == first].sum())
    return {name: float(np.mean(values)) for name, values in rows.items()}


def _keys(a, share):
    return int((np.cumsum(-np.sort(-a)) < share * (1 - 1e-6)).sum()) + 1


def masks(n, random):
    causal = np.tril(np.ones((n, n), bool))
    window = causal & ~np.tril(np.ones((n, n), bool), -20)
    holes = random.random((n, n)) < 0.7
    return {"causal": causal, "sliding window": window, "every key": np.ones((n, n), bool), "holes": holes | np.eye(n, dtype=bool)}


@pytest.mark.parametrize("mask", ["causal", "sliding window", "every key", "holes"])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_every_measure_equals_plain_recomputation(mask, sharpness):
    random = np.random.default_rng(3)
    n = 70
    logits = np.where(masks(n, random)[mask], random.normal(size=(n, n)) * sharpness, EXCLUDED).astype(np.float32)
    found, expected = tally_of(logits[None]), plain(logits)
    for name, value in expected.items():
        if name in ("rest_keys_90", "rest_entropy") and mask in ("sliding window", "holes"):
            continue  # rows that cannot see the first key have no rest
        assert mean(found, name) == pytest.approx(value, rel=2e-5, abs=0.011 if name == "gini" else 1e-6), name


def test_neither_the_block_of_queries_nor_the_split_of_windows_nor_threads_change_anything():
    random = np.random.default_rng(5)
    windows, heads, n = 3, 2, 50
    logits = random.normal(size=(windows * heads, n, n)).astype(np.float32) * 2
    logits[:, ~np.tril(np.ones((n, n), bool))] = EXCLUDED
    moved = random.random((windows, heads, n)).astype(np.float32)
    whole = tally_of(logits, heads=heads, moved=moved)
    for rows, threads in ((1, 1), (7, 2), (16, 1)):
        _same(tally_of(logits, heads=heads, rows=rows, threads=threads, moved=moved), whole, exactly=True)
    parts = [tally_of(logits[w * heads : (w + 1) * heads], heads=heads, document=np.array([w]), moved=moved[w : w + 1]) for w in (2, 0, 1)]
    merged = HeadTally.from_state(parts[0].state())
    for part in parts[1:]:
        merged.merge(HeadTally.from_state(part.state()))
    _same(merged, whole, exactly=False)


def _same(one, other, *, exactly):
    for name, array in one.state().items():
        expected = other.state()[name]
        if exactly or array.dtype.kind == "i":
            np.testing.assert_array_equal(array, expected, err_msg=name)
        else:
            np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_padding_queries_are_not_counted_and_a_row_without_keys_is_counted_apart():
    random = np.random.default_rng(6)
    logits = random.normal(size=(1, 12, 12)).astype(np.float32)
    logits[0, :, 9:] = EXCLUDED
    keep = np.arange(12)[None] < 9
    found = tally_of(logits, keep=keep)
    assert found.counts[0, :, ROWS].sum() == 9
    assert mean(found, "entropy") == pytest.approx(plain(logits[0, :9])["entropy"], rel=1e-6)
    logits[0, 4] = EXCLUDED
    with_masked = tally_of(logits, keep=keep)
    assert with_masked.odd.tolist() == [[1, 0]]
    assert with_masked.counts[0, :, ROWS].sum() == 8


def test_left_padding_counts_positions_and_sinks_from_the_first_real_token():
    n, pad = 20, 5
    random = np.random.default_rng(8)
    inner = np.where(np.tril(np.ones((15, 15), bool)), random.normal(size=(15, 15)), EXCLUDED).astype(np.float32)
    logits = np.full((1, n, n), EXCLUDED, np.float32)
    logits[0, pad:, pad:] = inner
    start = np.array([pad])
    found = tally_of(logits, keep=np.arange(n)[None] >= pad, origin=start, first=start)
    _same_rows(found, tally_of(inner[None]))


def _same_rows(one, other):
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-12, atol=1e-12)


def test_what_is_moved_ignores_a_sink_with_an_empty_value():
    n = 30
    valid = np.tril(np.ones((n, n), bool))
    pattern = valid * 0.2 / valid.sum(1, keepdims=True)
    pattern[:, 0] += 0.8
    moved = np.ones((1, 1, n), np.float32)
    moved[0, 0, 0] = 0
    found = tally_of(logits_of(pattern[None], valid), moved=moved)
    assert mean(found, "first") > 0.8
    assert mean(found, "value_first") == 0
    expected = np.mean([np.log(r) for r in range(1, n)])
    assert mean(found, "value_entropy") == pytest.approx(expected, rel=1e-4), "uniform over the other keys"
    same = tally_of(logits_of(pattern[None], valid), moved=np.full((1, 1, n), 3, np.float32))
    assert mean(same, "value_entropy") == pytest.approx(mean(same, "entropy"), rel=1e-5), "equal values change nothing"


def test_a_cross_attention_tally_has_no_distances():
    random = np.random.default_rng(9)
    found = tally_of(random.normal(size=(1, 6, 11)).astype(np.float32), is_self=False)
    assert found.counts[0, :, ROWS].sum() == 6
    assert not found.distances.any()
    assert not found.window_counts[0, WINDOW.detected_sinks]


# ---------------------------------------------------------------------------------------------------------------------
# Rules that keep few keys


def test_h2o_keeps_the_current_token_and_the_heaviest_of_t4():
    kept = h2o_mask(torch.tensor(T4[None]), 1, 1)[0]
    assert kept.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]


def test_h2o_keeps_what_was_looked_at_and_not_what_came_first():
    late = torch.zeros(1, 5, 5, dtype=torch.float64)
    late[0, :, 1] = 1
    late[0, 0] = torch.tensor([1.0, 0, 0, 0, 0])
    late[0, 1] = torch.tensor([0, 1.0, 0, 0, 0])
    late[0, 2] = torch.tensor([0, 1.0, 0, 0, 0])
    assert h2o_mask(late, 1, 2)[0, 4].tolist() == [False, True, False, True, True], "key 1 was looked at by two, key 0 by one"


def test_what_h2o_evicted_never_returns():
    pattern = torch.full((1, 6, 6), 1e-6).tril()
    pattern[0, 0, 0] = pattern[0, 1, 0] = pattern[0, 2, 2] = 1.0
    pattern[0, 3:, 1] = 1.0
    kept = h2o_mask(pattern / pattern.sum(-1, keepdim=True), 1, 1)[0]
    assert not kept[3:, 1].any(), "key 1 went at step 2 and is missed from step 3 on"
    assert (kept.sum(1) <= 2).all()


def test_alisa_keeps_the_last_key_and_the_one_that_the_last_row_likes_best():
    kept = alisa_mask(torch.tensor(T4[None]), 0.5)[0]
    assert kept[3].tolist() == [False, False, True, True]
    other = T4.copy()
    other[3] = [1, 0, 0, 0]
    both = alisa_mask(torch.tensor(np.stack([T4, other])), 0.5)[0]
    assert both[3].tolist() == [True, False, False, True], "one choice for all heads: key 0 has 1.1, key 2 has .3"


def test_a_quarter_of_eight_keys_is_two_and_uniform_attention_keeps_a_quarter():
    uniform = torch.ones(1, 8, 8).tril() / torch.arange(1, 9)[:, None]
    mask = top_mask(uniform, 0.25)
    assert mask[0, 7].sum() == 2
    assert kept_mass(uniform, mask, slice(7, 8)).item() == pytest.approx(0.25)
    assert kept_mass(uniform, top_mask(uniform, 1.0), slice(0, None)).item() == pytest.approx(1)


def test_double_sparsity_orders_the_channels_as_methods_does():
    q = torch.tensor([[[1.0, 2, 0, 3], [1, -2, 1, 3]]])
    k = torch.tensor([[[1.0, 1, 5, 0], [2, 1, 1, 0.1]]])
    np.testing.assert_allclose((q * k).abs().mean(1)[0], [1.5, 2, 0.5, 0.15])
    one = channel_scores(q, k, 0.25)[0]
    np.testing.assert_allclose(one, torch.outer(q[0, :, 1], k[0, :, 1]))
    np.testing.assert_allclose(channel_scores(q, k, 1.0), q @ k.transpose(1, 2), rtol=1e-6)


@pytest.mark.parametrize("mask", ["causal", "sliding window", "every key", "holes"])
def test_block_maxima_equal_plain_recomputation(mask, monkeypatch):
    random = np.random.default_rng(11)
    valid = masks(30, random)[mask]
    if mask == "holes":
        valid[8:12, 4:8] = False  # a whole block between others
    logits = np.where(valid, random.normal(size=(30, 30)) * 2, EXCLUDED).astype(np.float32)
    seen = []
    monkeypatch.setattr(
        "analysis.stats.attention.window_sums", lambda c, m, b, s: seen.append(m) or (np.zeros((1, 1, 8)), np.zeros((1, 1, 8), bool))
    )
    tally_of(logits[None], block=4, rows=7)
    weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True)) * valid
    weights = np.where(valid, weights / weights.sum(1, keepdims=True), -1)
    plainly = np.full((8, 8), -1.0)
    for r, c in zip(*np.nonzero(valid), strict=True):
        plainly[r // 4, c // 4] = max(plainly[r // 4, c // 4], weights[r, c])
    np.testing.assert_allclose(seen[0][0, 0], plainly, rtol=1e-5)
