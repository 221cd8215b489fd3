"""Columns made for one question, and the aggregates: what the database says must be what a loop over the rows says."""

from __future__ import annotations

import pyarrow as pa
import pytest

from store import Case, Filter, Lookup, Order, Ratio, StoreError, TableLayout
from store.derive import source

MAIN = pa.table({"k": [1, 2, 3, 4], "name": ["a", "b", "a", None], "n": [4, 0, 8, 2], "x": [0.1, 0.0, 10.0, None]})
OTHER = pa.table({"k": [1, 1, 2, 9], "what": ["u", "v", "u", "u"], "score": [10, 99, 20, 90]})


@pytest.fixture
def run(store):
    layouts = [TableLayout(n, n, dict.fromkeys(t.column_names, ""), t.schema) for n, t in (("main", MAIN), ("other", OTHER))]
    with store.begin("abc", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        attempt.commit("u", {"main": [MAIN], "other": [OTHER]})
        return attempt.seal(layouts)


FOUND = Lookup("other", ("k",), (("score", "score"),), (Filter("what", "=", "u"),))


def test_a_lookup_adds_what_fits_and_leaves_the_other_rows_without(store, run):
    frame = store.read(run, "main", derive=[FOUND])
    assert frame["k"].tolist() == [1, 2, 3, 4]
    assert frame["score"].dropna().tolist() == [10, 20]


def test_a_lookup_under_a_known_name_takes_its_place(store, run):
    frame = store.read(run, "main", derive=[Lookup("other", ("k",), (("score", "n"),), (Filter("what", "=", "u"),))])
    assert list(frame.columns) == MAIN.column_names
    assert frame["n"].dropna().tolist() == [10, 20]


def test_later_steps_see_earlier_ones_and_filters_see_them_all(store, run):
    case = Case("size", (((Filter("share", ">=", 4),), "large"), ((Filter("share", "!=", None),), "small")), "unknown")
    steps = [FOUND, Ratio("share", "score", "n"), case]
    assert store.read(run, "main", columns=["share", "size"], derive=steps)["size"].tolist() == ["small", "unknown", "unknown", "unknown"]
    steps = [FOUND, Ratio("share", "score", "k"), case]
    assert store.read(run, "main", derive=steps)["size"].tolist() == ["large", "large", "unknown", "unknown"]
    assert store.count(run, "main", [Filter("size", "=", "large")], steps) == 2
    assert store.read(run, "main", derive=steps, order_by=[Order("share"), "k"], limit=1, offset=1)["k"].tolist() == [1 + 1]


def test_hostile_labels_are_values_and_no_sql(store, run):
    label = "'); DROP TABLE main; --"
    frame = store.read(run, "main", derive=[Case("said", (((Filter("n", ">", 3),), label),), '"')])
    assert frame["said"].tolist() == [label, '"', label, '"']


@pytest.mark.parametrize(
    "step",
    [
        Lookup("nothing", ("k",), (("score", "s"),)),
        Lookup("other", ("name",), (("score", "s"),)),
        Lookup("other", ("k",), (("nothing", "s"),)),
        Lookup("other", ("k",), ()),
        Ratio("r", "n", "nothing"),
        Case("c", (((), "always"),), "never"),
    ],
)
def test_a_step_that_names_what_is_not_there_is_refused_in_a_sentence(store, run, step):
    with pytest.raises(StoreError, match="must"):
        store.read(run, "main", derive=[step])


def test_groups_count_every_row_once(store, run):
    frame = store.groups(run, "main", ["name"])
    assert frame["n_rows"].tolist() == [2, 1, 1]
    assert store.groups(run, "main", ["name"], where=[Filter("n", ">", 3)])["n_rows"].tolist() == [2]


def test_limits_leave_missing_values_out_and_say_where_there_is_none(store, run):
    assert store.limits(run, "main", ["n", "x"]) == {"n": (0, 8), "x": (0.0, 10.0)}
    assert store.limits(run, "main", ["x"], where=[Filter("x", "=", None)]) == {"x": None}


@pytest.fixture
def cloud(store):
    x, y = [0.0, -1.0, *[1.0] * 50, 2.0, 1000.0], [0.0, 0.0, *[5.0] * 50, 5.01, 10.0]
    table = pa.table({"i": list(range(len(x))), "x": x, "y": y})
    with store.begin("cde", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        attempt.commit("u", {"cloud": [table]})
        return attempt.seal([TableLayout("cloud", "cloud", dict.fromkeys(table.column_names, ""), table.schema)])


def test_cells_keep_what_stands_alone_and_count_what_lies_together(store, cloud):
    frame = store.cells(cloud, "cloud", "x", "y", columns=["i"], log_x=True, shape=(100, 100))
    assert frame["i"].tolist() == [0, 2, 52, 53]
    assert frame["n_rows"].tolist() == [2, 50, 1, 1]
    assert frame["n_rows"].sum() == store.count(cloud, "cloud")


def test_one_cell_holds_everything_and_a_single_value_is_no_division_by_zero(store, cloud):
    assert store.cells(cloud, "cloud", "x", "y", shape=(1, 1))["n_rows"].tolist() == [54]
    same = store.cells(cloud, "cloud", "x", "y", where=[Filter("y", "=", 5.0)])
    assert same["n_rows"].tolist() == [50]


PAIRS = pa.table({"t": [1] * 50 + [2] * 50, "k": list(range(50)) * 2, "score": list(range(100))})


@pytest.fixture
def aligned(store):
    main = pa.table({"k": list(range(50)), "even": [i % 2 == 0 for i in range(50)]})
    layouts = [TableLayout(n, n, dict.fromkeys(t.column_names, ""), t.schema) for n, t in (("main", main), ("pairs", PAIRS))]
    with store.begin("def", {"slug": "s", "version": 1, "model": "m"}) as attempt:
        attempt.commit("u", {"main": [main], "pairs": [PAIRS]})
        return attempt.seal(layouts)


@pytest.mark.parametrize("t", [1, 2])
def test_rows_that_lie_side_by_side_are_looked_up_without_a_search_and_filters_see_the_right_ones(store, aligned, t):
    look = Lookup("pairs", ("k",), (("score", "score"),), (Filter("t", "=", t),))
    with store.pool.reader(store.find(aligned).path) as reader:
        assert "POSITIONAL" in source(reader, "main", [look]).text
        assert "POSITIONAL" not in source(reader, "main", [Lookup("pairs", ("k",), (("score", "s"),), (Filter("score", ">", 7),))]).text
    first = 50 * (t - 1)
    assert store.read(aligned, "main", derive=[look])["score"].tolist() == list(range(first, first + 50))
    for where, left in (
        ([Filter("k", ">=", 40)], range(40, 50)),
        ([Filter("even", "=", True), Filter("k", "<", 9)], range(0, 9, 2)),
        ([Filter("score", "<", first + 3)], range(3)),
    ):
        frame = store.read(aligned, "main", derive=[look], where=where, order_by=[Order("score", descending=True)])
        assert frame["score"].tolist() == [first + k for k in reversed(left)]
        assert store.count(aligned, "main", where, [look]) == len(left)


def test_a_second_lookup_behind_one_with_gaps_still_finds_its_own_rows(store, aligned):
    gaps = Lookup("pairs", ("k",), (("score", "few"),), (Filter("score", ">", 93),))
    full = Lookup("pairs", ("k",), (("score", "score"),), (Filter("t", "=", 1),))
    frame = store.read(aligned, "main", derive=[gaps, full])
    assert frame["score"].tolist() == frame["k"].tolist()
    assert frame["few"].dropna().tolist() == [94, 95, 96, 97, 98, 99]
