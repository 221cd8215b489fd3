"""Committing, continuing, sealing: the claims about one attempt in one process."""

from __future__ import annotations

import os

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from store import Store, StoreError, TableLayout


def test_a_stopped_attempt_goes_on_with_its_units_rows_and_states(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 2", harness.unit_rows(2, 5), {"sum": np.arange(3), "a/b 'c'": np.ones((2, 2), np.float32)})
        attempt.commit("layer 1", harness.unit_rows(1, 4))
    with store.begin("k1", {}) as again:
        assert again.number == 1
        assert again.record["slug"] == "neuron_activity"
        assert again.done() == {"layer 1", "layer 2"}
        assert (again.rows("neurons"), again.rows("layers"), again.rows("nothing")) == (9, 2, 0)
        ((unit, state),) = again.states()
        assert unit == "layer 2"
        np.testing.assert_array_equal(state["sum"], [0, 1, 2])
        assert state["a/b 'c'"].dtype == np.float32


def test_states_come_in_the_order_of_committing(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        for i in (2, 0, 1):
            attempt.commit(f"u{i}", {}, {"x": np.array(i)})
        assert [(unit, int(state["x"])) for unit, state in attempt.states()] == [("u2", 2), ("u0", 0), ("u1", 1)]


def test_a_unit_is_committed_once(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", harness.unit_rows(0, 2))
        with pytest.raises(StoreError, match="committed once, got 'u'"):
            attempt.commit("u", harness.unit_rows(0, 2))
        assert attempt.rows("neurons") == 2


def test_a_closed_attempt_takes_nothing(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", harness.unit_rows(0, 2))
    with pytest.raises(StoreError, match="got a closed one"):
        attempt.commit("v", harness.unit_rows(0, 2))
    with pytest.raises(StoreError, match="got a closed one"):
        attempt.seal(harness.LAYOUTS)


def test_an_attempt_without_a_unit_leaves_nothing_behind(store, harness):
    with store.begin("k1", harness.RECORD):
        pass
    assert os.listdir(store.runs_folder) == []


def test_sealing_sorts_types_and_tidies(store, harness):
    path = harness.work(store, "k1", units=3, rows=4)
    assert path.name == "k1-1.duckdb"
    assert os.listdir(store.runs_folder) == ["k1-1.duckdb"]
    frame = store.read(path, "neurons")
    assert list(zip(frame.layer, frame.neuron)) == [(layer, neuron) for layer in range(3) for neuron in range(4)]
    expected = np.concatenate([np.random.default_rng(layer).random(4)[::-1] for layer in range(3)])
    np.testing.assert_array_equal(frame.density, expected)


def test_a_sealed_file_cannot_be_written_by_its_mode(store, harness):
    assert harness.work(store, "k1").stat().st_mode & 0o222 == 0


def test_a_table_without_rows_is_sealed_empty(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        path = attempt.seal(harness.LAYOUTS)
    assert store.count(path, "neurons") == 0
    assert list(store.read(path, "neurons").columns) == ["layer", "neuron", "density"]


def test_a_plain_client_sees_a_comment_on_every_table_and_column_and_an_old_storage_version(store, harness):
    path = harness.work(store, "k1")
    with duckdb.connect(str(path), read_only=True) as plain:
        assert plain.execute("SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal").fetchall() == [("v1.5.0+",)]
        columns = plain.execute("SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal").fetchall()
        assert {table for table, _, _ in columns} == {"neurons", "layers", "run"}
        assert [column for column in columns if not column[2]] == []
        assert all(row[0] for row in plain.execute("SELECT comment FROM duckdb_tables()").fetchall())


def test_hostile_names_comments_and_values_stay_what_they_are(store):
    bad = """x"; DROP TABLE run; --' \\ é"""
    schema = pa.schema([(bad, pa.string()), ("select", pa.list_(pa.float64()))])
    layout = TableLayout(bad, f"about {bad}", {bad: f"it's {bad}", "select": "''"}, schema, (bad,))
    record = {"slug": bad, "version": 1, "model": "<img onerror=x>", "config": {bad: bad}, 'note\'s "x"': bad}
    with store.begin("k1", record) as attempt:
        attempt.commit("../../" + bad, {bad: [pa.table({bad: [bad, None], "select": [[0.5], []]}, schema=schema)]})
        path = attempt.seal([layout])
    info = {table.name: table for table in store.table_info(path)}
    assert info[bad].comment == f"about {bad}"
    assert [(c.name, c.type, c.comment) for c in info[bad].columns] == [(bad, "VARCHAR", f"it's {bad}"), ("select", "DOUBLE[]", "''")]
    assert store.read(path, bad)[bad].tolist()[0] == bad
    provenance = store.provenance(path)
    assert (provenance["slug"], provenance["model"], provenance["config"], provenance['note\'s "x"']) == (
        bad,
        "<img onerror=x>",
        {bad: bad},
        bad,
    )
    assert store.connect(path).execute("SELECT model, slug FROM runs").fetchall() == [("<img onerror=x>", bad)]


def test_provenance_comes_back_as_it_went_in(store, harness):
    given = {"versions": {"torch": "2.13"}, "seed": 7, "tokens": 61_440, "share": 0.25, "exact": True, "masks": [1, 2], "reason": None}
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", harness.unit_rows(0, 3))
        path = attempt.seal(harness.LAYOUTS, given)
    provenance = store.provenance(path)
    assert {name: provenance[name] for name in given} == given
    assert provenance["tables"]["neurons"] == {"rows": 3, "summary": False, "order": ["layer", "neuron"]}
    assert provenance == store.find("k1").provenance
    assert store.find("k1").rows == {"neurons": 3, "layers": 1}


def test_seconds_add_up_over_sessions(store, harness, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("store.attempt.time.monotonic", lambda: now[0])
    with store.begin("k1", harness.RECORD) as attempt:
        now[0] += 30
        attempt.commit("a", harness.unit_rows(0, 1))
        now[0] += 5  # lost: whether a session was killed or idle after its last commit cannot be told
    now[0] += 1000
    with store.begin("k1", harness.RECORD) as attempt:
        now[0] += 7
        attempt.commit("b", harness.unit_rows(1, 1))
        now[0] += 3
        path = attempt.seal(harness.LAYOUTS)
    assert store.provenance(path)["seconds"] == 30 + 7 + 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"columns": {"layer": "x"}}, "comment for each of its columns"),
        ({"order": ("nothing",)}, "be sorted by some of them"),
        ({"name": "other"}, "declared to be sealed, got neurons"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_and_the_parts_are_kept(store, harness, change, sentence):
    from dataclasses import replace

    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", harness.unit_rows(0, 3))
        with pytest.raises(StoreError, match=sentence):
            attempt.seal([replace(harness.LAYOUTS[0], **change), harness.LAYOUTS[1]])
        assert attempt.seal(harness.LAYOUTS).is_file()


def test_the_store_keeps_its_own_table_names_to_itself(store):
    with store.begin("k1", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        for name in ("run", "Runs"):
            with pytest.raises(StoreError, match=f"named otherwise than run and runs, got {name}"):
                attempt.seal([TableLayout(name, "x", {"a": "a"}, pa.schema([("a", pa.int64())]))])


def test_rows_that_break_their_declaration_are_refused_in_a_sentence(store, harness):
    schema = pa.schema([("layer", pa.int64()), ("dead", pa.int64())])
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", {"layers": [pa.table({"layer": [None], "dead": [1]}, schema=schema)]})
        with pytest.raises(StoreError, match="must fit their declared tables, got .*NOT NULL"):
            attempt.seal(harness.LAYOUTS)
        assert attempt.done() == {"u"}
    assert sorted(os.listdir(store.runs_folder)) == ["k1-1.partial"]


def test_a_run_must_say_what_it_is(store):
    with store.begin("k1", {"slug": "a"}) as attempt, pytest.raises(StoreError, match="got no version, model"):
        attempt.seal([])


def test_a_forced_rerun_is_a_new_attempt_and_becomes_current(store, harness):
    first = harness.work(store, "k1")
    second = harness.work(store, "k1", force=True)
    assert (first.name, second.name) == ("k1-1.duckdb", "k1-2.duckdb")
    assert store.current("k1").path == second
    assert [run.id for run in store.runs()] == ["k1-2"]
    assert {run.id: run.current for run in store.runs(current_only=False)} == {"k1-2": True, "k1-1": False}
    assert store.find("k1").id == "k1-2"
    assert store.find("k1-1").id == "k1-1"


def test_a_forced_rerun_leaves_an_unfinished_attempt_alone_until_it_is_sealed(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("layer 0", harness.unit_rows(0, 2))
    with store.begin("k1", harness.RECORD, force=True) as forced:
        assert (forced.number, forced.done()) == (2, set())
        forced.commit("layer 0", harness.unit_rows(0, 3))
        forced.seal(harness.LAYOUTS)
    assert os.listdir(store.runs_folder) == ["k1-2.duckdb"]


def test_a_published_name_is_not_used_again_when_its_file_is_gone(store, harness):
    harness.work(store, "k1").unlink()
    assert store.current("k1") is None
    assert harness.work(store, "k1").name == "k1-2.duckdb"


def test_leftovers_of_dead_processes_are_removed_at_the_next_begin_and_those_of_the_living_are_not(store, harness):
    dead, living = store.runs_folder / ".old-1.00ff.tmp", store.runs_folder / ".busy-1.00ff.tmp"
    with store.begin("busy", harness.RECORD):
        for folder in (dead, living):
            folder.mkdir()
            (folder / "run.duckdb").write_bytes(b"half")
        with store.begin("k1", harness.RECORD):
            assert not dead.exists()
            assert living.exists()


@pytest.mark.parametrize("key", ["", "../x", "a b", "a.b", "-a", "a" * 101])
def test_a_key_that_is_no_file_name_is_refused(store, key):
    with pytest.raises(StoreError, match="run key must be"):
        store.begin(key, {})


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be a folder that can be written"):
        Store(tmp_path / "file" / "store")


def test_integers_with_gaps_stay_integers(store, harness):
    with store.begin("k1", harness.RECORD) as attempt:
        attempt.commit("u", {"layers": [pa.table({"layer": [0, 1], "dead": [None, 2**60 + 1]}, schema=harness.LAYERS)]})
        path = attempt.seal(harness.LAYOUTS)
    frame = store.read(path, "layers")
    assert frame.dead[1] == 2**60 + 1
    assert frame.dead[0] is pd.NA
    assert str(frame.layer.dtype) == "int64"
