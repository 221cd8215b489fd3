"""Many runs side by side, and what a connection handed to a user must not reach."""

from __future__ import annotations

import os

import duckdb
import pyarrow as pa
import pytest

from store import StoreError, TableLayout


def test_connect_shows_one_view_per_table_across_runs(store, harness):
    for key in ("a1", "b2"):
        harness.work(store, key)
    schema = pa.schema([("layer", pa.int64()), ("Model", pa.string()), ("extra", pa.int64())])
    layout = TableLayout("layers", "newer", {name: name for name in schema.names}, schema)
    with store.begin("c3", {**harness.RECORD, "model": "o'ther", "data": None}) as attempt:
        attempt.commit("u", {"layers": [pa.table({"layer": [0], "Model": ["own"], "extra": [5]}, schema=schema)]})
        attempt.seal([layout])
    with store.connect(["a1", "b2", "c3", "a1"]) as connection:
        rows = connection.execute("SELECT run, data, run_model, Model, extra FROM layers WHERE layer = 0 ORDER BY run").fetchall()
        assert rows == [("a1-1", "poems", "tiny", None, None), ("b2-1", "poems", "tiny", None, None), ("c3-1", None, "o'ther", "own", 5)]
        assert connection.execute("SELECT count(*), count(DISTINCT run) FROM neurons WHERE slug = 'neuron_activity'").fetchall() == [
            (300, 2)
        ]
        assert connection.execute("SELECT model FROM runs ORDER BY run").fetchall() == [("tiny",), ("tiny",), ("o'ther",)]
        bare = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'memory' AND comment IS NULL AND NOT internal"
        )
        assert bare.fetchall() == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "COPY layers TO '{tmp}/out.csv'",
        "EXPORT DATABASE '{tmp}/out'",
        "ATTACH '{tmp}/new.duckdb'",
        "ATTACH '{file}' AS again (READ_ONLY)",
        "COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
        "COPY (SELECT 1) TO '{file}.wal' (FORMAT csv, USE_TMP_FILE false)",
        "SELECT * FROM read_blob('{file}')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SET threads = 8",
        "INSERT INTO run_0.main.layers VALUES (9, 9)",
        "DROP TABLE run_0.main.layers",
        "SELECT * FROM secret_frame",
    ],
)
def test_a_connection_reaches_nothing_but_the_runs_it_was_made_for(store, harness, tmp_path, query):
    import pandas as pd

    secret_frame = pd.DataFrame({"x": [1]})
    path = harness.work(store, "k1")
    with store.connect("k1") as connection, pytest.raises(duckdb.Error):
        connection.execute(query.format(tmp=tmp_path, file=path))
    assert len(secret_frame) == 1
    assert os.listdir(tmp_path) == ["results"]
    assert os.listdir(store.runs_folder) == [path.name]
    assert store.count(path, "neurons") == 150


def test_a_connection_to_no_run_is_refused(store):
    with pytest.raises(StoreError, match="at least one run"):
        store.connect([])
