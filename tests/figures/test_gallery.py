"""Everything of a run at once: on the command line and as a zip, with what is left out said, and the same bytes each time."""

import io
import subprocess
import sys
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

import analysis
from analysis.__main__ import main
from analysis.gallery import Wish, cited, items, pick, run_files, run_zip
from analysis.spec import Figure, UnknownName
from figures.presets import find_preset
from figures.spec import FigureError, NothingToDraw
from store import Store
from tests.toy import HOSTILE, TOY, make_run


@pytest.fixture(autouse=True)
def toy_is_registered(monkeypatch):
    monkeypatch.setattr(analysis, "ANALYSES", (*analysis.ANALYSES, TOY))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def said(capsys):
    """Run a command: (status, last line on stdout, stderr)."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, (out.strip().splitlines() or [""])[-1], err.strip()

    return run


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_everything_of_a_run_is_its_declared_figures_and_its_stored_tables(store):
    known = items(store, make_run(store))
    assert [one.id for one in known] == [*(figure.slug for figure in TOY.figures), "table-layers", "table-coins"]
    assert [one.rows for one in known if one.kind == "table"] == [12, 240]


def test_export_all_writes_a_folder_per_figure_and_table(store, said, tmp_path):
    run, to = make_run(store), tmp_path / "paper" / "toy"
    flags = ("--preset", "icml-single", "--formats", "pdf,svg,csv,tex", "--store", store.folder)
    status, out, err = said("export", "--all", run.id, "--to", to, *flags)
    assert (status, out) == (0, str(to)), err
    assert "1 of 4: faces" in err
    faces = {path.name for path in (to / "faces").iterdir()}
    assert faces == {"figure.pdf", "figure.svg", "table.tex", "data.csv", "caption.txt", "caption.tex", "make_figure.py"}
    assert {path.name for path in to.iterdir() if path.is_file()} == {"README.txt", "provenance.json", "references.bib"}
    stored = store.read(run, "coins").drop(columns="tosses")
    written = pd.read_csv(to / "table-coins" / "data.csv", comment="#", lineterminator="\n").drop(columns="tosses")
    assert written["weight"].dropna().tolist() == stored["weight"].dropna().tolist()
    assert written["token"].tolist() == stored["token"].tolist() and HOSTILE in set(written["token"])
    readme = (to / "README.txt").read_text()
    assert "left out: tex: a LaTeX table must have at most 100 rows and 12 columns, got 240 and 6" in readme
    script = to / "faces" / "make_figure.py"
    again = subprocess.run([sys.executable, "-I", script, tmp_path / "again.pdf"], cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "") and (tmp_path / "again.pdf").read_bytes().startswith(b"%PDF-")


def test_the_same_run_gives_the_same_zip_and_the_same_files_as_the_command_line(store, said, tmp_path):
    run = make_run(store)
    wish = Wish(find_preset("acl-single"), ("pdf", "svg", "png", "parquet"))
    once = run_zip(store, run, items(store, run), wish)
    assert run_zip(Store(store.folder), run, items(store, run), wish) == once
    flags = ("--preset", "acl-single", "--formats", "parquet,png,svg,pdf", "--store", store.folder)
    assert said("export", "--all", run.id, "--to", tmp_path / "out", *flags)[0] == 0
    files = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert unzipped(once) == files


def test_a_figure_that_cannot_be_drawn_is_said_and_costs_the_others_nothing(store, monkeypatch):
    def nothing(rows, provenance):
        raise NothingToDraw("No coin was tossed.")

    partly = replace(TOY, slug="toy_partly", figures=(Figure("none", "Never drawn", "layers", nothing), *TOY.figures))
    monkeypatch.setattr(analysis, "ANALYSES", (*analysis.ANALYSES, partly))
    run = make_run(store, analysis=partly)
    files = unzipped(run_zip(store, run, items(store, run), Wish(formats=("png",))))
    assert "none: Never drawn\n  left out: No coin was tossed.\n" in files["README.txt"].decode()
    assert "faces/figure.png" in files and not any(name.startswith("none/") for name in files)


def test_a_table_too_long_for_a_bundle_says_where_it_is(store, monkeypatch):
    monkeypatch.setattr("analysis.gallery.MOST_ROWS", 100)
    run = make_run(store)
    files = unzipped(run_zip(store, run, pick(items(store, run), ["table-coins", "table-layers"]), Wish()))
    assert "table-layers/data.csv" in files and not any("coins" in name for name in files)
    assert f"it has 240 rows, and a bundle holds 100; any DuckDB client opens {run.path}." in files["README.txt"].decode()
    monkeypatch.setattr("analysis.gallery.MOST_BYTES", 1000)
    with pytest.raises(FigureError, match="must be under 0 MB together, got .* take fewer tables, or write a folder"):
        run_zip(store, run, items(store, run), Wish())


def test_only_what_is_picked_comes_and_unknown_names_are_refused(store):
    run = make_run(store)
    known = items(store, run)
    assert [one.id for one in pick(known, ["table-layers", "faces"])] == ["faces", "table-layers"]
    with pytest.raises(UnknownName, match="items must be of faces, .* got nonsense; choose from these."):
        pick(known, ["faces", "nonsense"])
    told = []
    made = dict(run_files(store, run, pick(known, ["faces"]), Wish(formats=("svg",))))
    run_zip(store, run, pick(known, ["faces"]), Wish(formats=("svg",)), lambda item, i: told.append((item.id, i)))
    assert told == [("faces", 0)]
    assert {name.split("/")[0] for files in made.values() for name in files} == {"faces", "README.txt", "provenance.json", "references.bib"}


def test_interventions_of_a_run_are_cited_beside_its_analysis():
    own = [{"title": "Essential sparsity", "reference": "x", "evidence": "K"}]
    record = {"sources": own, "config": {"methods": "magnitude, wanda"}}
    titles = [one["title"] for one in cited(record)["sources"]]
    assert titles[0] == "Essential sparsity" and any("Simple and Effective Pruning" in title for title in titles)
    assert cited({"sources": own, "config": {"method": "nobody"}})["sources"] == own
    facts = {"facts": {"interventions": {"cats": {}}}}
    assert any(title["title"].startswith("CATS") for title in cited(facts)["sources"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN", "--to", "x.pdf"], "export must be given a figure or --all, got neither"),
        (["RUN", "faces", "--all", "--to", "x"], "export must be given a figure or --all, got --all and faces"),
        (["RUN", "--all", "--to", "x", "--formats", "eps"], "formats must be of pdf, svg"),
        (["RUN", "faces", "--to", "x.pdf", "--preset", "nature"], "preset must be one of plain, icml-single"),
        (["RUN", "faces", "--to", "x.png", "--dpi", "1"], "dpi must be between"),
        (["RUN", "--all", "--to", __file__], "--to must be a folder with --all, got the file"),
    ],
    ids=lambda a: " ".join(a[1:4]) if isinstance(a, list) else "",
)
def test_bad_words_end_in_one_sentence(store, said, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(store)
    status, out, err = said("export", *(run.id if one == "RUN" else one for one in arguments), "--store", store.folder)
    assert (status, out) == (2, "")
    assert sentence in err and len(err.splitlines()) == 1
    assert not (tmp_path / "x.pdf").exists()


def test_everything_is_written_only_into_a_folder_without_other_files(store, said, tmp_path):
    run, to = make_run(store), tmp_path / "paper"
    flags = ("--store", store.folder, "--to", to)
    assert said("export", "--all", run.id, "--formats", "svg", *flags)[0] == 0
    status, out, err = said("export", "--all", run.id, "--formats", "png", *flags)
    assert (status, out) == (2, "") and "--to must be a new or empty folder with --all" in err
    assert not list(to.rglob("*.png"))


def test_one_figure_takes_preset_title_typeface_and_dots(store, said, tmp_path):
    from PIL import Image

    run = make_run(store)
    flags = ("--preset", "slides", "--typeface", "serif", "--title", "--dpi", 100, "--store", store.folder)
    assert said("export", run.id, "faces", "--to", tmp_path / "f.png", *flags)[0] == 0
    assert Image.open(tmp_path / "f.png").size[0] == round(140 / 25.4 * 100)


def test_one_figure_has_the_bytes_it_has_among_all(store, said, tmp_path):
    run = make_run(store)
    flags = ("--preset", "icml-double", "--store", store.folder)
    assert said("export", run.id, "faces", "--to", tmp_path / "one.pdf", *flags)[0] == 0
    assert said("export", "--all", run.id, "--to", tmp_path / "all", "--formats", "pdf", *flags)[0] == 0
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "all" / "faces" / "figure.pdf").read_bytes()
