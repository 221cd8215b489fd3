"""Where a model lies, in which number format, and what happens when it does not fit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from analysis.interventions.pruning import WeightPruning
from analysis.jobs.request import JobSpec, checked
from analysis.models import TextWindows, open_subject, placement, subject_from
from analysis.models.loading import load_model
from analysis.models.placement import AUTO, check_device, check_dtype, offloaded, weight_values
from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run, run_key
from analysis.spec import UserError
from analysis.tasks import choose_task
from store import Store
from tests import zoo


@pytest.fixture
def folder(tmp_path):
    """A tiny LLaMA in a folder of safetensors, float32."""
    model = zoo.llama()[0]
    model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def text(n=4, window=16):
    return TextWindows.from_ids(np.random.default_rng(0).integers(0, 60, (n, window)), document=np.arange(n))


@pytest.fixture
def half_on_disk(folder, monkeypatch):
    """The same model, one of its layers offloaded to the disk, as `auto` does it where devices are too small."""
    layers = {name: "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head", "model.layers.0")}
    monkeypatch.setattr(placement, "check_device", lambda device: device)
    monkeypatch.setattr(placement, "inputs_device", lambda device: "cpu")
    told = placement.loading_arguments

    def changed(device, dtype):
        spread = {"device_map": layers | {"model.layers.1": "disk"}} if device == AUTO else {}
        return told(device, dtype) | spread

    monkeypatch.setattr("analysis.models.loading.loading_arguments", changed)
    return open_subject(folder, device=AUTO)


def test_auto_means_the_processor_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert check_device(AUTO) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device(AUTO) == AUTO and placement.inputs_device(AUTO) == "cuda:0"
    assert placement.loading_arguments("cuda:1", "bfloat16") == {"dtype": "bfloat16"}, "one device needs no map"


def test_a_device_or_format_that_is_none_is_a_sentence():
    with pytest.raises(UserError, match="must be one torch knows"):
        check_device("gpu")
    with pytest.raises(UserError, match="must be one of float32, bfloat16, float16"):
        check_dtype("int4")


def test_an_offloaded_layer_is_a_stand_in_whose_values_are_read_all_the_same(folder, half_on_disk):
    dense = open_subject(folder).model
    stand_ins = offloaded(half_on_disk.model)
    assert stand_ins and all(".layers.1." in name for name in stand_ins)
    for name, parameter in dense.named_parameters():
        assert torch.equal(weight_values(half_on_disk.model, name), parameter), name
    assert set(offloaded(half_on_disk.model)) == set(stand_ins), "reading leaves it where it was"
    ids = text().token_ids
    ours, theirs = (model(torch.from_numpy(ids)).logits for model in (dense, half_on_disk.model))
    assert torch.equal(ours, theirs)


def test_weights_are_read_from_the_files_where_the_model_has_stand_ins(folder, half_on_disk):
    assert offloaded(half_on_disk.model)
    for info, dense in zip(half_on_disk.tensors(), open_subject(folder).tensors(), strict=True):
        assert not info.read().is_meta and torch.equal(info.read(), dense.read())


def test_neurons_of_an_offloaded_layer_have_the_numbers_of_the_whole_model(folder, half_on_disk, tmp_path):
    found = []
    for subject in (open_subject(folder), half_on_disk):
        subject.data, subject.fingerprints["data"] = text(), "text"
        store = Store(tmp_path / f"store-{len(found)}")
        found.append(store.read(run(NEURON_ACTIVITY, {"model": subject}, NeuronActivityConfig(), store), "neurons"))
    assert found[0].equals(found[1]) and found[0]["out_norm"].notna().all()


def test_weights_that_are_offloaded_are_not_pruned_but_refused(half_on_disk):
    with pytest.raises(UserError, match="must have its weights in the memory of its devices"), WeightPruning().on(half_on_disk):
        pass


def test_where_loading_fails_nothing_stays_of_the_folder_for_what_does_not_fit(folder, tmp_path, monkeypatch):
    weights = Path(folder) / "model.safetensors"
    kept = load_file(weights)
    save_file({name: value for name, value in kept.items() if "down_proj" not in name}, weights, {"format": "pt"})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(UserError, match="must hold every weight"):
        load_model(Path(folder), AutoConfig.from_pretrained(folder), AUTO)
    weights.write_bytes(b"nothing")
    with pytest.raises(UserError, match="must fit their config"):
        load_model(Path(folder), AutoConfig.from_pretrained(folder), AUTO)
    assert not list(temporary.iterdir())


def test_another_number_format_is_another_model(folder):
    plain, half = open_subject(folder), open_subject(folder, dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16} and half.dtype == "bfloat16"
    keys = {run_key(NEURON_ACTIVITY, NeuronActivityConfig(), {"model": one}) for one in (plain, half)}
    assert len(keys) == 2


def test_a_format_is_for_folders_of_safetensors_only(tmp_path):
    save_file({"w": torch.ones(2, 2)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="leave --dtype out"):
        open_subject(str(tmp_path / "bare.safetensors"), dtype="float16")


def test_a_job_keeps_its_format_and_a_question_about_weights_takes_none(folder):
    spec = checked("task_loss", folder, dtype="bfloat16")
    assert JobSpec.from_json(spec.as_json()).dtype == "bfloat16"
    with pytest.raises(UserError, match="reads the files as they are, got --dtype bfloat16"):
        checked("weight_sparsity", folder, dtype="bfloat16")


class Greedy(torch.nn.Module):
    """Runs out of memory above so many examples."""

    def __init__(self, model, most):
        super().__init__()
        self.inner, self.most, self.sizes = model, most, []
        self.config = model.config

    def forward(self, input_ids, **named):
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.inner(input_ids, **named)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_what_does_not_fit_is_done_with_half_the_examples_and_gives_the_same_losses(most):
    model = zoo.llama()[0].eval()
    whole = choose_task(subject_from(model, data=text(8)), split="all").losses(model, 8)
    greedy = Greedy(model, most)
    task = choose_task(subject_from(model, data=text(8)), split="all")
    halved = task.losses(greedy, 8)
    np.testing.assert_allclose(halved.total, whole.total, rtol=1e-5)
    assert np.array_equal(halved.example, whole.example) and max(greedy.sizes[-4:]) <= most


def test_one_example_that_does_not_fit_ends_in_a_sentence():
    model = zoo.llama()[0].eval()
    task = choose_task(subject_from(model, data=text(4)), split="all")
    with pytest.raises(UserError, match="one example at a time must fit into the memory of the device, got CUDA out of memory"):
        task.losses(Greedy(model, 0), 4)
