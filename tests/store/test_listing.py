"""A long list of runs: decoded once, its small tables read when they are looked at, and never out of step with the folder."""

from __future__ import annotations

import json
import pickle

import pytest

from store import Store
from store.listing import Kept
from tests.toy import make_run


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def decoded(monkeypatch):
    """How many times JSON was decoded since."""
    counted, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda *given, **named: counted.append(1) or loads(*given, **named))
    return counted


def test_a_run_is_decoded_once_and_its_small_tables_when_they_are_looked_at(store, decoded):
    for i in range(3):
        make_run(store, name=f"model-{i}")
    first = store.runs()
    decoded.clear()
    again = store.runs()
    assert [run.id for run in again] == [run.id for run in first] and not decoded
    rows = dict(again[0].summaries)
    assert rows and decoded, "now they are read"
    decoded.clear()
    assert store.runs()[0].summaries == rows and not decoded, "and kept"


def test_the_small_tables_are_those_of_the_sealed_file(store):
    run = make_run(store)
    for table, rows in store.runs()[0].summaries.items():
        assert len(rows) == run.rows[table]
    assert store.runs(summaries=False)[0].summaries == {}


def test_a_run_that_is_gone_back_or_superseded_is_listed_as_it_is_now(store):
    run = make_run(store)
    assert store.runs()[0].status == "sealed"
    hidden = run.path.with_suffix(".away")
    run.path.rename(hidden)
    assert [(one.status, one.current) for one in store.runs(current_only=False)] == [("missing", False)]
    hidden.rename(run.path)
    assert [(one.status, one.current) for one in store.runs(current_only=False)] == [("sealed", True)]
    store.remove(run)
    assert store.runs(current_only=False) == []


def test_a_full_id_is_found_without_decoding_the_others(store, decoded):
    runs = [make_run(store, name=f"model-{i}") for i in range(4)]
    fresh = Store(store.folder)
    decoded.clear()
    assert fresh.find(runs[2].id).model == "model-2"
    assert len(decoded) == 1, "its own record alone"
    assert fresh.find(runs[2].key[:8]).id == runs[2].id, "a beginning of one is found as before"


def test_a_listed_run_can_be_sent_to_another_process(store):
    make_run(store)
    run = store.runs()[0]
    assert pickle.loads(pickle.dumps(run)) == run


def test_what_was_used_longest_ago_is_let_go():
    kept = Kept(2)
    for name in "ab":
        kept.put(name, name)
    kept.get("a")
    kept.put("c", "c")
    assert kept.get("a") == "a" and kept.get("b") is None
