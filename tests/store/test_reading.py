"""Finding, reading, comparing: the claims about sealed runs and the catalogue."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pytest

from store import Filter, Order, RunNotFound, Store, StoreError, TableLayout
from store.reading import Pool

ROWS = {
    "name": ["O'Brien", "100%", "_x", 'Robert"); DROP TABLE t;--', None, "obrien"],
    "n": [3, 1, 2, 2, 2, None],
    "tags": [["a"], ["a", "b"], [], None, ["b"], []],
    "share": [0.5, 0.25, 0.0, 1.0, None, 0.5],
}
SCHEMA = pa.schema([("name", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string())), ("share", pa.float64())])


@pytest.fixture
def sealed(store):
    layout = TableLayout("t", "things", {column: column for column in ROWS}, SCHEMA)
    with store.begin("abc", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        attempt.commit("u", {"t": [pa.table(ROWS, schema=SCHEMA)]})
        return attempt.seal([layout])


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        ([Filter("name", "=", "O'Brien")], [0]),
        ([Filter("name", "=", 'Robert"); DROP TABLE t;--')], [3]),
        ([Filter("name", "=", "x' OR '1'='1")], []),
        ([Filter("name", "contains", "BRIEN")], [0, 5]),
        ([Filter("name", "contains", "%")], [1]),
        ([Filter("name", "contains", "_")], [2]),
        ([Filter("name", "=", 100)], []),
        ([Filter("name", "=", None)], [4]),
        ([Filter("name", "!=", None)], [0, 1, 2, 3, 5]),
        ([Filter("n", "!=", 2)], [0, 1, 5]),
        ([Filter("n", "in", [1, 3])], [0, 1]),
        ([Filter("n", "in", np.array([1, 3]))], [0, 1]),
        ([Filter("n", "in", [])], []),
        ([Filter("n", ">", 1.5), Filter("n", "<=", np.int64(2))], [2, 3, 4]),
        ([Filter("n", "<", 2.5)], [1, 2, 3, 4]),
        ([Filter("n", ">=", 3)], [0]),
        ([Filter("tags", "contains", "b")], [1, 4]),
        ([Filter("share", "=", 0.5)], [0, 5]),
    ],
)
def test_a_filter_keeps_exactly_its_rows(store, sealed, where, rows):
    frame = store.read(sealed, "t", columns=["name"], where=where)
    assert [None if value != value else value for value in frame.name] == [ROWS["name"][row] for row in rows]
    assert store.count(sealed, "t", where) == len(rows)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ({"columns": ['n" FROM t; --']}, "column must be one of name, n, tags, share"),
        ({"where": [Filter("nope", "=", 1)]}, "column must be one of name"),
        ({"order_by": ["n DESC"]}, "column must be one of name"),
        ({"where": [Filter("n", "; DROP", 1)]}, "comparison must be one of"),  # type: ignore[arg-type]
        ({"where": [Filter("n", "<", None)]}, "must have a value to compare with"),
        ({"where": [Filter("n", "=", "three")]}, "must be able to answer this query, got .*three"),
        ({"limit": "1; DROP TABLE t"}, "limit must be a whole number"),
        ({"limit": -1}, "limit must be a whole number"),
        ({"offset": -1}, "offset must be a whole number"),
    ],
)
def test_what_is_no_question_to_the_table_is_refused_in_a_sentence(store, sealed, ask, sentence):
    with pytest.raises(StoreError, match=sentence):
        store.read(sealed, "t", **ask)
    assert store.count(sealed, "t") == 6


def test_an_unknown_table_lists_the_known(store, sealed):
    with pytest.raises(StoreError, match="one of .*, got 'x'; choose one of abc-1.duckdb's"):
        store.read(sealed, "x")


def test_tables_are_described_in_the_order_of_their_declaration(store, harness):
    described = store.table_info(harness.work(store, "k1"))
    assert [(table.name, table.rows) for table in described] == [("neurons", 150), ("layers", 3), ("run", 1)]
    assert described[0].columns[2].comment == "share of tokens; NULL where none was seen"
    assert [(column.type, column.optional) for column in described[0].columns] == [("BIGINT", False), ("BIGINT", False), ("DOUBLE", True)]


def test_missing_values_sort_last_and_pages_with_ties_neither_overlap_nor_leave_gaps(store, sealed):
    assert store.read(sealed, "t", order_by=["n"]).n.tolist()[:-1] == [1, 2, 2, 2, 3]
    assert store.read(sealed, "t", order_by=[Order("n", descending=True)]).n.tolist()[:-1] == [3, 2, 2, 2, 1]
    pages = [store.read(sealed, "t", order_by=["n"], limit=2, offset=offset) for offset in (0, 2, 4)]
    names = [name for page in pages for name in page.name.astype(object).where(page.name.notna(), None)]
    assert names == [ROWS["name"][row] for row in (1, 2, 3, 4, 0, 5)]


def test_pages_of_a_column_full_of_ties_are_every_row_once(store):
    schema = pa.schema([("tie", pa.int64()), ("row", pa.int64())])
    rows = np.arange(300_000)
    with store.begin("k1", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        attempt.commit("u", {"t": [pa.table({"tie": rows % 2, "row": rows}, schema=schema)]})
        path = attempt.seal([TableLayout("t", "ties", {"tie": "tie", "row": "row"}, schema)])
    asked = [store.read(path, "t", order_by=["tie"], limit=4000, offset=offset).row for offset in range(0, 40_000, 4000)]
    assert np.concatenate(asked).tolist() == list(range(0, 80_000, 2))


def test_a_reader_at_work_is_left_alone_where_its_file_gives_way_to_another(store, harness):
    runs = [store.find(harness.work(store, f"k{i}", units=2, rows=100 + i)) for i in range(2)]
    store.pool.close()  # which has looked at both
    pool = Pool(1)

    def is_open(run):
        return any(one.path == os.path.realpath(run.path) for one in psutil.Process().open_files())

    with pool.reader(runs[0].path) as first:
        with pool.reader(runs[1].path) as second:
            assert first.rows("neurons", limit=3).num_rows == 3 and second.rows("neurons", limit=3).num_rows == 3
            pool.close()
            assert len(first.rows("neurons")) == 200 and len(second.rows("neurons")) == 202
        assert is_open(runs[0]) and not is_open(runs[1])
    assert not is_open(runs[0])


@pytest.mark.parametrize(("capacity", "times"), [(16, 100), (1, 8)])  # 1: files are closed while other threads read them
def test_four_threads_get_their_own_answers(store, harness, capacity, times):
    runs = [store.find(harness.work(store, f"k{i}", units=2, rows=100 + i)) for i in range(3)]
    store.pool = Pool(capacity)
    wrong: list[object] = []
    right: list[object] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(times):
            which, layer, neuron = random.integers(3), random.integers(2), random.integers(100)
            where = [Filter("layer", "=", layer), Filter("neuron", "=", neuron)]
            frame = store.read(runs[which], "neurons", where=where)
            expected = np.random.default_rng(layer).random(100 + which)[::-1][neuron]
            ok = frame.density.tolist() == [expected] and store.count(runs[which], "neurons") == 2 * (100 + which)
            (right if ok else wrong).append((seed, which, layer, neuron))

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(right) == 4 * times


def test_runs_are_listed_without_opening_a_sealed_file(store, harness, monkeypatch):
    harness.work(store, "k1")
    monkeypatch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("DuckDB was opened"))
    (run,) = Store(store.folder).runs(slug="neuron_activity", model="tiny")
    assert run.summaries == {"layers": [{"layer": i, "dead": 2 * i} for i in range(3)]}
    assert run.config == {"threshold": 0.1}
    assert (run.status, run.words, run.current, run.data) == ("sealed", "", True, "poems")
    assert run.finished > run.started
    assert store.runs(slug="other") == []
    assert store.runs(model="other") == []


def test_a_deleted_catalogue_is_rebuilt_from_the_sealed_files(store, harness):
    harness.work(store, "k1")
    harness.work(store, "k1", force=True)
    harness.work(store, "k2")
    before = store.runs(current_only=False)
    for file in store.folder.glob("catalogue.sqlite*"):
        file.unlink()
    assert store.runs(current_only=False) == before  # also by a store that was open all the time
    for file in store.folder.glob("catalogue.sqlite*"):
        file.unlink()
    assert Store(store.folder).runs(current_only=False) == before


def test_a_file_that_is_gone_is_marked_with_words_and_comes_back(store, harness, tmp_path):
    path = harness.work(store, "k1")
    shutil.move(path, tmp_path / "kept")
    assert store.runs() == []
    (run,) = store.runs(current_only=False)
    assert run.status == "missing"
    assert "the file k1-1.duckdb must be in" in run.words
    with pytest.raises(StoreError, match="copy it back or run the analysis again"):
        store.read("k1-1", "layers")
    shutil.move(tmp_path / "kept", path)
    assert [(run.id, run.status) for run in store.runs()] == [("k1-1", "sealed")]


def test_a_run_copied_in_from_elsewhere_is_found_under_any_file_name(store, harness, tmp_path):
    other = Store(tmp_path / "gpu")
    shutil.copy(harness.work(other, "k9"), store.runs_folder / "from the gpu's machine.duckdb")
    assert [run.id for run in store.runs()] == ["k9-1"]
    assert store.count("k9", "neurons") == 150


def test_a_run_that_is_there_twice_is_listed_once_until_one_of_them_goes(store, harness):
    path = harness.work(store, "k1")
    shutil.copy(path, store.runs_folder / "copy.duckdb")
    assert [run.path for run in store.runs()] == [path]
    assert {run.status for run in store.runs(current_only=False)} == {"sealed", "duplicate"}
    assert store.find("k1-1").path == path
    path.unlink()
    assert [run.path.name for run in store.runs()] == ["copy.duckdb"]


def test_a_sealed_file_outside_the_store_can_be_read(store, harness, tmp_path):
    outside = tmp_path / "paper.duckdb"
    shutil.copy(harness.work(store, "k1"), outside)
    run = store.find(str(outside))
    assert (run.id, run.path, run.summaries["layers"][0]) == ("k1-1", outside, {"layer": 0, "dead": 0})
    assert store.count(outside, "neurons") == 150


def test_a_name_that_fits_none_or_several_lists_the_near_ones(store, harness):
    with pytest.raises(RunNotFound, match="the store has no runs yet"):
        store.find("x")
    harness.work(store, "abc1")
    harness.work(store, "abd2")
    with pytest.raises(RunNotFound, match=r"fits abd2-1 \(neuron_activity of tiny\), abc1-1"):
        store.find("ab")
    with pytest.raises(RunNotFound, match="fits none; the nearest are .*abc1-1"):
        store.find("abc2")
    with pytest.raises(RunNotFound, match="where there is none"):
        store.find("nowhere/x.duckdb")
    assert store.find("abc").id == "abc1-1"


def test_files_that_are_no_sealed_runs_are_sentences(store, harness, tmp_path):
    path = harness.work(store, "good")
    whole = path.read_bytes()
    files = {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}
    for name, content in files.items():
        (store.runs_folder / f"{name}.duckdb").write_bytes(content)
    with duckdb.connect(str(store.runs_folder / "foreign.duckdb")) as foreign:
        foreign.execute("CREATE TABLE x AS SELECT 1")
    assert [run.id for run in store.runs()] == ["good-1"]
    bad = {run.id: run for run in store.runs(current_only=False) if run.status == "unreadable"}
    assert set(bad) == {"text", "empty", "cut", "foreign"}
    for name in bad:
        with pytest.raises(StoreError, match="must be a sealed run"):
            store.read(store.runs_folder / f"{name}.duckdb", "layers")
    (store.runs_folder / "text.duckdb").write_bytes(whole)
    store.runs()
    assert store.find(store.runs_folder / "text.duckdb").status == "duplicate"


def test_a_file_damaged_in_the_middle_is_a_sentence(store, harness):
    path = harness.work(store, "k1", units=4, rows=50_000)
    store.close()
    with open(path, "r+b") as file:
        for place in range(300_000, os.path.getsize(path), 100_000):
            file.seek(place)
            file.write(b"\xff" * 64)
    with pytest.raises(StoreError, match="k1-1.duckdb must be"):
        store.read(path, "neurons", order_by=["density"])


def test_a_file_somebody_has_open_for_writing_is_a_sentence(store, harness, child):
    path = harness.work(store, "k1")
    store.close()
    program = "import duckdb, sys\nc = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.readline()"
    writer = child(program, path)
    writer.stdout.readline()
    with pytest.raises(StoreError, match="open for writing"):
        store.read(path, "layers")
    writer.communicate("\n")


def test_a_damaged_or_newer_catalogue_is_a_sentence(store):
    with sqlite3.connect(store.folder / "catalogue.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"schema version \d+ or older, got 99"):
        Store(store.folder)
    for file in store.folder.glob("catalogue.sqlite-*"):
        file.unlink()
    (store.folder / "catalogue.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="move it away: it is made anew"):
        Store(store.folder)


def test_sealed_files_stay_byte_for_byte_what_they_were(store, harness):
    path = harness.work(store, "k1")
    before = path.read_bytes()
    store.read(path, "neurons", order_by=["density"])
    store.connect(path).close()
    harness.work(store, "k1", force=True)
    assert path.read_bytes() == before
