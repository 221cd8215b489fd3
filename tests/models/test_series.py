"""A folder of checkpoints is one series with steps; nothing is answered for one of them in the name of all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from analysis.jobs import Jobs, knowledge, memory, request
from analysis.models import open_subject, places
from analysis.models.files import look
from analysis.runner import run, run_key
from analysis.spec import IncompatibleSubject, UserError
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig
from store import Store

SERIES = replace(WEIGHT_SPARSITY, slug="series_question", takes="series")
"""A question for a series, whatever it then computes."""


@pytest.fixture
def series(tmp_path, own_cache):
    folder = tmp_path / "training"
    folder.mkdir()
    for step in (30, 200, 1000):
        save_file({"a.weight": torch.full((2, 3), float(step))}, folder / f"model_{step}.safetensors")
    return folder


def test_a_series_opens_with_its_steps_in_order_and_each_opens_as_itself(series):
    subject = open_subject(str(series))
    assert [one.step for one in subject.series] == [30, 200, 1000] == subject.facts["steps"]
    for one in subject.series:
        (tensor,) = one.open().tensors()
        assert tensor.read().unique().item() == one.step
        assert one.fingerprint == open_subject(str(series / one.name)).fingerprints["weights"]


def test_model_folders_are_steps_with_their_configs(tiny_llama, tmp_path):
    folder = tmp_path / "run"
    for step in (1, 2):
        shutil.copytree(tiny_llama, folder / f"checkpoint-{step}")
    subject = open_subject(str(folder))
    assert [one.name for one in subject.series] == ["checkpoint-1", "checkpoint-2"]
    assert subject.series[1].open().task == "causal-lm" and subject.facts["architecture"] == "LlamaForCausalLM"


def test_folders_with_weights_alone_and_torch_files_are_steps(tmp_path, own_cache):
    for step in (1, 2):
        (tmp_path / "bare" / f"step_{step}").mkdir(parents=True)
        save_file({"a": torch.full((2,), float(step))}, tmp_path / "bare" / f"step_{step}" / "model.safetensors")
        (tmp_path / "torch").mkdir(exist_ok=True)
        torch.save({"model": {"a": torch.full((2,), float(step))}}, tmp_path / "torch" / f"ckpt_{step}.pt")
    for kind in ("bare", "torch"):
        values = [next(one.open().tensors()).read().tolist() for one in open_subject(str(tmp_path / kind)).series]
        assert values == [[1.0, 1.0], [2.0, 2.0]], kind


def test_shards_that_an_index_names_are_one_checkpoint_without_a_config_too(series):
    weight_map = {f"part{step}": f"model_{step}.safetensors" for step in (30, 200, 1000)}
    (series / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    save_file({"b.bias": torch.ones(3)}, series / "model_200.safetensors")
    assert not look(series).steps
    subject = open_subject(str(series))
    assert not subject.series and [one.name for one in subject.tensors()] == ["a.weight", "b.bias"]


def test_a_series_has_no_tensors_no_model_and_reads_no_data(series):
    subject = open_subject(str(series), "python-docs")
    assert subject.data is None
    for ask in (subject.tensors, lambda: subject.model):
        with pytest.raises(UserError, match=r"name one of its checkpoints, for example model_1000\.safetensors"):
            ask()


def test_the_fingerprint_follows_every_member_and_its_step(series):
    before = open_subject(str(series)).fingerprints
    assert open_subject(str(series)).fingerprints == before
    (series / "model_200.safetensors").rename(series / "model_300.safetensors")
    moved = open_subject(str(series)).fingerprints
    save_file({"a.weight": torch.zeros(2, 3)}, series / "model_30.safetensors")
    changed = open_subject(str(series)).fingerprints
    assert len({one["weights"] for one in (before, moved, changed)}) == 3
    keys = {run_key(SERIES, WeightSparsityConfig(), {"model": open_subject(str(series))})}
    assert keys == {run_key(SERIES, WeightSparsityConfig(), {"model": open_subject(str(series))})}


def test_a_question_for_one_checkpoint_is_refused_for_a_series_and_the_reverse(series, tmp_path):
    store = Store(tmp_path / "store")
    whole, one = open_subject(str(series)), open_subject(str(series / "model_30.safetensors"))
    with pytest.raises(IncompatibleSubject, match="a series of 3; name one of its checkpoints"):
        run(WEIGHT_SPARSITY, {"model": whole}, WeightSparsityConfig(), store)
    with pytest.raises(IncompatibleSubject, match="which is one checkpoint; name a folder"):
        run(SERIES, {"model": one}, WeightSparsityConfig(), store)
    assert WEIGHT_SPARSITY.why_not(one) is None


def test_a_job_is_refused_before_any_process_starts(series, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.jobs.processes.start", lambda *a: pytest.fail("started"))
    jobs = Jobs(Store(tmp_path / "store"))
    with pytest.raises(IncompatibleSubject, match="name one of its checkpoints"):
        jobs.submit("weight_sparsity", str(series))
    monkeypatch.setattr("analysis.find_analysis", lambda slug: SERIES)
    with pytest.raises(IncompatibleSubject, match="must be asked of a series"):
        request.checked("series_question", str(series / "model_30.safetensors"))
    assert request.checked("series_question", str(series)).model == str(series)


def test_inspecting_a_series_files_its_steps_and_who_can_answer(series, tmp_path):
    store = Store(tmp_path / "store")
    knowledge.inspect(store, str(series), "cpu", lambda *_: None)
    known = store.known.get(str(series))
    assert known.facts["steps"] == [30, 200, 1000] and knowledge.BRIDGE not in known.facts
    assert "name one of its checkpoints" in knowledge.why_not(store, WEIGHT_SPARSITY, str(series))


def test_the_memory_of_a_series_is_that_of_its_largest_checkpoint(series):
    save_file({"a.weight": torch.zeros(50, 3)}, series / "model_2000.safetensors")
    found = memory.sizes_of_files(str(series))
    assert found.largest == 150 and found.weights == (series / "model_2000.safetensors").stat().st_size
    assert memory.sizes_of_subject(open_subject(str(series))) == memory.Sizes(600, 150, 150)


def test_a_broken_member_is_named(series):
    (series / "model_200.safetensors").write_bytes((series / "model_200.safetensors").read_bytes()[:-5])
    with pytest.raises(UserError, match="model_200"):
        places.find(str(series))


def test_a_series_of_series_is_refused(tmp_path, own_cache):
    for step in (1, 2):
        folder = tmp_path / f"run_{step}"
        folder.mkdir()
        for n in (1, 2):
            save_file({"a": torch.ones(n)}, folder / f"ckpt_{n}.safetensors")
    with pytest.raises(UserError, match="got .*run_1, which is a series itself"):
        open_subject(str(tmp_path))
