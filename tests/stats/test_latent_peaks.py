"""Peaks of latents and latents active together, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.coactivation import most_coactive, within_budget
from analysis.stats.latent_peaks import LatentPeaks
from analysis.stats.rows import mixed

W, L, F = 30, 6, 5


@pytest.fixture
def stream():
    draw = np.random.default_rng(0)
    f = np.where(draw.random((W, L, F)) < 0.08, draw.random((W, L, F)), 0).astype(np.float32)
    f[..., 4] = 0
    return f, draw.integers(0, 1000, (W, L))


def fed(stream, cuts, threads=1, top=4, sampled=3):
    f, ids = stream
    total = LatentPeaks.empty(F, top, sampled, seed=7)
    for start, stop in cuts:
        part = LatentPeaks.empty(F, top, sampled, seed=7)
        windows = np.arange(start, stop)
        part.update(f[windows].max(1), f[windows].argmax(1), windows, ids[windows], threads)
        total.merge(LatentPeaks.of_arrays(part.arrays()))
    return total.result()


def test_the_highest_windows_are_kept_with_their_tokens(stream):
    f, _ = stream
    found, peak = fed(stream, [(0, W)]), f.max(1)
    for latent in range(F):
        n = found["top_filled"][latent]
        assert n == min(4, (peak[:, latent] > 0).sum())
        assert found["top_value"][latent, :n] == pytest.approx(np.sort(peak[:, latent])[::-1][:n])
        window, position = np.divmod(found["top_token_index"][latent, :n], L)
        assert f[window, position, latent] == pytest.approx(found["top_value"][latent, :n])
    assert found["top_filled"][4] == 0 and not found["sample_defined"][4].any(), "a silent latent has no example"


def test_the_sample_is_of_windows_in_which_the_latent_is_active_by_hash_alone(stream):
    f, _ = stream
    found, peak = fed(stream, [(0, W)]), f.max(1)
    score = mixed(np.arange(W), 7) >> np.uint64(40)
    for latent in range(4):
        active = np.flatnonzero(peak[:, latent] > 0)
        expected = sorted(active, key=lambda w: -float(score[w]))[:3]
        assert (found["sample_token_index"][latent][found["sample_defined"][latent]] // L).tolist() == expected
        assert found["sample_value"][latent, : len(expected)].tolist() == peak[expected, latent].tolist(), "to the last bit"


@pytest.mark.parametrize("cuts", [[(0, 7), (7, 30)], [(20, 30), (0, 11), (11, 20)]])
def test_any_division_and_order_gives_the_same(stream, cuts):
    whole, parts = fed(stream, [(0, W)]), fed(stream, cuts)
    for name, values in whole.items():
        assert np.array_equal(values, parts[name]), name


def test_the_compiled_twin_agrees_with_the_reference(stream):
    fast, slow = fed(stream, [(0, W)], threads=2), fed(stream, [(0, W)], threads=None)
    for name, values in fast.items():
        assert np.array_equal(values, slow[name]), name


def test_equal_contexts_are_one_example(stream):
    f, ids = stream
    ids = np.tile(ids[:1], (W, 1))
    found = fed((np.ones_like(f), ids), [(0, W)])
    assert (found["top_filled"] == 1).all(), "the same token after the same four"
    assert found["sample_defined"].sum() == 3 * F, "the sample counts windows, not contexts"


# ---------------------------------------------------------------------------------------------------------------------


def test_jaccard_indices_by_hand():
    active = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 2)]  # token, latent
    row, latent = (np.array(column) for column in zip(*active, strict=True))
    found = [column.tolist() for column in most_coactive(row, latent, 4, 4, 2)]
    assert found == [[0, 1], [0, 0], [1, 0], [pytest.approx(2 / 3)] * 2], "0 and 1 meet on two of three tokens; 2 and 3 meet nobody"


def test_latents_always_active_together_have_one_and_ties_go_by_number(monkeypatch):
    import analysis.stats.coactivation as module

    row, latent = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    whole = most_coactive(row, latent, 6, 4, 2)
    monkeypatch.setattr(module, "_BLOCK", 1)
    blocks = most_coactive(row, latent, 6, 4, 2)
    for found in (whole, blocks):
        assert found[3].tolist() == [1.0] * 8
        assert found[2].tolist() == [1, 2, 0, 2, 0, 1, 0, 1]


def test_nothing_active_gives_no_pairs():
    none = np.zeros(0, np.int64)
    assert [len(column) for column in most_coactive(none, none, 0, 3, 2)] == [0, 0, 0, 0]


def test_tokens_are_taken_up_to_a_budget_of_pairs():
    row = np.array([0, 0, 2, 2, 2])
    assert [within_budget(row, 4, budget) for budget in (3, 4, 12, 13, 100)] == [0, 2, 2, 4, 4]
    assert within_budget(row[:0], 3, 0) == 3, "silent tokens cost nothing"
