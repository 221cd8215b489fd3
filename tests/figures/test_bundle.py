"""Bundles: everything there, the same bytes each time, and a script that draws the exported numbers without this program."""

import io
import json
import math
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figures import paper
from figures.bundle import bundle, check_formats, figure_files
from figures.export import render
from figures.presets import find_preset
from figures.spec import Axis, FigureError, FigureSpec, Mark, Series

PROVENANCE = {
    "model": "tiny", "model_label": "Tiny_1 (100 % seeded)", "data": "python-docs", "slug": "neuron_activity", "title": "Activity",
    "version": 3, "config": {"window": 16}, "key": "1a2b", "attempt": 1, "facts": {"n_tokens": 2048},
    "sources": [
        {"title": "The Lazy Neuron Phenomenon", "reference": "Li et al., ICLR 2023, arXiv 2210.06313", "evidence": "3"},
        {"title": "Relative contribution", "reference": "our own", "evidence": "O"},
    ],
}  # fmt: skip

CHILD = """
import json, os, runpy, sys, traceback

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("figures", "analysis", "store", "ui", "plotly", "streamlit"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import matplotlib.pyplot, numpy as np, pandas

for line in sys.stdin:
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    status = 1
    try:
        os.chdir(line.rstrip())
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        sys.argv = [os.path.abspath("make_figure.py"), os.path.abspath("again.png")]
        made = runpy.run_path(sys.argv[0])
        axes = made["axes"]
        kinds = [type(one).__name__ for one in axes.collections]
        bars = [[bar.get_height() for bar in series] for series in axes.containers]
        lines = [np.asarray(one.get_ydata(), float).tolist() for one in axes.lines[: len(made["SERIES"])]]
        points = [np.asarray(one.get_offsets())[:, 1].tolist() for one, kind in zip(axes.collections, kinds) if kind == "PathCollection"]
        values = [np.ma.asarray(one.get_array(), float) for one, kind in zip(axes.collections, kinds) if kind == "QuadMesh"]
        cells = [np.ma.filled(one, np.nan).ravel().tolist() for one in values]
        areas = [[patch.get_width() * patch.get_height() for patch in axes.patches]]
        found = {"stacked_bars": bars, "bars": bars, "histogram": bars, "line": lines}
        found |= {"scatter": points, "heatmap": cells, "treemap": areas}
        found["bases"] = [[bar.get_y() for bar in series] for series in axes.containers]
        found["limits"], found["size"] = [axes.get_xlim(), axes.get_ylim()], list(made["figure"].get_size_inches())
        found["title"] = made["figure"].get_suptitle()
        found["names"] = [[one.get_text() for one in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
        with open("found.json", "w") as file:
            json.dump(found, file, default=float)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
"""


@pytest.fixture(scope="module")
def redrawn():
    """What the script draws, in a process that cannot import this program: a fork of one that has imported what scripts need."""
    started = [sys.executable, "-I", "-c", CHILD]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout

        def draw(spec, folder, **look):
            files, _ = figure_files(spec, PROVENANCE, name="f", formats=["png"], **look)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            print(folder, file=process.stdin, flush=True)
            status, said = process.stdout.readline().strip(), (folder / "stderr").read_text()
            assert status == "0", said
            assert said == ""
            assert (folder / "again.png").read_bytes().startswith(b"\x89PNG")
            return json.loads((folder / "found.json").read_text())

        yield draw


def numbers(series):
    return [sorted(v for v in one if not math.isnan(v)) for one in series]


def test_the_script_draws_the_numbers_of_the_exported_data(redrawn, specs, kind, tmp_path):
    """Against the file, not against our own drawing: the values of the column that the kind shows, series by series."""
    found = redrawn(specs[kind], tmp_path)
    data = pd.read_csv(tmp_path / "data.csv", comment="#")
    spec = specs[kind]
    column = spec.colour.column if kind == "heatmap" else spec.y.column
    series = spec.series.column if spec.series is not None else None
    expected = (
        [data[column].tolist()]
        if series is None or kind == "treemap"
        else [g[column].tolist() for _, g in data.groupby(series, sort=False)]
    )
    assert numbers(found[kind]) == [pytest.approx(one) for one in numbers(expected)]
    assert found["size"] == pytest.approx(list(paper.to_matplotlib(spec).get_size_inches()))


def test_the_script_draws_what_the_figure_shows_also_where_some_of_it_cannot_be_shown(redrawn, specs, tmp_path):
    """Missing values, zeros on a logarithmic axis, unsorted names, numbers as names: as `figures.paper` draws them."""
    gaps = specs["line"].data.assign(loss=[2.0, 0.0, 4.0])
    marked = replace(specs["line"], data=gaps, marks=(Mark(0.5, "a $x$ # mark"),))
    holes = replace(specs["heatmap"], data=specs["heatmap"].data.iloc[1:], colour=Axis("h", "Entropy", scale="log"))
    strip = specs["stacked_bars"]
    named = replace(strip, x=Axis("layer", "Layer", scale="category"), data=strip.data.iloc[::-1].reset_index(drop=True))
    some = replace(specs["scatter"], data=specs["scatter"].data.assign(k=[1.0, None, 1000.0]))
    for i, spec in enumerate((marked, holes, named, some)):
        folder = tmp_path / str(i)
        folder.mkdir()
        found, shown = redrawn(spec, folder)[spec.kind], paper.shown_numbers(paper.to_matplotlib(spec))
        assert numbers(found) == [pytest.approx(one) for one in numbers(shown)], spec.kind


def test_names_and_plain_numbers_stand_along_the_axes_of_the_script_as_in_the_figure(redrawn, specs, tmp_path):
    named = replace(specs["stacked_bars"], x=Axis("layer", "Layer", scale="category"))
    for spec, expected in ((specs["bars"], [["q", "k"], None]), (named, [["0", "1", "2"], None]), (specs["line"], [None, ["1", "2", "5"]])):
        folder = tmp_path / spec.kind
        folder.mkdir()
        names = redrawn(spec, folder)["names"]
        assert all(want is None or want == found for want, found in zip(expected, names))


def test_pieces_of_a_stack_stand_on_each_other_in_the_script_too(redrawn, specs, tmp_path):
    found = redrawn(specs["stacked_bars"], tmp_path)
    assert found["bases"][0] == [0, 0, 0]
    assert found["bases"][2] == pytest.approx([3 / 15] * 3)
    assert found["limits"][1] == pytest.approx([0, 1])


@pytest.mark.parametrize("which", ["bars", "line", "heatmap", "treemap"])
def test_hostile_names_reach_the_script_as_text(redrawn, hostile_specs, which, tmp_path):
    spec = hostile_specs[which]
    found = redrawn(spec, tmp_path, title=True)
    assert found["title"] == paper.to_matplotlib(spec, title=True).get_suptitle() != ""
    shown = paper.shown_numbers(paper.to_matplotlib(spec))
    assert sorted(sum(numbers(found[spec.kind]), [])) == pytest.approx(sorted(sum(shown, [])))


def test_many_bars_many_series_and_whole_numbers_as_names(redrawn, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(layer, head, float(rng.random())) for layer in range(40) for head in range(10)]
    data = pd.DataFrame(rows, columns=["layer", "head", "v"])
    x, y = Axis("layer", "Layer", scale="category"), Axis("v", "Value")
    spec = FigureSpec("bars", data, x, y, "t", "s", series=Series("head", "Head"))
    assert numbers(redrawn(spec, tmp_path)["bars"]) == [pytest.approx(sorted(g["v"])) for _, g in data.groupby("head")]


def test_a_caption_includes_no_picture_that_the_bundle_has_not(specs):
    files, _ = figure_files(specs["bars"], PROVENANCE, name="zeros", formats=("svg", "csv"))
    latex = files["caption.tex"].decode()
    assert "includegraphics" not in latex and r"\caption{Share of zeros, 4 tensors." in latex


def test_a_bundle_holds_figure_data_provenance_caption_references_and_script(specs):
    content = bundle(specs["bars"], PROVENANCE, name="zeros", formats=("pdf", "svg", "tex", "parquet"), preset=find_preset("icml-double"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(files) == [
        "caption.tex", "caption.txt", "data.csv", "data.parquet", "figure.pdf", "figure.svg", "make_figure.py", "provenance.json",
        "references.bib", "table.tex",
    ]  # fmt: skip
    assert json.loads(files["provenance.json"]) == PROVENANCE
    assert b"2210.06313" in files["references.bib"] and b"% No entry: Relative contribution. our own." in files["references.bib"]
    latex = files["caption.tex"].decode()
    assert r"\includegraphics{figure.pdf}" in latex and r"\begin{figure*}" in latex and r"\cite{li2023lazy}" in latex
    assert r"Tiny\_1 (100 \% seeded)" in latex and r"\label{fig:zeros}" in latex
    words = files["caption.txt"].decode()
    for said in (
        "Share of zeros, 4 tensors.",
        "Model: Tiny_1 (100 % seeded).",
        "Data: python-docs, 2048 tokens.",
        "Method: Activity (neuron_activity, version 3) with window 16.",
        "run 1a2b-1.",
        "Source: The Lazy Neuron Phenomenon. Li et al., ICLR 2023",
    ):
        assert said in words, said
    read = pd.read_parquet(io.BytesIO(files["data.parquet"]))
    pd.testing.assert_frame_equal(read, specs["bars"].data)


@pytest.mark.parametrize("suffix", ["html", "csv", "parquet", "tex"])
def test_the_same_figure_gives_the_same_bytes_in_every_format_that_is_not_on_paper(specs, kind, suffix):
    once, again = (render(specs[kind], suffix, PROVENANCE, preset=find_preset("acl-single")) for _ in range(2))
    assert once == again


def test_the_same_figure_gives_the_same_zip_later_and_elsewhere(specs, monkeypatch, tmp_path):
    formats = ("pdf", "svg", "png", "html", "csv", "parquet", "tex")
    once = bundle(specs["heatmap"], PROVENANCE, name="f", formats=formats)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.chdir(tmp_path)
    assert bundle(specs["heatmap"], dict(reversed(PROVENANCE.items())), name="f", formats=reversed(formats)) == once
    with zipfile.ZipFile(io.BytesIO(once)) as archive:
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())


def test_a_format_that_cannot_be_is_said_and_costs_nothing_else(specs):
    data = pd.DataFrame({"a": np.arange(500.0), "b": np.arange(500.0), "k": 1.0, "name": "x"})
    spec = replace(specs["scatter"], data=data.assign(k=np.arange(1.0, 501.0)))
    files, left_out = figure_files(spec, PROVENANCE, name="f", formats=("png", "tex"))
    assert "figure.png" in files and "table.tex" not in files
    assert left_out == ("tex: a LaTeX table must have at most 100 rows and 12 columns, got 500 and 4; take the CSV file instead.",)


def test_a_latex_table_has_the_columns_that_are_drawn_or_told_and_no_others(specs):
    spec = replace(specs["bars"], data=specs["bars"].data.assign(**{f"more_{i}": i for i in range(20)}))
    made = render(spec, "tex", {}).decode()
    assert r"Tensor & Model & Zeros (share) & n \\" in made and "more" not in made


def test_formats_are_checked_and_ordered():
    assert check_formats(["CSV", " pdf", ".svg", "pdf", ""]) == ("pdf", "svg", "csv")
    with pytest.raises(FigureError, match="formats must be of pdf, .*, got eps; choose from these."):
        check_formats(["pdf", "eps"])
    with pytest.raises(FigureError, match="must name at least one of pdf, .* got none; choose one."):
        check_formats([""])
