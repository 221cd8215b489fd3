"""The command line end to end: real child processes, real files; bad input ends in one sentence and loses nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import duckdb
import pytest

from analysis.__main__ import main
from store import Store
from tests.forking import Forks


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    random.seed(0)
    documents = [" ".join(f"w{random.randrange(38)}" for _ in range(90)) for _ in range(12)]
    path.write_text("\n<|endoftext|>\n".join(documents))
    return path


@pytest.fixture
def said(capsys):
    """Run a command in this process: (status, last line on stdout, stderr)."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, (out.strip().splitlines() or [""])[-1], err.strip()

    return run


def activity(model, text, store, *more):
    return ["run", "neuron_activity", "--model", model, "--data", text, "--window", 16, "--n-tokens", 640, "--store", store, *more]


@pytest.fixture(scope="module")
def forks():
    one = Forks()
    yield one
    one.close()


def test_a_run_seals_a_file_that_any_duckdb_client_reads_and_exports_figures(said, tiny_llama, text, tmp_path):
    store = tmp_path / "results"
    status, path, err = said(*activity(tiny_llama, text, store))
    assert status == 0, err
    with duckdb.connect(path, read_only=True) as connection:
        columns = connection.execute("select table_name, column_name, comment from duckdb_columns() where not internal").fetchall()
        assert connection.execute("select count(*) from neurons").fetchall() == [(48,)]
        assert connection.execute("select distinct hook_name from neurons order by 1").fetchall() == [
            ("blocks.0.mlp.hook_post",),
            ("blocks.1.mlp.hook_post",),
        ]
    assert [c for c in columns if not c[2]] == []
    run_id = Path(path).stem
    for suffix in ("pdf", "svg", "png", "html", "csv"):
        to = tmp_path / f"figure.{suffix}"
        status, made, err = said("export", run_id, "layer_classes", "--to", to, "--store", store)
        assert (status, made) == (0, str(to)), err
        assert to.stat().st_size > 500
    status, again, _ = said(*activity(tiny_llama, text, store))
    assert again == path, "the store is the cache"
    status, line, _ = said("runs", "--store", store)
    assert run_id in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "weight_sparsity", "--model", "gpt9"], "the model must be"),
        (["run", "neuron_activity", "--model", "minilm", "--set", "window=many"], "window must be between"),
        (["run", "neuron_activity", "--model", "minilm", "--set", "windows=3"], "windows is not a setting"),
        (["run", "neuron_activity", "--model", "minilm", "--set", "window"], "--set must be FIELD=VALUE"),
        (["run", "neuron_activity", "--model", "minilm", "--data", "no/such/file.txt"], "no/such/file.txt"),
        (["run", "neuron_activity", "--model", "minilm", "--with", "base=x"], "no input"),
        (["export", "abc", "layer_classes", "--to", "x.pdf"], "abc"),
        (["describe", "neuron_activities"], "there is no analysis 'neuron_activities'; the analyses are"),
    ],
    ids=lambda a: " ".join(a[1:]) if isinstance(a, list) else "",
)
def test_bad_words_end_in_one_sentence(said, arguments, sentence, tmp_path):
    more = [] if arguments[0] == "describe" else ["--store", tmp_path / "results"]
    status, out, err = said(*arguments, *more)
    assert status == 2
    assert out == ""
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "must not be empty"), (b"w1 w2 w3", "must be at least 16 tokens, got"), (b"\xff\xfe\x00bad", "UTF-8")],
    ids=["empty", "short", "not text"],
)
def test_a_text_that_cannot_be_used_ends_in_one_sentence(said, tiny_llama, tmp_path, content, sentence):
    text = tmp_path / "bad.txt"
    text.write_bytes(content)
    status, _, err = said(*activity(tiny_llama, text, tmp_path / "results"))
    assert status == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_truncated_weight_file_ends_in_one_sentence(said, tiny_llama, text, tmp_path):
    weights = tiny_llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    status, _, err = said(*activity(tiny_llama, text, tmp_path / "results"))
    assert status == 2
    assert "model.safetensors" in err


def test_no_space_while_sealing_ends_in_one_sentence_and_a_rerun_goes_on(said, forks, tiny_llama, text, tmp_path):
    """A file size limit stands for a full disk: parts fit under it, the sealed file does not."""
    store = tmp_path / "results"
    process = forks.start(activity(tiny_llama, text, store), err=tmp_path / "err", file_size=600_000)
    status, err = forks.wait(process), (tmp_path / "err").read_text()
    assert status == 2, err
    assert "Traceback" not in err
    assert "space" in err or "room" in err
    assert Store(store).runs() == []
    assert list((store / "runs").glob("*.partial")), "what was measured is kept"
    status, path, err = said(*activity(tiny_llama, text, store))
    assert status == 0, err
    assert Path(path).exists()
    assert not list((store / "runs").glob("*.partial"))


@pytest.mark.slow
def test_two_runs_of_the_same_key_at_once_make_one_result(forks, tiny_llama, text, tmp_path):
    store = tmp_path / "results"
    both = [forks.start(activity(tiny_llama, text, store, "--now"), err=tmp_path / f"err{i}") for i in range(2)]
    ends = [(forks.wait(process), (tmp_path / f"err{i}").read_text()) for i, process in enumerate(both)]
    for status, err in ends:
        assert status in (0, 2), err
        if status == 2:
            assert "process" in err, "the sentence says who is at it"
    assert any(status == 0 for status, _ in ends)
    assert len(Store(store).runs()) == 1


@pytest.mark.slow
def test_kill_at_twelve_moments_leaves_no_half_visible_run_and_a_resume_finishes(said, forks, tiny_llama, text, tmp_path, monkeypatch):
    """The real analysis, of five units, in real processes."""
    units = {"analysis.neurons.neuron_activity.UNIT_TOKENS": 128}
    for name, value in units.items():
        monkeypatch.setattr(name, value)

    def trial(store, kill_after=None):
        pid = forks.start(activity(tiny_llama, text, store, "--now"), attributes=units)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)  # not waited for yet, so that the pid is still its own
        return forks.wait(pid)

    assert trial(tmp_path / "warm") == 0
    started = time.monotonic()
    assert trial(tmp_path / "reference") == 0
    whole = time.monotonic() - started
    expected = _rows(tmp_path / "reference")
    for moment in range(12):
        store = tmp_path / f"store{moment}"
        trial(store, whole * (moment + 0.5) / 12)
        for info in Store(store).runs():
            assert len(Store(store).read(info, "neurons")) == 48, "a visible run is a whole one"
        status, _, err = said(*activity(tiny_llama, text, store, "--now"))
        assert status == 0, err
        assert _rows(store) == expected
        assert not list((store / "runs").glob("*.partial"))
        assert not list((store / "runs").glob(".*.tmp"))


def _rows(folder):
    store = Store(folder)
    (info,) = store.runs()
    tables = {t: store.read(info, t, order_by=keys) for t, keys in (("neurons", ["layer", "neuron"]), ("layers", ["layer"]))}
    return {name: frame.round(9).to_json() for name, frame in tables.items()}


@pytest.mark.models
@pytest.mark.parametrize("model", ["smollm2", "minilm"])
def test_the_bundled_models_seal_runs_with_a_comment_on_every_column(said, model, tmp_path):
    """Small on purpose: 512 tokens of the real text through the real model."""
    store = tmp_path / "results"
    command = ["run", "neuron_activity", "--model", model, "--n-tokens", 512, "--window", 64, "--store", store, "--now"]
    status, path, err = said(*command)
    assert status == 0, err
    n_neurons = {"smollm2": 30 * 1536, "minilm": 6 * 1536}[model]
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("select count(*) from neurons").fetchall() == [(n_neurons,)]
        missing = "select table_name, column_name from duckdb_columns() where not internal and comment is null"
        assert connection.execute(missing).fetchall() == []
        assert connection.execute("select count(*) from layers where hook_name like 'blocks.%.mlp.hook_post'").fetchall() == [
            (n_neurons // 1536,)
        ]
    info = Store(store).find(path)
    label = Store(store).provenance(info)["model_label"]
    assert ("dequantised" in label) == (model == "smollm2")
