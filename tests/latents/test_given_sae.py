"""`--with sae=REF`: a run that holds an SAE, a folder, or a release; what it is enters the key of what is made with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.given_sae import SAE, check_sae, given_sae, is_path
from analysis.jobs import request
from analysis.latents.dictionary import open_dictionary
from analysis.runner import run, run_key
from analysis.spec import Analysis, Column, Source, Table, UserError, setting
from store import Store
from tests.latents.saes import made, saved


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of both toys."""

    seed: int = setting(0, help="Seed", ge=0, le=9)


ROWS = Table("sizes", "What was seen.", ("name",), (Column("name", "str", "What"), Column("n", "int", "How many", range=(0, 1e9))))
SUBJECT: Any = SimpleNamespace(
    name="toy", label="Toy", source="toy", facts={}, data=None, dtype="float32", device="cpu", fingerprints={"weights": "0" * 32},
    series=(), is_loaded=True, reads=None,
)  # fmt: skip


def _write(config: Config, inputs: Any, work: Any) -> Any:
    made("standard", metadata={"hook_name": "blocks.0.hook_resid_post"}).save_model(work.files / "sae")
    yield "sizes", {"name": ["written"], "n": [1]}


def _read(config: Config, inputs: Any, work: Any) -> Any:
    yield "sizes", {"name": ["latents"], "n": [inputs[SAE].d_sae]}


def toy(slug: str, make: Any, inputs: tuple[str, ...]) -> Analysis:
    source = Source("Toys", "tests", "O")
    return Analysis(
        slug=slug, title=slug, question="How large?", version=1, kind="static", sources=(source,), config=Config, tables=(ROWS,), run=make,
        figures=(), inputs=inputs,
    )  # fmt: skip


WRITER, READER = toy("toy_writer", _write, ("model",)), toy("toy_reader", _read, ("model", SAE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis

    every = (*analysis.ANALYSES, READER)
    monkeypatch.setattr(analysis, "ANALYSES", every)
    monkeypatch.setattr("analysis.__main__.ANALYSES", every)


def test_a_run_with_an_sae_is_opened_by_its_id_or_the_beginning_of_it(store: Store):
    info = run(WRITER, {"model": SUBJECT}, Config(), store)
    for ref in (info.id, info.id[:10]):
        dictionary = given_sae(store, ref)
        assert (dictionary.d_in, dictionary.source) == (6, info.id) and info.id in dictionary.label
    assert dictionary.fingerprints == open_dictionary(store.files(info) / "sae").fingerprints  # pyright: ignore


def test_another_sae_is_another_key_and_the_same_one_elsewhere_is_not(tmp_path: Path):
    keys = []
    for name, architecture in (("one", "standard"), ("copy", "standard"), ("other", "topk")):
        dictionary = open_dictionary(saved(tmp_path / name, architecture))
        keys.append(run_key(READER, Config(), {"model": SUBJECT, SAE: dictionary}))
    assert keys[0] == keys[1] != keys[2]


def test_an_analysis_gets_the_dictionary_and_its_run_says_which(store: Store, tmp_path: Path):
    dictionary = given_sae(store, str(saved(tmp_path / "sae")))
    info = run(READER, {"model": SUBJECT, SAE: dictionary}, Config(), store)
    assert store.read(info, "sizes")["n"].tolist() == [12]
    assert store.provenance(info)["fingerprints"][SAE] == dictionary.fingerprints


def test_what_holds_no_sae_is_refused(store: Store, tmp_path: Path):
    info = run(READER, {"model": SUBJECT, SAE: open_dictionary(saved(tmp_path / "sae"))}, Config(), store)
    with pytest.raises(UserError, match=f"the run must hold an SAE, got {info.id}, which is one of toy_reader without"):
        given_sae(store, info.id)
    with pytest.raises(UserError, match="must be the id of a run of sae_train, a folder, or release:id, got 'nothing'"):
        given_sae(store, "nothing")
    with pytest.raises(UserError, match="not found in pretrained SAEs directory"):
        given_sae(store, "nothing:blocks.1")
    with pytest.raises(UserError, match="an SAE must be a folder, a safetensors file, or release:id of sae-lens' table, got ."):
        given_sae(store, str(tmp_path / "saes" / "gone"))


def test_a_request_is_refused_before_anything_is_started(registered: None, tmp_path: Path):
    with pytest.raises(UserError, match="toy_reader needs the input 'sae'; give it with --with sae=REF"):
        request.checked("toy_reader", "minilm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder of an SAE must hold cfg.json"):
        request.checked("toy_reader", "minilm", inputs={SAE: str(tmp_path / "empty")})
    folder = saved(tmp_path / "sae")
    spec = request.checked("toy_reader", "minilm", inputs={SAE: str(folder)})
    assert spec.inputs == {SAE: str(folder)} and list(spec.models) == ["model"]
    assert request.checked("toy_reader", "minilm", inputs={SAE: "gpt2-small-res-jb:blocks.8.hook_resid_pre"}).inputs[SAE].startswith("gpt2")


def test_paths_are_told_from_runs_and_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "sae")
    assert all(map(is_path, ("sae", "./x", "/x", "~/x", "saes/x")))
    assert not any(map(is_path, ("", "0123abcd", "0123abcd-1", "gpt2-small-res-jb:blocks.8.hook_resid_pre", "owner/name:folder")))
    check_sae("0123abcd")
    check_sae("sae")


def test_a_page_asks_about_an_sae_without_torch(tmp_path: Path):
    import subprocess
    import sys

    folder = str(saved(tmp_path / "sae"))
    code = f"import sys; from analysis.given_sae import check_sae; check_sae({folder!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_takes_an_sae(registered: None, tmp_path: Path, tiny_llama: Any, capsys: pytest.CaptureFixture[str]):
    from analysis.__main__ import main

    arguments = ["run", "toy_reader", "--model", str(tiny_llama), "--store", str(tmp_path / "results"), "--now"]
    assert main([*arguments, "--with", f"sae={saved(tmp_path / 'sae')}"]) == 0
    path = capsys.readouterr().out.strip().splitlines()[-1]
    assert Store(tmp_path / "results").read(path, "sizes")["n"].tolist() == [12]
    assert main([*arguments, "--with", "sae=0123abcd"]) == 2
    assert "must be the id of a run of sae_train" in capsys.readouterr().err
