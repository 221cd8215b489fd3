"""The report of a model: one file that needs nothing else, shows foreign text as text, and is the same each time."""

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from analysis.__main__ import main
from analysis.report import gather, runs_of, shown_figure
from analysis.report.page import VECTOR_BYTES, picture, report_html
from analysis.spec import UserError
from figures.spec import Axis, FigureSpec
from tests.neuron_run import make_neurons
from tests.toy import BROKEN, HOSTILE, TOY, make_run

PAGE = "pages/report.py"


class Reader(HTMLParser):
    """Tags, and the text outside of styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self._style = [], [], False
        self.feed(html.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def measured(store, toy_is_registered):
    """A toy model with coins and neurons, one of its names hostile."""
    make_run(store)
    return store.runs(model="toy-model")


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.warning, at.code)
    return re.sub(r"[\\\u2060]|\*\*", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def test_the_same_runs_give_the_same_bytes(store, measured):
    assert report_html(store, measured) == report_html(store, measured)


def test_the_file_asks_for_nothing_outside_and_runs_nothing(store, measured):
    html = report_html(store, measured)
    read = Reader(html)
    addresses = [value for _, attributes in read.tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(one.startswith(("data:image/", "#")) for one in addresses)
    assert not re.search(rb"<script|<link|<iframe|@import|url\(|\son\w+=", re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", html))


def test_every_figure_is_a_vector_picture_with_its_sentence_and_limits(store, measured):
    read = Reader(report_html(store, measured))
    [image] = read.all("img")
    sentence = "Share of coins showing each face, n = 240 coins of toy-model."
    assert image["alt"] == f"Heads and tails per layer. {sentence}"
    assert sentence in read.text and "The coins are seeded, not tossed." in read.text
    svg = base64.b64decode(image["src"].partition("base64,")[2])
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_it_says_how_each_number_was_made_and_what_was_not_measured(store, measured):
    text = Reader(report_html(store, measured)).text
    for words in (
        "toy_coins, version 1",
        "toy-text, 240 tokens",
        "n_layers 6; n_coins 40; seed 0",
        measured[0].id,
        "unverified definition",
    ):
        assert words in text
    assert "What was not measured" in text
    assert "Neuron activity : Which FFN neurons fire" in text
    assert "Toy coins : How many" not in text
    assert "Timeline of checkpoints" not in text, "a series is asked that, no checkpoint"


def test_headings_go_down_one_by_one_and_tables_have_headers(store):
    make_neurons(store, name="n")
    read = Reader(report_html(store, store.runs(model="n")))
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:], strict=False))
    assert {attributes.get("scope") for attributes in read.all("th")} == {"col", "row"}
    assert read.all("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in read.all("img"))
    targets = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {attributes["href"][1:] for attributes in read.all("a")} <= targets


def test_headline_numbers_stand_with_what_they_are_shares_of(store):
    run = make_neurons(store, name="n")
    text = Reader(report_html(store, [run])).text
    assert "Mean active share" in text
    assert "Of 120 neurons, on 61,440 tokens from 120 documents." in text
    assert "Bar code." in text


def test_names_from_models_and_files_are_text(store, toy_is_registered):
    run = make_run(store, name=HOSTILE)
    html = report_html(store, [run])
    assert HOSTILE in Reader(html).text
    assert b"<img src=x" not in html
    assert not [one for one in Reader(html).all("img") if not one["src"].startswith("data:")]


def test_no_path_of_the_machine_is_in_it(store, toy_is_registered):
    run = make_run(store)
    run.provenance["model_source"] = "/home/somebody/secret/model"
    run.provenance["model_facts"]["folder"] = "/home/somebody"
    html = report_html(store, [run])
    assert b"somebody" not in html
    pictures = [base64.b64decode(one["src"].partition("base64,")[2]) for one in Reader(html).all("img")]
    assert all(str(store.folder).encode() not in one for one in pictures)


def test_a_drawing_of_very_many_points_goes_in_as_a_picture():
    import numpy as np
    import pandas as pd

    def scatter(n):
        values = np.random.default_rng(0).random((n, 2))
        return FigureSpec("scatter", pd.DataFrame(values, columns=["x", "y"]), Axis("x", "x"), Axis("y", "y"), "many", f"{n} points")

    assert picture(scatter(10), {}).startswith("data:image/svg+xml;base64,")
    many = picture(scatter(8_000), {})
    assert many.startswith("data:image/png;base64,")
    assert len(base64.b64decode(many.partition("base64,")[2])) < VECTOR_BYTES


def test_a_run_of_another_version_is_said_and_its_numbers_are_not_shown(store, measured, monkeypatch):
    from dataclasses import replace

    import analysis

    newer = replace(TOY, version=2)
    monkeypatch.setattr(analysis, "ANALYSES", (*(one for one in analysis.ANALYSES if one is not TOY), newer))
    report = gather(measured)
    assert report.answers == () and report.outdated == (newer,)
    assert "Answered by another version" in Reader(report_html(store, measured)).text


def test_further_runs_of_a_question_are_counted(store, toy_is_registered):
    make_run(store)
    make_run(store, n_coins=30)
    runs = store.runs(model="toy-model")
    assert gather(runs).answers[0].run == runs[0], "the newest"
    assert "1 further run of this question" in Reader(report_html(store, runs)).text


def test_a_figure_that_has_nothing_to_show_gives_way_to_the_next(store, toy_is_registered, monkeypatch):
    from dataclasses import replace

    from figures.spec import FigureError, NothingToDraw

    def nothing(rows, provenance):
        raise NothingToDraw("there is nothing here.")

    def wrong(rows, provenance):
        raise FigureError("the axis must be right, got wrong.")

    [answer] = gather([make_run(store)]).answers
    first, second = TOY.figures

    def of(*figures):
        import analysis

        made = replace(TOY, figures=figures)
        monkeypatch.setattr(analysis, "ANALYSES", (made,))
        return shown_figure(store, gather([answer.run]).answers[0])

    assert of(replace(first, draw=nothing), second).slug == "weights"
    assert of(replace(first, draw=nothing)).why == "there is nothing here."
    assert "got wrong" in of(replace(first, draw=wrong), second).why


# ---------------------------------------------------------------------------------------------------------------------
# Which model


def test_a_model_is_found_by_name_or_by_its_weights_and_doubt_is_said(store):
    one = make_run(store, name="one")
    assert [run.id for run in runs_of(store, "one")] == [one.id]
    assert [run.id for run in runs_of(store, "weights of one")] == [one.id]
    with pytest.raises(UserError, match="the models of this store are one"):
        runs_of(store, "two")
    with pytest.raises(UserError, match="at least one sealed run"):
        gather([])


def test_two_models_of_one_name_must_be_told_apart(store, monkeypatch):
    from tests.toy import FakeSubject

    make_run(store, name="one")
    monkeypatch.setattr(FakeSubject, "fingerprints", property(lambda self: {"weights": "abcdef0123", "tokenizer": "toy", "data": "d"}))
    make_run(store, name="one")
    with pytest.raises(UserError, match="2 with other weights are called; name one of"):
        runs_of(store, "one")
    assert len(runs_of(store, "abcdef")) == 1


def test_the_command_writes_the_same_file_as_the_page(store, measured, tmp_path, capsys):
    to = tmp_path / "report.html"
    assert main(["report", "toy-model", "--to", str(to), "--store", str(store.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(to)
    assert to.read_bytes() == report_html(store, measured)
    assert main(["report", "toy-model", "--to", str(tmp_path / "report.pdf"), "--store", str(store.folder)]) == 2
    assert "ending in .html" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# The page


def test_the_page_shows_numbers_figures_and_what_is_missing(store, open_page):
    make_neurons(store, name="n")
    at = open_page(PAGE, model="n")
    text = words_of(at)
    assert "In numbers" in text and "What was not measured" in text
    assert at.dataframe[0].value["number"].tolist()[0] == "Mean active share"
    assert len(at.get("plotly_chart")) == 1
    assert any("report n --to n-report.html" in code.value for code in at.code)
    assert [one.proto.label for one in at.get("download_button")][0] == "One HTML file"


def test_the_page_says_what_it_does_not_know(store, open_page):
    assert "Nothing has been measured yet" in words_of(open_page(PAGE))
    make_neurons(store, name="n")
    assert "There is no model" in words_of(open_page(PAGE, model="nobody"))


def test_a_programming_error_in_a_figure_is_no_part_of_a_report(store, monkeypatch):
    import analysis

    monkeypatch.setattr(analysis, "ANALYSES", (BROKEN,))
    run = make_run(store, analysis=BROKEN)
    with pytest.raises(ZeroDivisionError):
        report_html(store, [run])
