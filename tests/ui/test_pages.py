"""Every page, over real sealed runs, in the states it can be in."""

import json
import re
import sys

import pytest

from tests.toy import HOSTILE, TOY, make_run
from ui.words import plain


def words_of(at):
    """All text on the page."""
    kinds = (at.title, at.header, at.subheader, at.markdown, at.caption, at.info, at.warning, at.text, at.code)
    return "\n".join(str(one.value) for kind in kinds for one in kind)


def links_of(at):
    return [one.proto for one in at.get("page_link")]


pytestmark = pytest.mark.usefixtures("toy_is_registered")


def test_an_empty_store_says_exactly_what_to_do_first(store, open_page):
    at = open_page()
    assert "Nothing has been measured yet" in words_of(at)
    assert any("python -m analysis run neuron_activity --model smollm2 --store" in one.value for one in at.code)
    assert [b.label for b in at.button] == ["Analyse the bundled model"]


def test_home_shows_a_card_per_model_and_a_link_to_each_run(store, open_page):
    runs = [make_run(store), make_run(store, n_coins=10), make_run(store, name="other")]
    at = open_page()
    text = words_of(at)
    assert "3 runs of 2 models" in text
    assert "## toy" in text
    assert "## other" in text
    assert {f"run={run.id}" for run in runs} <= {link.query_string for link in links_of(at)}


def test_a_new_run_appears_without_a_restart(store, open_page):
    assert "Nothing has been measured" in words_of(open_page())
    make_run(store)
    assert "1 run of 1 model" in words_of(open_page())


def test_the_run_page_is_made_from_the_declaration_alone(run, open_page):
    at = open_page("pages/run.py", run=run.id)
    text = words_of(at)
    assert at.title[0].value == "Toy coins"
    assert TOY.question.rstrip("?") in text
    assert "240 tokens" in text
    charts = at.get("plotly_chart")
    assert len(charts) == len(TOY.figures)
    for figure in TOY.figures:
        assert plain(figure.title) in text
    assert plain("n = 240 coins of toy-model.") in text
    assert "The coins are seeded, not tossed" in text.replace("\\", "")


def test_a_chart_shows_the_stored_numbers_and_says_them_in_words_for_who_cannot_see_it(run, store, open_page):
    at = open_page("pages/run.py", run=run.id)
    chart = at.get("plotly_chart")[0].proto
    drawn = [value for trace in json.loads(chart.spec)["data"] if trace.get("meta") is not None for value in _numbers(trace["y"])]
    stored = store.read(run, "layers")
    assert sorted(drawn) == pytest.approx(sorted(stored["share"]))
    assert "Share of coins showing each face, n = 240 coins" in str(chart)


def _numbers(values):
    """Numbers as Plotly sends them: plain, or packed in base 64."""
    if isinstance(values, list):
        return values
    import base64

    import numpy as np

    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()


def test_provenance_names_model_data_settings_versions_and_how_sure_the_definitions_are(run, open_page):
    text = words_of(open_page("pages/run.py", run=run.id)).replace("\\", "").replace("\u2060", "")
    for wanted in (
        "Toy model (seeded, 6 layers)",
        "toy-text",
        "n_coins: 40",
        "numpy 2",
        "dtype: float32",
        "seed: 0",
        "fingerprint of model weights",
    ):
        assert wanted in text, wanted
    assert "Tossing coins: docs/decisions (our own) (our own definition)" in text
    assert "On tails: Nobody, 1999 (unverified definition)" in text


def test_every_figure_can_be_taken_in_five_formats(run, open_page):
    at = open_page("pages/run.py", run=run.id)
    labels = [b.proto.label for b in at.get("download_button")]
    for word in ("PDF", "SVG", "PNG", "HTML", "CSV, the numbers"):
        assert sum(word in label for label in labels) == len(TOY.figures), word


def test_a_table_is_paged_and_its_headings_carry_units(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins")
    assert len(at.dataframe[0].value) == 25
    assert "Rows 1 to 25 of 240 rows." in words_of(at)
    columns = at.dataframe[0].proto.columns
    assert "weight (grams)" in columns.replace("\\\\", "")
    assert "NULL where it was not weighed" in columns.replace("\\\\", "")


def test_the_address_alone_brings_back_page_sorting_and_filter(run, store, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", sort="weight", order="descending", rows="50", page="2")
    stored = store.read(run, "coins")["weight"].sort_values(ascending=False)
    assert at.dataframe[0].value["weight"].tolist()[:10] == pytest.approx(stored.tolist()[50:60])

    at = open_page("pages/run.py", run=run.id, table="coins", where="layer", **{"is": "at least"}, value="4")
    assert "80 rows that meet the filter (240 in all)" in words_of(at)
    assert at.dataframe[0].value["layer"].min() == 4


def test_a_filter_that_is_no_value_of_its_column_is_answered_in_a_sentence(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", where="layer", value="many")
    assert "layer must be compared with a whole number, got 'many'; type another value" in words_of(at).replace("\\", "").replace(
        "\u2060", ""
    )


def test_a_filter_nothing_meets_says_so(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", where="layer", value="77")
    assert "None of the 240 rows meets this filter" in words_of(at)


def test_a_page_beyond_the_last_shows_the_last(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", page="99")
    assert "of 240 rows." in words_of(at)
    assert len(at.dataframe[0].value)


def test_sorting_takes_one_back_to_the_first_page(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", page="3")
    assert "Rows 51 to 75" in words_of(at)
    at.selectbox(key="sort").select("weight").run()
    assert "Rows 1 to 25" in words_of(at)


def test_one_can_go_to_a_page_by_its_number(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins")
    at.number_input(key="go_to").set_value(10).run()
    assert "Rows 226 to 240 of 240 rows." in words_of(at)


def test_another_table_starts_afresh(run, open_page):
    at = open_page("pages/run.py", run=run.id, table="coins", sort="weight", page="3")
    at.get("button_group")[0].set_value("layers").run()
    assert not at.exception
    assert "Rows 1 to 12 of 12 rows." in words_of(at)


def test_an_unknown_run_is_a_sentence_with_a_way_on(run, open_page):
    at = open_page("pages/run.py", run="0123456789abcdef-1")
    assert "There is no run `0123456789abcdef-1` in this store" in words_of(at)
    assert [link.page for link in links_of(at)] == ["runs"]


def test_the_run_page_without_an_id_shows_the_way_to_one(run, open_page):
    at = open_page("pages/run.py")
    assert at.title[0].value == "No run chosen"
    assert [link.page for link in links_of(at)] == ["runs"]


def test_the_list_of_runs_links_to_each(store, open_page):
    runs = [make_run(store), make_run(store, name=HOSTILE)]
    assert {f"run={run.id}" for run in runs} <= {link.query_string for link in links_of(open_page("pages/runs.py"))}


def test_an_empty_list_of_runs_leads_home(store, open_page):
    at = open_page("pages/runs.py")
    assert "Nothing has been run yet" in words_of(at)
    assert {link.page for link in links_of(at)} == {"home", "start"}


@pytest.mark.parametrize("reference", ["../../etc/passwd", "/etc/passwd", "x.duckdb", "", "%", HOSTILE])
def test_an_address_cannot_open_a_file_by_its_path(run, open_page, reference):
    assert open_page("pages/run.py", run=reference).title[0].value in ("No such run", "No run chosen")


def test_a_missing_file_is_a_sentence(run, open_page):
    run.path.unlink()
    text = words_of(open_page("pages/run.py", run=run.id))
    assert "This run cannot be shown" in text


def test_a_damaged_file_is_a_sentence(run, open_page):
    run.path.chmod(0o644)
    run.path.write_bytes(b"nothing of the kind")
    assert "This run cannot be shown" in words_of(open_page("pages/run.py", run=run.id))


def test_a_run_whose_analysis_is_gone_still_shows_its_tables(run, open_page, monkeypatch):
    import analysis

    monkeypatch.setattr(analysis, "ANALYSES", ())
    at = open_page("pages/run.py", run=run.id, table="coins")
    assert "figures cannot be drawn, only its tables shown" in words_of(at)
    assert not at.get("plotly_chart")
    assert len(at.dataframe[0].value) == 25


def test_numbers_of_another_version_are_said_to_mean_something_else(run, open_page, monkeypatch):
    import dataclasses

    import analysis

    monkeypatch.setattr(analysis, "ANALYSES", (dataclasses.replace(TOY, version=2),))
    assert "version 2 is installed" in words_of(open_page("pages/run.py", run=run.id))


@pytest.mark.parametrize("page", ["pages/home.py", "pages/runs.py", "pages/run.py"])
def test_a_hostile_name_is_never_markup(hostile_run, open_page, page):
    at = open_page(page, **({"run": hostile_run.id} if page == "pages/run.py" else {}))
    for one in (*at.markdown, *at.caption, *at.title):
        assert not getattr(one.proto, "allow_html", False)
        bare = re.sub(r"(`+).*?\1", "", str(one.value)).replace("\\<", "")
        assert "<img" not in bare, one.value


def test_a_superseded_attempt_says_so(run, open_page, store):
    from analysis.runner import run as run_again
    from tests.toy import FakeSubject, ToyConfig

    run_again(TOY, {"model": FakeSubject()}, ToyConfig(), store, force=True)
    assert "A newer attempt counts" in words_of(open_page())


def test_no_page_loads_torch(run, open_page):
    if "torch" in sys.modules:
        pytest.skip("another test of this process has loaded torch; test_architecture asks the same in a process of its own")
    open_page()
    open_page("pages/runs.py")
    open_page("pages/run.py", run=run.id)
    assert "torch" not in sys.modules
    assert "transformers" not in sys.modules
