"""Looking at an attempt while it is at work, without its lock."""

from __future__ import annotations

import shutil

import numpy as np


def test_what_is_committed_is_seen_in_order_while_the_attempt_is_open(store, harness):
    assert store.unfinished("k1") is None
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 2", harness.unit_rows(2, 5), {"sum": np.arange(3)})
        attempt.commit("layer 1", harness.unit_rows(1, 4))
        seen = store.unfinished("k1")
        assert seen.units == ("layer 2", "layer 1") and seen.record["slug"] == "neuron_activity"
        assert seen.rows("neurons")["layer"].tolist() == [2] * 5 + [1] * 4 and seen.rows("nothing") is None
        attempt.commit("layer 0", harness.unit_rows(0, 1))
        assert len(seen.rows("neurons")) == 9, "what was looked at does not change"
        assert len(store.unfinished("k1").rows("neurons")) == 10


def test_half_a_part_is_not_seen(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 2", harness.unit_rows(2, 5))
        shutil.copytree(attempt.folder / "part-000001", attempt.folder / "part-000002.tmp")
        assert store.unfinished("k1").units == ("layer 2",)


def test_a_sealed_attempt_is_not_unfinished_and_one_seen_before_has_no_rows_any_more(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 2", harness.unit_rows(2, 5))
        seen = store.unfinished("k1")
        attempt.seal(harness.LAYOUTS)
    assert store.unfinished("k1") is None and seen.rows("neurons") is None


def test_a_stopped_attempt_is_still_seen(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 2", harness.unit_rows(2, 5))
    assert store.unfinished("k1").units == ("layer 2",)
