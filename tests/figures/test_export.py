"""Files: the right format by suffix, exact numbers back from CSV, whole files or none, sentences for what cannot be."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figures.export import SUFFIXES, export, render, to_csv
from figures.spec import FigureError


@pytest.mark.parametrize("suffix", [one for one in SUFFIXES if one != "pgf"])
def test_each_suffix_writes_its_format_and_leaves_nothing_else(specs, provenance, tmp_path, suffix):
    path = export(specs["stacked_bars"], tmp_path / f"figure.{suffix}", provenance)
    start = {"pdf": b"%PDF-", "svg": b"<?xml", "png": b"\x89PNG", "html": b"<!doctype html>", "csv": b"# ", "parquet": b"PAR1"}
    start = start.get(suffix, b"% Needs")
    assert path.read_bytes().startswith(start)
    assert os.listdir(tmp_path) == [path.name]


def test_upper_case_suffixes_are_understood(specs, provenance, tmp_path):
    assert export(specs["bars"], tmp_path / "F.PDF", provenance).read_bytes().startswith(b"%PDF-")


def test_an_unknown_suffix_is_refused_with_the_known_ones(specs, provenance, tmp_path):
    for name, said in (("figure.gif", "'gif'"), ("figure", "''")):
        with pytest.raises(
            FigureError, match=rf"must end in one of \.pdf, \.svg, \.png, \.html, \.csv, \.parquet, \.tex, \.pgf, got {said}; "
        ):
            export(specs["bars"], tmp_path / name, provenance)
    assert issubclass(FigureError, ValueError)


def test_a_place_that_cannot_be_written_is_a_sentence_and_nothing_is_left(specs, provenance, tmp_path):
    with pytest.raises(FigureError, match="must be in a folder that can be written, got .*No such file or directory"):
        export(specs["bars"], tmp_path / "missing" / "figure.csv", provenance)
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(FigureError, match="Is a directory"):
        export(specs["bars"], tmp_path / "taken.csv", provenance)
    assert os.listdir(tmp_path) == ["taken.csv"]


def test_a_failed_drawing_leaves_the_older_file_alone(specs, provenance, tmp_path):
    path = export(specs["bars"], tmp_path / "figure.svg", provenance)
    before = path.read_bytes()
    with pytest.raises(FigureError):
        export(replace(specs["bars"], data=specs["bars"].data.iloc[:0]), path, provenance)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["figure.svg"]


def test_csv_gives_every_number_back_exactly(specs, provenance, tmp_path):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500), [0.1, 5e-324, 1.7976931348623157e308]])
    data = pd.DataFrame({"s": np.arange(len(values)), "loss": np.abs(values), "low": 0.0, "high": 1.0})
    path = export(replace(specs["line"], data=data), tmp_path / "figure.csv", provenance)
    back = pd.read_csv(path, comment="#", float_precision="round_trip")
    pd.testing.assert_frame_equal(back, data, check_exact=True)


def test_csv_keeps_hostile_names_and_their_hashes(hostile_specs, provenance, tmp_path):
    path = export(hostile_specs["bars"], tmp_path / "figure.csv", provenance)
    back = pd.read_csv(path, comment="#", lineterminator="\n")
    expected = hostile_specs["bars"].data["name"].tolist()
    assert back["name"].tolist() == expected
    assert back["value"].tolist() == hostile_specs["bars"].data["value"].tolist()


def test_csv_begins_with_caption_and_provenance(specs, provenance):
    lines = to_csv(replace(specs["bars"], notes=("Two\nlines.",)), provenance).splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    assert comments == lines[:4]
    assert comments[:3] == ["# Zeros by tensor", "# Share of zeros, 4 tensors.", "# Two↵lines."]
    assert json.loads(comments[3].removeprefix("# provenance: ")) == provenance


def test_an_empty_figure_has_no_csv_either(specs, provenance, kind):
    with pytest.raises(FigureError):
        render(replace(specs[kind], data=specs[kind].data.iloc[:0]), "csv", provenance)
