"""Curves of different runs: paired on the same documents, refused on others; against hand-made curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.sensitivity.comparing import DocumentLosses, compare
from analysis.stats.drops import drop_point
from analysis.stats.paired import Resample
from store import Store
from tests.sensitivity_run import make_digits

LEVELS = np.array([0.0, 0.2, 0.4, 0.6, 0.8])


def curve(slope, noise, counts):
    """Loss grows with the square of the level; every document has its own taste for it."""
    increase = np.outer(slope * LEVELS**2, counts) + np.outer(LEVELS, noise * counts)
    return DocumentLosses(LEVELS, np.arange(len(counts)), counts.astype(float), increase)


def test_noise_that_both_share_cancels_where_their_own_intervals_overlap():
    random = np.random.default_rng(0)
    counts, noise = random.integers(50, 100, 60), random.normal(0, 0.15, 60)
    one, other = curve(0.30, noise, counts), curve(0.34, noise, counts)
    resample = Resample.of(counts)
    alone = [drop_point(LEVELS, c.increase, 0.1, resample) for c in (one, other)]
    assert alone[0].low.level < alone[1].high.level, "their own intervals overlap"
    found = compare(one, other, 0.1)
    assert 0 < found.drop.low <= found.drop.value <= found.drop.high and found.drop.words == "told apart"
    assert found.level in (0.4, 0.6) and found.loss.high < 0
    assert found.loss.value == pytest.approx(-0.04 * found.level**2)


def test_a_curve_does_not_differ_from_itself():
    counts = np.full(40, 10)
    one = curve(0.3, np.random.default_rng(1).normal(0, 0.1, 40), counts)
    found = compare(one, one, 0.05)
    assert (found.drop.value, found.drop.low, found.drop.high, found.drop.words) == (0, 0, 0, "cannot be told apart")
    assert found.loss.value == 0


def test_other_documents_and_other_positions_are_not_paired():
    counts = np.full(40, 10)
    one, other = curve(0.3, np.zeros(40), counts), curve(0.3, np.zeros(39), counts[:39])
    assert not one.is_on_the_documents_of(other)
    assert not one.is_on_the_documents_of(curve(0.3, np.zeros(40), counts + 1))
    with pytest.raises(ValueError, match="same documents"):
        compare(one, other, 0.05)


def test_a_curve_that_is_not_crossed_has_no_difference_but_the_losses_have():
    counts = np.full(40, 10)
    found = compare(curve(0.3, np.zeros(40), counts), curve(0.0, np.zeros(40), counts), 0.05)
    assert found.drop.value is None and "not crossed" in found.drop.words and found.loss.value > 0


def test_one_document_has_no_interval_and_no_level_in_common_is_said():
    alone = curve(0.3, np.zeros(1), np.array([10]))
    assert compare(alone, alone, 0.05).drop.words == "no interval: one document"
    counts = np.full(40, 10)
    one = curve(0.3, np.zeros(40), counts)
    other = DocumentLosses(LEVELS + 0.01, one.documents, one.counts, one.increase)
    assert compare(one, other, 0.05).level is None


def test_rows_give_the_stored_sums_and_infinite_ones_stay_infinite():
    rows = pd.DataFrame(
        {"level": [0.0, 0.0, 0.5, 0.5], "document": [4, 7, 4, 7], "n": [2, 3, 2, 3], "loss_sum": [1.0, 2.0, 1.5, None],
         "dense_sum": [1.0, 2.0, 1.0, 2.0]}
    )  # fmt: skip
    found = DocumentLosses.of_rows(rows)
    assert found.documents.tolist() == [4, 7] and found.counts.tolist() == [2, 3]
    assert found.increase.tolist() == [[0, 0], [0.5, np.inf]]


def test_two_real_runs_of_the_same_model_and_data_pair(tmp_path):
    store = Store(tmp_path)
    runs = [make_digits(store, methods=method, levels="0.2, 0.4, 0.6, 0.8") for method in ("magnitude", "random")]
    both = make_digits(store, methods="magnitude, random", levels="0.2, 0.4, 0.6, 0.8")
    one, other = (DocumentLosses.of_rows(store.read(run, "point_losses")) for run in runs)
    found, stored = compare(one, other, 0.2), store.read(both, "drop_differences").iloc[0]
    assert stored["eps"] == 0.2
    assert (found.drop.value, found.drop.low, found.drop.high) == pytest.approx((stored["difference"], stored["low"], stored["high"]))
