"""`python -m analysis sql` and `labels`: rows on stdout, labels there and back, and one sentence for what is wrong."""

from __future__ import annotations

import csv
import io
import json

import pytest

from analysis.__main__ import main
from store import Store
from tests.toy import make_run


@pytest.fixture
def said(capsys):
    """Run a command in this process: (status, stdout, stderr)."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_sql_prints_the_rows_of_all_runs_as_csv(store, said):
    run = make_run(store, n_layers=2, n_coins=10)
    status, out, err = said("sql", "SELECT run, layer, sum(n) AS coins FROM layers GROUP BY ALL ORDER BY layer", "--store", store.folder)
    assert status == 0 and err == ""
    assert list(csv.reader(io.StringIO(out))) == [["run", "layer", "coins"], [run.id, "0", "10"], [run.id, "1", "10"]]


def test_sql_says_what_was_left_out_and_what_is_wrong(store, said):
    make_run(store, n_layers=2, n_coins=10)
    status, out, err = said("sql", "SELECT * FROM range(9)", "--rows", 3, "--store", store.folder)
    assert status == 0 and out.splitlines() == ["range", "0", "1", "2"] and "first 3" in err
    for query, words in (("DROP TABLE layers", "got DROP"), ("SELECT gone FROM layers", "gone"), ("SELECT 1; SELECT 2", "one statement")):
        status, out, err = said("sql", query, "--store", store.folder)
        assert status == 2 and out == "" and words in err and len(err.strip().splitlines()) == 1
    assert said("sql", "SELECT 1", "--rows", 0, "--store", store.folder)[0] == 2


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_labels_go_to_a_file_and_into_another_store(store, tmp_path, said, suffix):
    store.labels.write("weights ab", "blocks.0.mlp 3", "planets", note="=two\nlines", kind="neuron", model="tiny")
    file, other = tmp_path / f"labels.{suffix}", Store(tmp_path / "other")
    assert said("labels", "--export", file, "--store", store.folder)[:2] == (0, f"{file}\n")
    assert said("labels", "--import", file, "--store", other.folder)[1] == "1 added, 0 there already, 0 different\n"
    assert other.labels.all() == store.labels.all()
    assert "planets  [=two lines]" in said("labels", "--store", other.folder)[1]


def test_labels_that_differ_are_told_and_the_preferred_ones_stay(store, tmp_path, said):
    store.labels.write("sae x", "3", "first")
    file = tmp_path / "labels.json"
    said("labels", "--export", file, "--store", store.folder)
    store.labels.write("sae x", "3", "second")
    status, out, err = said("labels", "--import", file, "--store", store.folder)
    assert (status, out) == (0, "0 added, 0 there already, 1 different\n") and "'second'" in err and "the one here stays" in err
    said("labels", "--import", file, "--prefer", "theirs", "--store", store.folder)
    assert store.labels.get("sae x", "3").text == "first"


def test_a_file_that_is_none_of_labels_is_refused_in_a_sentence(store, tmp_path, said):
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"format": "something else"}))
    for arguments, words in (
        (("--import", broken), '"format"'),
        (("--import", tmp_path / "gone.json"), "can be read"),
        (("--export", tmp_path / "labels.xlsx"), "must end in .json or .csv"),
        (("--export", tmp_path / "no" / "labels.csv"), "can be written"),
    ):
        status, out, err = said("labels", *arguments, "--store", store.folder)
        assert status == 2 and out == "" and words in err and len(err.strip().splitlines()) == 1
