"""The Data page: a query from the address to its rows and its figure, what it refuses, and what is saved."""

import json
import re

import pytest

from figures.captions import caption_lines
from figures.chosen import Choice, chosen_spec
from figures.export import render
from figures.spec import SUFFIXES, FigureError
from store import Store
from tests.toy import HOSTILE
from ui.sql import answer as answers
from ui.sql.chart import provenance_of
from ui.sql.examples import EXAMPLES
from ui.sql.tables import columns, held, matching

DATA = "pages/data.py"
FACES = "SELECT layer, face, n, share, run FROM layers ORDER BY layer, face"


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.error, at.code, at.success)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def table_of(at, *having):
    return next(one.value for one in at.dataframe if set(having) <= set(one.value.columns))


def run_it(at, text):
    at.text_area(key="sql_text").set_value(text)
    return at.button[[one.label for one in at.button].index("Run")].click().run()


# ---------------------------------------------------------------------------------------------------------------------


def test_a_query_in_the_address_shows_the_stored_rows(store, run, open_page):
    at = open_page(DATA, sql=FACES)
    shown, stored = table_of(at, "face", "n"), store.read(run, "layers", order_by=["layer", "face"])
    assert shown["n"].tolist() == stored["n"].tolist()
    assert set(shown["run"]) == {run.id}
    assert "12 rows of 5 columns" in words_of(at)


def test_what_is_typed_and_run_is_in_the_address_and_answered(run, open_page):
    at = run_it(open_page(DATA), "SELECT 41 + 1 AS answer")
    assert at.query_params["sql"] == ["SELECT 41 + 1 AS answer"] or at.query_params["sql"] == "SELECT 41 + 1 AS answer"
    assert table_of(at, "answer")["answer"].tolist() == [42]


def test_a_query_that_cannot_be_answered_is_told_in_a_sentence_with_what_duckdb_said(run, open_page):
    at = open_page(DATA, sql="SELECT nothing FROM layers")
    [error] = at.error
    assert 'got Binder Error: Referenced column "nothing" not found' in words_of(at) and "\n" not in error.value
    assert any("Candidate bindings" in one.value for one in at.code)


@pytest.mark.parametrize(
    "text", ["DROP TABLE layers", "SELECT 1; SELECT 2", "COPY layers TO '/tmp/x.csv'", "SELECT * FROM read_text('/etc/passwd')"]
)
def test_hostile_queries_of_an_address_are_refused(run, open_page, text):
    at = open_page(DATA, sql=text)
    assert at.error and not [one for one in at.dataframe if "content" in one.value.columns]


def test_a_long_answer_is_cut_and_says_so(run, open_page):
    at = open_page(DATA, sql="SELECT range AS i FROM range(20000)")
    assert len(table_of(at, "i")) == 10_000
    assert "There are more: an answer has at most 10,000 rows" in words_of(at)


def test_an_answer_without_rows_is_told(run, open_page):
    assert "No row meets this query" in words_of(open_page(DATA, sql="SELECT * FROM layers WHERE layer < 0"))


def test_hostile_texts_and_all_kinds_of_values_are_shown_as_what_they_are(store, hostile_run, open_page):
    text = (
        "SELECT model, token, tosses, {'a': layer} AS struct, MAP {'k': 1} AS map, DATE '2020-01-02' AS day, INTERVAL 3 DAY AS span, "
        "'x'::BLOB AS blob, NULL AS nothing, weight, is_heads, 1e-9 AS tiny, uuid() AS id FROM coins ORDER BY layer, coin"
    )
    at = open_page(DATA, sql=text)
    shown = table_of(at, "token", "struct")
    assert shown["model"].iloc[0] == HOSTILE and shown["token"].iloc[1] == "␣cat" and shown["token"].iloc[7] == "↵"
    assert shown["struct"].iloc[0] == "{'a': 0}"


def test_an_answer_is_kept_until_the_runs_change(store, run, open_page, monkeypatch):
    asked = []
    real = answers._answer
    monkeypatch.setattr(answers, "_answer", lambda text: asked.append(text) or real(text))
    at = open_page(DATA, sql=FACES)
    at.run()
    assert len(asked) == 1
    from tests.toy import make_run

    make_run(store, n_layers=2)
    at.run()
    assert len(asked) == 2 and len(table_of(at, "face")) == 16
    at.button[[one.label for one in at.button].index("Run")].click().run()
    assert len(asked) == 3, "whoever presses the button asks again"


def test_without_a_run_the_page_says_how_to_make_one(store, open_page):
    at = open_page(DATA, sql="SELECT 1")
    assert "There is no run yet" in words_of(at) and not at.error


# ---------------------------------------------------------------------------------------------------------------------
# Saved queries and examples


def test_a_query_is_saved_listed_loaded_and_forgotten(store, run, open_page):
    at = open_page(DATA, sql=FACES)
    at.text_input(key="sql_name").set_value("faces by layer").run()
    at.button(key="sql-save").click().run()
    assert store.queries.all()["faces by layer"].text == FACES
    again = open_page(DATA)
    again.selectbox(key="sql_start").set_value("faces by layer (saved)").run()
    assert len(table_of(again, "face")) == 12
    again.selectbox(key="sql-gone").set_value("faces by layer").run()
    again.button(key="sql-forget").click().run()
    assert store.queries.all() == {}


def test_a_link_may_name_a_saved_query(store, run, open_page):
    store.queries.save("faces", FACES)
    assert len(table_of(open_page(DATA, saved="faces"), "face")) == 12
    assert "There is no query saved as gone" in words_of(open_page(DATA, saved="gone"))


def test_a_query_too_long_for_an_address_is_answered_and_linked_once_saved(store, run, open_page):
    long = "SELECT 1 AS one -- " + "x" * 7000
    at = run_it(open_page(DATA), long)
    assert "sql" not in at.query_params and "too long for an address" in words_of(at)
    assert table_of(at, "one")["one"].tolist() == [1]
    at.text_input(key="sql_name").set_value("long one").run()
    at.button(key="sql-save").click().run()
    assert at.query_params["saved"] in ("long one", ["long one"])


def test_an_example_is_offered_only_where_its_tables_are(run, open_page):
    offered = open_page(DATA).selectbox(key="sql_start").options
    assert "Runs, newest first" in offered and "Heads that need the fewest keys" not in offered


def test_every_example_reads_declared_tables_and_columns(tmp_path):
    """Planned, not run: each table as it is declared, without rows."""
    import duckdb

    kinds = {"int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "bool": "BOOLEAN"}
    kinds |= {f"list[{name}]": f"{kind}[]" for name, kind in kinds.items()}
    tables = {}
    for one in columns():
        tables.setdefault(one.table, {})[one.column] = kinds.get(one.type, one.type)
    with duckdb.connect() as connection:
        for table, its in tables.items():
            added = {name: "VARCHAR" for name in ("run", "slug", "model", "data") if name not in its}
            declared = ", ".join(f'"{name}" {kind}' for name, kind in (added | its).items())
            connection.execute(f'CREATE TABLE "{table}" ({declared})')
        for example in EXAMPLES:
            connection.execute(example.text)
            assert all(f"FROM {table}" in example.text for table in example.tables)


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def test_the_answer_is_drawn_as_chosen_in_the_address(run, open_page):
    at = open_page(DATA, sql=FACES, chart="stacked bars", x="layer", y="n", by="face", title="Coins")
    [chart] = at.get("plotly_chart")
    data = json.loads(chart.proto.spec)["data"]
    assert [one["name"] for one in data] == ["heads", "tails"]
    text = words_of(at)
    assert "## Coins" in text and "n over layer, by face; n = 12 rows, the answer to an SQL query over 1 run." in text
    assert f"Query: {FACES}" in text


@pytest.mark.parametrize("kind", ["bars", "stacked bars", "line", "scatter", "heatmap", "histogram"])
def test_every_kind_of_figure_is_drawn_from_an_answer(run, open_page, kind):
    at = open_page(DATA, sql="SELECT layer, n, share FROM layers WHERE face = 'heads' ORDER BY layer", chart=kind)
    assert not at.warning, at.warning
    assert len(at.get("plotly_chart")) == 1


def test_what_cannot_be_drawn_is_said_and_the_rows_stay(run, open_page):
    at = open_page(DATA, sql=FACES, chart="bars", x="layer", y="n")
    assert "This cannot be drawn" in words_of(at) and "aggregate the rows first" in words_of(at)
    assert len(table_of(at, "face")) == 12
    assert "no column of numbers" in words_of(open_page(DATA, sql="SELECT 'a' AS a", chart="bars"))


@pytest.mark.parametrize("suffix", [one for one in SUFFIXES if one != "pgf"])
def test_a_figure_of_an_answer_exports_with_its_query_in_the_provenance(store, run, suffix):
    found = store.query(FACES).result()
    spec = chosen_spec(found.frame, Choice("stacked_bars", "layer", "n", "face"), title="Coins", of="all rows")
    assert provenance_of(found)["sql"] == FACES and provenance_of(found)["runs"] == [run.id]
    assert any(f"of an answer to SQL over 1 run of Sparsescope: {run.id}." in line for line in caption_lines(spec, provenance_of(found)))
    made = render(spec, suffix, provenance_of(found))
    assert made == render(spec, suffix, provenance_of(found)) and len(made) > 100
    if suffix == "csv":
        assert b"SELECT layer, face, n, share, run FROM layers" in made


def test_a_histogram_counts_every_number_once_and_tells_the_missing_ones():
    import pandas as pd

    frame = pd.DataFrame({"x": pd.array([1, 2, 2, None, 10], dtype="Int64")})
    spec = chosen_spec(frame, Choice("histogram", "x"), title="t", of="five rows")
    assert spec.data["rows"].sum() == 4 and "n = 4 rows, 1 more without a value, five rows." in spec.sentence
    assert (spec.data["x"].iloc[0], spec.data["to"].iloc[-1]) == (1, 10)
    log = chosen_spec(pd.DataFrame({"x": [0.0, 0.1, 1.0, 10.0]}), Choice("histogram", "x", log_x=True), title="t", of="four rows")
    assert log.data["rows"].sum() == 3 and log.data["to"].iloc[-1] == pytest.approx(10) and "1 more without a value above 0" in log.sentence


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("bars", "x"), "an axis without one"),
        (Choice("line", "x", "gone"), "gone"),
        (Choice("heatmap", "x", "y"), "as its colour"),
        (Choice("histogram", "text"), "must be of numbers"),
        (Choice("bars", "x", "y"), "at most 500"),
        (Choice("line", "x", "y", series="x"), "at most 16 values"),
    ],
)
def test_a_choice_that_cannot_be_drawn_is_refused_in_a_sentence(choice, words):
    import pandas as pd

    frame = pd.DataFrame({"x": range(600), "y": range(600), "text": ["a"] * 600})
    with pytest.raises(FigureError, match=words):
        chosen_spec(frame, choice, title="t", of="rows")


# ---------------------------------------------------------------------------------------------------------------------
# The glossary beside it


def test_the_glossary_knows_every_declared_column_once_and_finds_it_by_its_meaning():
    found = columns()
    assert len({(one.table, one.column) for one in found}) == len(found)
    assert {one.table for one in matching(found, "neurons")} == {"neurons"}
    assert ("neurons", "density") in {(one.table, one.column) for one in matching(found, "share of tokens")}
    shared = next(one for one in found if (one.table, one.column) == ("latents", "density"))
    assert shared.analyses == ("sae_quality", "latent_examples")


def test_the_glossary_beside_the_editor_counts_the_rows_of_the_store(store, run, toy_is_registered, open_page):
    at = open_page(DATA)
    listed = table_of(at, "table", "holds").set_index("table")
    assert listed.loc["coins", "rows"] == 240 and listed.loc["runs", "rows"] == 1 and listed.loc["heads", "rows"] == 0
    assert listed.index[0] == "runs"
    searched = table_of(open_page(DATA, find="coins weigh"), "column", "means")
    assert searched["column"].tolist() == ["weight"]
    assert "No table or column has nosuchword" in words_of(open_page(DATA, find="nosuchword"))


def test_rows_of_several_runs_add_up(store, run, hostile_run):
    assert held(Store(store.folder).runs())["coins"].rows == 480
