"""The gallery: pictures and tables of a run with their ticks, all in the address, and the zip of what is ticked."""

import io
import shlex
import zipfile

import pytest

from analysis.__main__ import main
from tests.toy import HOSTILE, TOY, make_run
from tests.ui.test_pages import links_of, words_of
from ui.words import plain

PAGE = "pages/gallery.py"
pytestmark = pytest.mark.usefixtures("toy_is_registered")


def boxes(at):
    return {box.key.split("-", 3)[-1] if "table-" not in box.key else "table-" + box.key.split("table-")[1]: box for box in at.checkbox}


def made_zip(at):
    made = at.session_state["gallery-made"]
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_empty_store_says_so(store, open_page):
    assert "Nothing has been measured yet" in words_of(open_page(PAGE))


def test_every_figure_is_shown_and_ticked_every_table_named_and_not(run, open_page):
    at = open_page(PAGE, run=run.id)
    assert {name: box.value for name, box in boxes(at).items()} == {
        "faces": True,
        "weights": True,
        "table-layers": False,
        "table-coins": False,
    }
    pictures = at.get("image")
    assert len(pictures) == len(TOY.figures)
    assert "Share of coins showing each face" in str(pictures[0].proto)
    assert any("240 rows" in box.label for box in at.checkbox)
    assert at.button(key="make").label == "Make a zip of 2 items"
    assert not at.get("download_button"), "a zip is made when it is asked for, not before"


def test_what_is_ticked_and_how_it_is_wanted_is_in_the_address(run, open_page):
    at = open_page(PAGE, run=run.id)
    boxes(at)["table-layers"].check().run()
    boxes(at)["faces"].uncheck().run()
    assert at.query_params["items"] == "weights,table-layers"
    at = open_page(PAGE, run=run.id, items="faces,table-coins", preset="acl-single", typeface="sans", title="true", formats="svg")
    assert [name for name, box in boxes(at).items() if box.value] == ["faces", "table-coins"]
    assert at.selectbox(key="place").value == "acl-single" and at.selectbox(key="typeface").value == "sans"
    assert at.toggle(key="title").value is True
    assert at.button(key="make").label == "Make a zip of 2 items"
    at.button(key="tick-Figures only").click().run()
    assert "items" not in at.query_params
    at.button(key="tick-Nothing").click().run()
    assert at.query_params["items"] == "none" and at.button(key="make").disabled
    at.button(key="tick-Tick everything").click().run()
    assert at.query_params["items"] == "faces,weights,table-layers,table-coins"


def test_the_zip_holds_what_was_ticked_as_it_was_wanted(run, store, open_page):
    at = open_page(PAGE, run=run.id, items="faces,table-layers", preset="icml-single", formats="svg")
    at.button(key="make").click().run()
    assert [button.proto.label for button in at.get("download_button")][0].startswith("Download the zip, ")
    files = made_zip(at)
    assert {name.split("/")[0] for name in files if "/" in name} == {"faces", "table-layers"}
    assert b'width="234pt"' in files["faces/figure.svg"], "3.25 inches"
    assert "faces/figure.pdf" not in files and "table-layers/data.csv" in files
    boxes(at)["weights"].check().run()
    assert not at.get("download_button"), "another choice needs another zip"


def test_the_command_shown_writes_the_same_bytes(run, store, open_page, tmp_path, capsys, monkeypatch):
    at = open_page(PAGE, run=run.id, preset="slides", title="true", typeface="serif", formats="svg")
    at.button(key="tick-Tick everything").click().run()
    at.button(key="make").click().run()
    command = next(one.value for one in at.code if "export --all" in one.value)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[3:]) == 0
    folder = tmp_path / f"{run.slug}-{run.id}"
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert written == made_zip(at)


def test_a_picture_that_cannot_be_drawn_is_said_in_a_sentence(store, open_page, monkeypatch):
    from dataclasses import replace

    import analysis
    from analysis.spec import Figure
    from figures.spec import NothingToDraw

    def nothing(rows, provenance):
        raise NothingToDraw("No coin was tossed at <b>all</b>.")

    partly = replace(TOY, slug="toy_partly", figures=(Figure("none", "Never drawn", "layers", nothing),))
    monkeypatch.setattr(analysis, "ANALYSES", (*analysis.ANALYSES, partly))
    at = open_page(PAGE, run=make_run(store, analysis=partly).id)
    assert "Cannot be drawn: " + plain("No coin was tossed at <b>all</b>.") in words_of(at)
    at.button(key="make").click().run()
    assert b"left out: No coin was tossed" in made_zip(at)["README.txt"]


def test_a_run_of_no_registered_analysis_still_gives_its_tables(run, open_page, monkeypatch):
    import analysis

    monkeypatch.setattr(analysis, "ANALYSES", tuple(one for one in analysis.ANALYSES if one is not TOY))
    at = open_page(PAGE, run=run.id)
    assert set(boxes(at)) == {"table-layers", "table-coins"}
    assert "Figures" not in [header.value for header in at.header]


def test_the_run_page_leads_here_and_back(run, open_page):
    links = {link.page: link.query_string for link in links_of(open_page("pages/run.py", run=run.id))}
    assert links["gallery"] == f"run={run.id}"
    assert f"run={run.id}" in [link.query_string for link in links_of(open_page(PAGE, run=run.id)) if link.page == "run"]


def test_another_run_forgets_the_ticks_and_an_unknown_one_is_said(run, store, open_page):
    other = make_run(store, name=HOSTILE)
    at = open_page(PAGE, run=run.id, items="faces")
    at.selectbox(key="run_choice").set_value(other.id).run()
    assert at.query_params["run"] == other.id and "items" not in at.query_params
    assert sum(box.value for box in at.checkbox) == 2
    assert "There is no run" in words_of(open_page(PAGE, run="nonsense"))


def test_the_menu_at_a_figure_offers_place_title_every_format_and_the_bundle(run, open_page):
    at = open_page("pages/run.py", run=run.id)
    labels = [button.proto.label for button in at.get("download_button")]
    for words in ("PDF, for papers", "Parquet, with types", "LaTeX, a table", "Everything, one zip"):
        assert labels.count(words) == len(TOY.figures), words
    assert at.selectbox(key="figure-faces-preset").value == "plain"
    at.selectbox(key="figure-faces-preset").set_value("acl-single").run()
    assert at.selectbox(key="figure-weights-preset").value == "plain", "menus are told apart"


def test_labels_are_said_as_they_are_shown_and_foreign_ones_stay_text():
    from ui.gallery import spoken

    assert spoken("curve_points · 12 rows") == "curve_points · 12 rows"
    for foreign in (HOSTILE, "**bold**", "__bold__", "_x_", ":smile:", "[a](b)", "www.a.com", "$x$", ""):
        assert spoken(foreign) == plain(foreign)
