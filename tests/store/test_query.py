"""SQL over all runs: what it answers, where it stops, and what no query reaches."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import pytest

from store import Store, StoreError
from store.query import AT_ONCE, SECONDS, Query, QueryError


@pytest.fixture(scope="module")
def store(tmp_path_factory, harness):
    """A store with two runs, which no test changes."""
    one = Store(tmp_path_factory.mktemp("asked") / "results")
    for key in ("a1", "b2"):
        harness.work(one, key)
    yield one
    one.close()


@pytest.fixture
def some(store):
    """The files of its runs."""
    return sorted(store.runs_folder.glob("*.duckdb"))


@pytest.fixture
def empty(tmp_path):
    return Store(tmp_path / "empty")


def answer(store, text, **limits):
    return store.query(text, **limits).result()


def test_a_view_holds_the_rows_of_all_runs_with_the_run_of_each(store, some):
    found = answer(store, "SELECT run, count(*) AS n, avg(density) AS mean FROM neurons GROUP BY run ORDER BY run")
    assert found.frame["run"].tolist() == ["a1-1", "b2-1"]
    assert found.frame["n"].tolist() == [150, 150]
    assert found.frame["mean"].tolist() == pytest.approx([store.read(path, "neurons")["density"].mean() for path in some])
    assert not found.more and set(found.runs) == {"a1-1", "b2-1"}
    assert answer(store, "SELECT model FROM runs").frame["model"].tolist() == ["tiny", "tiny"]


def test_an_attempt_that_was_made_again_is_counted_once(empty, harness):
    for force in (False, True):
        harness.work(empty, "a1", force=force)
    assert answer(empty, "FROM runs SELECT run").frame["run"].tolist() == ["a1-2"]


@pytest.mark.parametrize(("rows", "n", "more"), [(300, 300, False), (299, 299, True), (1, 1, True)])
def test_rows_beyond_the_limit_are_left_out_and_said(store, some, rows, n, more):
    found = answer(store, "SELECT * FROM neurons", rows=rows)
    assert (found.table.num_rows, found.more) == (n, more)


def test_the_order_asked_for_is_that_of_the_rows_shown(store, some):
    found = answer(store, "SELECT neuron FROM neurons ORDER BY neuron DESC, layer", rows=7)
    assert found.frame["neuron"].tolist() == [49] * 6 + [48]


def test_an_endless_answer_stops_at_the_limit_instead_of_filling_memory(store, some):
    found = answer(store, "SELECT * FROM range(1000000000000)", rows=1000)
    assert found.table.num_rows == 1000 and found.more


def test_an_answer_of_few_but_huge_rows_is_cut_too(store, some):
    found = answer(store, "SELECT repeat('x', 100000) AS x FROM range(5000)")
    assert found.more and 100 < found.table.num_rows < 1000
    assert found.table.nbytes < 40_000_000


def test_numbers_come_as_numbers_and_columns_of_one_name_are_told_apart(store, some):
    found = answer(
        store, "SELECT sum(layer) AS a, 1.5 AS a, 170141183460469231731687303715884105727 AS big, 'x'::ENUM('x') AS e FROM neurons"
    )
    assert found.table.column_names == ["a", "a (2)", "big", "e"]
    assert found.frame.iloc[0].tolist() == [300, 1.5, pytest.approx(1.7014118346046923e38), "x"]
    assert [str(column.type) for column in found.table.columns] == ["int64", "double", "double", "string"]


@pytest.mark.parametrize(
    "text", ["SHOW TABLES", "DESCRIBE neurons", "SUMMARIZE layers", "VALUES (1)", "WITH x AS (SELECT 1) FROM x; -- done"]
)
def test_whatever_only_asks_is_answered(store, some, text):
    assert answer(store, text).table.num_rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELEC 1", 'got Parser Error: syntax error at or near "SELEC"; correct it'),
        ("SELECT nothing FROM neurons", 'Referenced column "nothing" not found'),
        ("SELECT * FROM nowhere", "Table with name nowhere does not exist"),
        ("SELECT ?", "parameters"),
        ("SELECT CASE WHEN range = 4000 THEN CAST('a' AS INT) ELSE 1 END AS x FROM range(5000)", "Conversion Error"),
        ("", "1 to 20,000 characters, got 0"),
        ("x" * 20_001, "got 20,001"),
        ("-- only a comment", "must be one statement, got 0"),
        ("SELECT 1; SELECT 2", "must be one statement, got 2"),
        ("SELECT 1; DROP TABLE run_0.main.layers", "must be one statement, got 2"),
        ("PRAGMA database_list", "got PRAGMA"),
        ("SET threads = 1", "got SET"),
        ("CREATE TABLE x (i INT)", "got CREATE"),
        ("COPY neurons TO '{tmp}/out.csv'", "got COPY"),
        ("COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)", "got COPY"),
        ("EXPORT DATABASE '{tmp}/out'", "got EXPORT"),
        ("ATTACH '{tmp}/new.duckdb'", "got ATTACH"),
        ("DETACH run_0", "got DETACH"),
        ("INSTALL httpfs", "got LOAD"),
        ("LOAD httpfs", "got LOAD"),
        ("CALL enable_logging()", "got CALL"),
        ("PREPARE x AS SELECT 1", "got PREPARE"),
        ("INSERT INTO run_0.main.layers VALUES (9, 9)", "got INSERT"),
        ("UPDATE run_0.main.layers SET dead = 1", "got UPDATE"),
        ("CHECKPOINT run_0", "got"),
        ("PIVOT neurons ON layer USING count(*)", "PIVOT that lists no values"),
        ("WITH x AS (DELETE FROM run_0.main.layers RETURNING *) FROM x", "read-only mode"),
        ("SELECT * FROM read_csv('/etc/passwd')", "has been disabled"),
        ("SELECT * FROM read_text('/etc/passwd')", "has been disabled"),
        ("SELECT * FROM read_blob('{file}')", "has been disabled"),
        ("SELECT * FROM '/etc/passwd'", "must be one that DuckDB can answer"),
        ("SELECT * FROM glob('/*')", "has been disabled"),
        ("SELECT * FROM read_csv('https://example.com/x.csv')", "must be one that DuckDB can answer"),
        ("SELECT * FROM query('COPY (SELECT 1) TO ''{tmp}/x''')", "Expected a single SELECT"),
        ("SELECT * FROM enable_logging()", "has been locked"),
        ("SELECT getenv('HOME')", "getenv does not exist"),
        ("SELECT * FROM sys", "does not exist"),
    ],
)
def test_what_is_no_question_to_the_runs_is_refused_in_a_sentence(store, some, tmp_path, text, words):
    with pytest.raises(QueryError) as caught:
        answer(store, text.format(tmp=tmp_path, file=some[0]) if "{" in text else text)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(("a query must", "the query must"))
    assert os.listdir(tmp_path) == []
    assert sorted(os.listdir(store.runs_folder)) == [path.name for path in some]
    assert store.count(some[0], "neurons") == 150


def test_all_that_duckdb_said_is_kept_beside_the_sentence(store, some):
    with pytest.raises(QueryError) as caught:
        answer(store, "SELECT nothing FROM neurons")
    assert "\nCandidate bindings:" in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
        "SELECT sleep_ms(60000)",
    ],
)
def test_what_would_never_end_is_stopped_by_the_time_limit(store, some, text):
    began = time.monotonic()
    with pytest.raises(QueryError, match=r"within 1.5 s, got none by then, so it was stopped"):
        answer(store, text, seconds=1.5)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "text",
    [
        "SELECT list(r) FROM range(1000000000000) t(r)",
        "SELECT length(repeat('x', 4000000000))",
        "SELECT list_transform(range(1000000000), lambda x: x + 1)",
        "SELECT repeat('x', 200000000) FROM range(100)",
    ],
)
def test_what_needs_more_memory_than_it_may_have_ends_in_a_sentence_and_the_store_answers_on(store, some, text):
    with pytest.raises(QueryError, match=r"must get by with 300 MB of memory"):
        answer(store, text, memory_mb=300)
    assert answer(store, "SELECT count(*) AS n FROM neurons").frame["n"].tolist() == [300]


def test_a_query_that_is_stopped_leaves_no_process_and_its_place_to_others(store, some):
    for _ in range(AT_ONCE + 1):
        query = store.query("SELECT sleep_ms(60000)")
        assert query.wait(0.05) is None
        process = query._process
        query.stop()
        assert process.returncode is not None
        query.stop()
    assert answer(store, "SELECT 1 AS x").frame["x"].tolist() == [1]


def test_only_so_many_queries_are_at_work_at_a_time(store, some):
    at_work = [store.query("SELECT sleep_ms(60000)") for _ in range(AT_ONCE)]
    try:
        with pytest.raises(QueryError, match=f"at most {AT_ONCE} queries"):
            store.query("SELECT 1")
    finally:
        for query in at_work:
            query.stop()
    assert answer(store, "SELECT 1 AS x").table.num_rows == 1


def test_threads_that_ask_at_the_same_time_each_get_their_own_answer(store, some):
    found = {}

    def ask(i):
        found[i] = answer(store, f"SELECT {i} AS x").frame["x"].tolist()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(AT_ONCE)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {i: [i] for i in range(AT_ONCE)}


def test_a_store_without_runs_says_so(empty):
    with pytest.raises(QueryError, match="at least one sealed run"):
        empty.query("SELECT 1")


def test_a_saved_query_is_kept_under_its_name_replaced_and_forgotten(empty):
    assert empty.queries.save("  dead \n neurons ", "SELECT 1") == "dead neurons"
    empty.queries.save("dead neurons", "SELECT 2")
    empty.queries.save("Also", "'; DROP TABLE queries; --")
    found = Store(empty.folder).queries.all()
    assert [(one.name, one.text) for one in found.values()] == [("Also", "'; DROP TABLE queries; --"), ("dead neurons", "SELECT 2")]
    empty.queries.remove("dead neurons")
    empty.queries.remove("never there")
    assert list(empty.queries.all()) == ["Also"]


@pytest.mark.parametrize(("name", "text", "words"), [(" ", "SELECT 1", "1 to 80"), ("x" * 81, "SELECT 1", "got 81"), ("x", " ", "got 0")])
def test_a_query_without_a_name_or_a_text_is_not_saved(empty, name, text, words):
    with pytest.raises(StoreError, match=words):
        empty.queries.save(name, text)
    assert empty.queries.all() == {}


def test_a_query_reaches_hundreds_of_runs_within_its_time(tmp_path, harness):
    one = Store(tmp_path / "many")
    harness.work(one, "a1")
    first = one.runs()[0]
    copies = [replace(first, id=f"c{i}-1", path=tmp_path / f"c{i}-1.duckdb") for i in range(500)]
    for copy in copies:
        os.link(first.path, copy.path)
    query = Query(copies, "SELECT count(*), count(DISTINCT run) FROM neurons", seconds=SECONDS)
    try:
        answered = query.wait(SECONDS)
    finally:
        query.stop()
    assert answered.frame.values.tolist() == [[500 * 150, 500]]
