"""The catalogue of jobs and models: what may change, what may not, and what an older catalogue becomes."""

from __future__ import annotations

import sqlite3

import pytest

from store import JobNotFound, Store
from store.catalogue import _MIGRATIONS
from store.jobs import LIVE

SPEC = {"slug": "neuron_activity", "model": "tiny", "data": "poems", "config": {"threshold": 0.1}}


def add(store, name, **more):
    return store.jobs.add(name, SPEC, origin="page", host="here", pid=1, process_start=2.5, **more)


def test_a_new_job_waits_at_the_end_of_the_queue(store):
    first, second = add(store, "b"), add(store, "a")
    assert first.place < second.place
    assert (second.status, second.is_live, second.share, second.seconds, second.run) == ("queued", True, None, 0.0, None)
    assert (second.slug, second.model, second.data, second.config, second.kind) == (*SPEC.values(), "run")
    assert [job.id for job in store.jobs.all()] == ["a", "b"]
    assert [job.id for job in store.jobs.all(limit=1)] == ["a"]
    assert store.jobs.all(("running",)) == []


def test_a_job_that_has_ended_is_changed_by_nobody_who_thinks_it_lives(store):
    add(store, "a")
    assert store.jobs.change("a", only=("queued",), status="running")
    assert not store.jobs.change("a", only=("queued",), status="cancelled")
    assert store.jobs.change("a", status="done", run="k-1")
    for status in ("interrupted", "cancelled", "failed"):
        assert not store.jobs.change("a", status=status, run=None)
    assert (store.jobs.get("a").status, store.jobs.get("a").run) == ("done", "k-1")
    assert store.jobs.all(LIVE) == []


def test_progress_is_a_share_and_a_finished_job_is_whole(store):
    add(store, "a")
    store.jobs.change("a", status="running", done=3.0, total=12.0)
    assert store.jobs.get("a").share == 0.25
    store.jobs.change("a", done=13.0)
    assert store.jobs.get("a").share == 1.0
    store.jobs.change("a", done=0.0, total=0.0)
    assert store.jobs.get("a").share is None
    store.jobs.change("a", status="done")
    assert store.jobs.get("a").share == 1.0


def test_a_job_is_found_by_its_beginning_unless_that_fits_several(store):
    for name in ("ab", "abc", "b%"):
        add(store, name)
    assert store.jobs.get("ab").id == "ab"
    assert store.jobs.get("b").id == "b%"
    for ref, words in (("a", "fits several"), ("", "fits none"), ("%", "fits none"), ("abcd", "fits none")):
        with pytest.raises(JobNotFound, match=words):
            store.jobs.get(ref)
    assert store.jobs.find("a") is None


def test_only_what_has_ended_is_forgotten_with_its_log(store):
    add(store, "a"), add(store, "b")
    store.jobs.logs.mkdir()
    for name in ("a", "b"):
        store.jobs.log_path(name).write_text("said\n")
    store.jobs.change("a", status="failed")
    store.jobs.remove(["a", "b"])
    assert [job.id for job in store.jobs.all()] == ["b"]
    assert [path.name for path in store.jobs.logs.iterdir()] == ["b.log"]


def test_the_tail_of_a_log_is_its_last_lines_whatever_bytes_are_in_it(store):
    store.jobs.logs.mkdir()
    store.jobs.log_path("a").write_bytes(b"x" * 2_000_000 + b"\n\xff\xfe\nlast <b>\n")
    assert store.jobs.log("a", tail=2) == "��\nlast <b>"
    assert store.jobs.log("a", tail=0) == store.jobs.log("never") == ""
    assert len(store.jobs.log("a")) < 1_100_000


def test_places_are_never_used_again(store):
    last = add(store, "a").place
    store.jobs.change("a", status="done")
    store.jobs.remove(["a"])
    assert add(store, "b").place > last


def model(store, weights="w1", label="Tiny", facts=None):
    store.known.add(
        "tiny",
        name="tiny",
        label=label,
        source="nowhere",
        task=None,
        dtype="float32",
        fingerprints={"weights": weights},
        facts=facts or {"n_layers": 2},
    )


def test_what_was_said_of_a_model_holds_until_its_weights_change(store):
    model(store)
    store.known.add_need("tiny", "neurons", 1, "it has no neurons.")
    model(store, label="Tiny again", facts={"n_layers": 3})
    (found,) = store.models()
    assert (found.label, found.facts, found.needs["neurons"].words) == ("Tiny again", {"n_layers": 3}, "it has no neurons.")
    model(store, weights="w2")
    assert store.known.get("tiny").needs == {}
    assert store.known.get("other") is None


def test_an_older_catalogue_gets_the_new_tables_and_keeps_its_runs(tmp_path, harness):
    store = Store(tmp_path)
    harness.work(store, "k1")
    store.close()
    path = tmp_path / "catalogue.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE jobs; DROP TABLE needs; DROP TABLE models; DROP TABLE removed; DROP TABLE labels; PRAGMA user_version = 1;"
        )
    newer = Store(tmp_path)
    assert [run.id for run in newer.runs()] == ["k1-1"]
    assert newer.jobs.all() == newer.models() == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(_MIGRATIONS),)
    newer.close()
