"""Training an SAE: it finds features that are known to be there, opens in plain sae-lens, and a kill costs nothing but time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.latents import buffering, course
from analysis.latents.buffering import Shuffled, kept_tokens, plan_of
from analysis.latents.judging import nearest_latents, open_saved
from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
from analysis.runner import run
from analysis.spec import UserError, make_config
from store import Store

HERE = Path(__file__).parent
QUICK: dict[str, Any] = {"n_latents": 32, "k": 2, "n_samples": 3200, "batch": 32, "exclude_first": False, "learning_rate": 3e-3}


def superposed():
    spec = importlib.util.spec_from_file_location("superposed", HERE / "superposed.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_subject() -> Any:
    """A model whose features are known, with 40 windows."""
    from analysis.models import subject_from

    toy = superposed()
    return subject_from(toy.Superposed(), name="toy", data=toy.ids(40))


@pytest.fixture
def subject():
    return made_subject()


def config(**settings: Any) -> Any:
    return make_config(SaeTrainConfig, QUICK | settings)


def trained(subject, store, **settings: Any) -> Any:
    return run(SAE_TRAIN, {"model": subject}, config(**settings), store)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Any, Any]:
    """A store and the run of the usual settings in it, for tests that only read."""
    store = Store(tmp_path_factory.mktemp("usual"))
    return store, trained(made_subject(), store)


# ---------------------------------------------------------------------------------------------------------------------


def test_known_features_in_superposition_are_recovered_and_the_run_says_so(tmp_path):
    from analysis.models import subject_from

    toy, store = superposed(), Store(tmp_path)
    subject = subject_from(toy.Superposed(), name="toy", data=toy.ids(1000))
    info = trained(subject, store, n_latents=48, k=3, n_samples=120_000, batch=512, learning_rate=1e-2)
    row = info.summaries["saes"][0]
    assert row["mean_max_cosine"] > 0.9
    assert store.read(info, "sae_features")["cosine"].mean() == pytest.approx(row["mean_max_cosine"])
    assert row["explained_variance"] > 0.8  # held-out tokens with more than three features cannot be explained whole
    assert {one.label for one in SAE_TRAIN.headlines(info.summaries)} == {"Variance explained by an SAE", "Known features found"}


def test_an_untrained_sae_recovers_nothing(subject, tmp_path):
    info = trained(subject, Store(tmp_path), n_samples=32, learning_rate=1e-9)
    assert info.summaries["saes"][0]["mean_max_cosine"] < 0.7


def test_mean_max_cosine_of_the_features_themselves_is_one_and_of_orthogonal_directions_zero():
    import torch

    eye = torch.eye(4)
    cosine, latent = nearest_latents(eye[:3], 7 * eye.flip(0))
    assert cosine.tolist() == [1, 1, 1]
    assert latent.tolist() == [3, 2, 1]
    assert nearest_latents(eye[:1], eye[1:])[0].tolist() == [0]
    assert nearest_latents(eye[:1], torch.tensor([[3.0, 4, 0, 0], [-1.0, 0, 0, 0]]))[0] == pytest.approx([0.6])


# -- what is saved --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["topk", "standard", "gated", "jumprelu", "batchtopk", "matryoshka_batchtopk"])
def test_plain_sae_lens_opens_it_and_reconstructs_what_was_trained(architecture, subject, tmp_path, monkeypatch):
    import torch
    from sae_lens import SAE

    seen = {}
    finish = course.Training.finish

    def watched(training, folder):
        """The training SAE's own answer in the units of the model, before anything is folded."""
        scale, own = training._trainer.activation_scaler.scaling_factor, training.sae.eval()
        with torch.no_grad():
            scaled = rows * scale
            latents = own.encode(scaled)
            if "batchtopk" in architecture:  # saved with the threshold it learned instead of the batch
                pre = own.encode_with_hidden_pre(scaled)[1]
                latents = torch.where(pre > own.topk_threshold, pre, 0.0).float()
            seen["latents"], seen["out"] = latents, own.decode(latents) / scale
        finish(training, folder)

    monkeypatch.setattr(course.Training, "finish", watched)
    rows = subject.model.values[:200]
    store = Store(tmp_path)
    info = trained(subject, store, architecture=architecture, l0_coefficient=0.05, l1_coefficient=0.1)
    sae = SAE.load_from_disk(store.files(info) / "sae")
    latents = sae.encode(rows)
    assert (latents != 0).sum() > 0
    assert torch.equal(latents != 0, seen["latents"] != 0)
    assert torch.allclose(sae(rows), seen["out"], atol=1e-5)
    assert sae.cfg.metadata.hook_name == "head.hook_in"
    assert sae.cfg.metadata.training_architecture == architecture
    assert sae.cfg.normalize_activations == "none"


def test_our_dictionary_opens_it_and_knows_where_it_belongs(subject, usual):
    import torch

    from analysis.latents.dictionary import open_dictionary

    store, info = usual
    folder = store.files(info) / "sae"
    opened, rows = open_dictionary(str(folder)), subject.model.values[:50]
    assert (opened.place_name, opened.d_in, opened.d_sae) == ("head:linear:input", 24, 32)
    assert torch.equal(opened.reconstruct(rows), open_saved(folder, "cpu")(rows))


def test_an_sae_of_all_heads_of_a_layer_reads_heads_side_by_side_in_plain_sae_lens(tmp_path):
    import torch
    from sae_lens import SAE

    from analysis.models import subject_from
    from tests import zoo

    store = Store(tmp_path)
    model, _ = zoo.llama()
    ids = torch.randint(3, 60, (12, 8), generator=torch.Generator().manual_seed(0)).numpy()
    info = trained(subject_from(model, data=ids), store, place="blocks.1.attn.hook_z", n_samples=320)
    assert info.summaries["saes"][0]["kind"] == "attention_z"
    sae = SAE.load_from_disk(store.files(info) / "sae")
    heads = torch.randn(5, 4, 4)
    assert sae(heads).shape == (5, 4, 4)
    assert torch.equal(sae(heads).flatten(1), open_saved(store.files(info) / "sae", "cpu")(heads.flatten(1)))


def test_places_of_an_image_are_tokens_of_a_convolution(tmp_path):
    import torch

    from analysis.latents.places import places
    from analysis.models import subject_from
    from tests import zoo

    model, batch = zoo.resnet()
    made = torch.Generator().manual_seed(0)
    batches = [{name: torch.randn(2, *values.shape[1:], generator=made) for name, values in batch.items()} for _ in range(4)]
    subject = subject_from(model, data=batches)
    place = next(one for one in places(model, batches[0]) if one.kind == "conv")
    info = trained(subject, Store(tmp_path), place=place.name, n_samples=320)
    assert info.provenance["facts"]["reads_text"] is False
    row = info.summaries["saes"][0]
    assert row["width"] == place.width
    assert row["n_documents"] == 4
    assert row["n_tokens"] == row["n_held_out"] > 4  # four images each, many positions


@pytest.mark.parametrize("begins", [True, False])
def test_the_file_says_whether_windows_began_with_a_special_token(tmp_path, subject, begins):
    import json
    from dataclasses import replace

    special = np.zeros(subject.data.token_ids.shape, bool)
    special[:, 0] = begins
    info = trained(replace(subject, data=replace(subject.data, special=special)), store := Store(tmp_path), n_samples=320)
    assert json.loads((store.files(info) / "sae" / "cfg.json").read_text())["metadata"]["prepend_bos"] is begins
    assert info.provenance["facts"]["reads_text"] is True


def test_only_the_sae_is_kept_and_nothing_is_printed(subject, tmp_path, capsys):
    store = Store(tmp_path)
    info = trained(subject, store)
    assert sorted(one["name"] for one in info.provenance["files"]) == ["sae/cfg.json", "sae/sae_weights.safetensors"]
    assert capsys.readouterr().out == ""


# -- what it says of itself -----------------------------------------------------------------------------------------------


def test_it_is_judged_by_documents_it_was_not_trained_on(subject, usual):
    import json

    store, info = usual
    documents = store.read(info, "sae_documents")
    assert documents["role"].value_counts().to_dict() == {"training": 20, "held out": 20}
    cfg = json.loads((store.files(info) / "sae" / "cfg.json").read_text())
    assert cfg["metadata"]["documents"] == sorted(documents[documents["role"] == "training"]["name"])
    assert cfg["metadata"]["data"] == subject.data.name
    row = info.summaries["saes"][0]
    assert (row["n_tokens"], row["n_held_out"], row["n_documents"]) == (20 * 20, 20 * 20, 20)
    assert info.provenance["facts"]["times_used"] == 8.0
    assert "held-out documents" in info.provenance["facts"]["worth"]


def test_the_held_out_numbers_are_those_of_the_saved_sae(subject, usual):
    import torch

    store, info = usual
    documents = store.read(info, "sae_documents")
    held = np.isin(subject.data.document, documents[documents["role"] == "held out"]["document"])
    rows = subject.model.values[torch.from_numpy(subject.data.token_ids[held]).flatten()]
    sae = open_saved(store.files(info) / "sae", "cpu").requires_grad_(False)
    error, spread = (rows - sae(rows)).double().square().sum(), (rows - rows.mean(0)).double().square().sum()
    row, latents, kept = info.summaries["saes"][0], sae.encode(rows), store.read(info, "sae_steps")["explained_variance"]
    assert row["explained_variance_training"] == pytest.approx(kept.tail(20).median())  # 100 steps are one unit, and all were kept
    assert row["explained_variance"] == pytest.approx(1 - float(error / spread), abs=1e-6)
    assert row["l0"] == pytest.approx(float((latents != 0).sum(1).double().mean()))
    assert row["dead_share"] == pytest.approx(float((latents != 0).any(0).logical_not().double().mean()))


def test_terms_of_the_loss_add_up_and_the_rate_rises_and_falls(subject, tmp_path):
    store = Store(tmp_path)
    info = trained(subject, store, architecture="standard")
    steps = store.read(info, "sae_steps").set_index("step")
    assert list(steps.index) == list(range(1, 101))
    sums = store.read(info, "sae_losses").groupby("step")["value"].sum()
    assert np.allclose(sums, steps["loss"], rtol=1e-5)
    rates = steps["learning_rate"]
    assert rates[1] < rates[6] == pytest.approx(3e-3)
    assert rates[80] == pytest.approx(3e-3)
    assert rates[100] < 3e-4
    assert steps["loss"].iloc[-10:].mean() < steps["loss"].iloc[:10].mean()


@pytest.mark.parametrize("figure", SAE_TRAIN.figures, ids=lambda figure: figure.slug)
def test_its_figures_draw_from_stored_rows(figure, usual):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store, info = usual
    spec = figure.draw(store.read(info, figure.table), store.provenance(info))
    assert to_plotly(spec).data
    assert to_matplotlib(spec).axes


# -- tokens and their order -----------------------------------------------------------------------------------------------


def test_position_zero_and_special_tokens_are_left_out(tmp_path):
    from analysis.models import subject_from
    from analysis.models.text import TextWindows

    toy, store = superposed(), Store(tmp_path)
    ids = toy.ids(40).numpy()
    special = np.zeros(ids.shape, bool)
    special[:, 5] = True
    special[0, 0] = True
    subject = subject_from(toy.Superposed(), name="toy", data=TextWindows.from_ids(ids, special=special, inputs=()))
    assert kept_tokens(subject.data, config(exclude_first=True)).sum() == 40 * 18
    assert kept_tokens(subject.data, config()).sum() == 40 * 19 - 1
    assert special[0, 0]  # the data's own mask is as it was
    row = trained(subject, store, exclude_first=True).summaries["saes"][0]
    assert (row["n_tokens"], row["n_held_out"]) == (20 * 18, 20 * 18)


def test_every_row_is_used_once_before_any_is_used_again_however_they_are_asked_for():
    whole = Shuffled(10, (3, 0)).rows(0, 40)
    for start in range(0, 40, 10):
        assert sorted(whole[start : start + 10]) == list(range(10))
    assert not np.array_equal(whole[:10], whole[10:20])
    pieces = Shuffled(10, (3, 0))
    assert np.array_equal(np.concatenate([pieces.rows(i, min(i + 7, 40)) for i in range(0, 40, 7)]), whole)
    assert np.array_equal(Shuffled(10, (3, 0)).rows(25, 40), whole[25:])
    assert not np.array_equal(Shuffled(10, (3, 1)).rows(0, 10), whole[:10])


def test_fills_hold_no_more_than_the_buffer_and_share_the_steps(subject, monkeypatch):
    monkeypatch.setattr(buffering, "PIECE_TOKENS", 40)
    plan = plan_of(subject.data, config(buffer_tokens=120), 20)
    assert [sum(piece.stop - piece.start for piece in fill) for fill in plan.fills] == [6, 6, 6, 2]
    assert [plan.steps_until(fill, 100) for fill in range(4)] == [30, 60, 90, 100]
    assert set(plan.training.document) & set(plan.held_out.document) == set()


def test_more_active_latents_than_there_are_is_refused_in_a_sentence(subject, tmp_path):
    with pytest.raises(UserError, match="k must be at most the 32 latents, got 33; lower k or raise expansion"):
        trained(subject, Store(tmp_path), k=33)


def test_a_model_that_gives_no_number_is_refused_in_a_sentence(subject, tmp_path):
    subject.model.values[:] = float("inf")
    with pytest.raises(UserError, match="activations must be finite to train an SAE"):
        trained(subject, Store(tmp_path))


# -- kills ----------------------------------------------------------------------------------------------------------------

SEVERAL: dict[str, Any] = {"buffer_tokens": 120}


class Stopped(Exception):
    """Stands for a kill between two batches or steps."""


def weights(store, info) -> bytes:
    return (store.files(info) / "sae" / "sae_weights.safetensors").read_bytes()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "standard"])
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(architecture, subject, tmp_path, monkeypatch):
    monkeypatch.setattr(buffering, "PIECE_TOKENS", 40)
    monkeypatch.setattr(course, "UNIT_SAMPLES", 320)
    settings = SEVERAL | {"architecture": architecture}
    store, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    whole = trained(subject, store, **settings)
    calls = [0]

    def stops(_) -> None:
        calls[0] += 1
        if calls[0] % 37 == 0:
            raise Stopped

    info = None
    while info is None:
        try:
            info = run(SAE_TRAIN, {"model": subject}, config(**settings), other, progress=stops)
        except Stopped:
            continue
    assert calls[0] > 3 * 37
    assert weights(other, info) == weights(store, whole)
    for table in ("sae_steps", "sae_losses", "saes", "sae_documents"):
        assert other.read(info, table).equals(store.read(whole, table)), table


CHILD = """
import os, signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from superposed import Superposed, ids
from analysis.latents import buffering, course
from analysis.latents.sae_train import SAE_TRAIN, SaeTrainConfig
from analysis.models import subject_from
from analysis.runner import run
from store import Store
import sae_lens
buffering.PIECE_TOKENS, course.UNIT_SAMPLES = 40, 320
for moment in {moments!r}:
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, moment
        continue
    left = [moment]
    def step(_):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    subject = subject_from(Superposed(), name="toy", data=ids(40))
    run(SAE_TRAIN, {{"model": subject}}, SaeTrainConfig(**{settings!r}), Store(sys.argv[1] + "/" + str(moment)), progress=step)
    os._exit(0)
"""
MOMENTS = (9, 61, 150)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with the store of a killed process for each moment; what costs most is to import, so all are forks of one that did."""
    folder = tmp_path_factory.mktemp("killed")
    program = CHILD.format(root=str(HERE.parents[1]), here=str(HERE), settings=QUICK | SEVERAL, moments=MOMENTS)
    child = subprocess.run([sys.executable, "-c", program, str(folder)], check=False, capture_output=True)
    assert child.returncode == 0, child.stderr.decode()
    return folder


def reading(subject, store) -> tuple[Any, int]:
    """The run, finished here, and how often it read activations."""
    read = []
    seen = course.read_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffering, "PIECE_TOKENS", 40)
        patch.setattr(course, "UNIT_SAMPLES", 320)
        patch.setattr(course, "read_rows", lambda *args: read.append(args[3]) or seen(*args))
        return trained(subject, store, **SEVERAL), len(read)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Any, Any, int]:
    """The same run in one go, with its store."""
    store = Store(tmp_path_factory.mktemp("whole"))
    return store, *reading(made_subject(), store)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_bits_and_reads_nothing_twice(moment, subject, killed, undisturbed):
    store = Store(killed / str(moment))
    whole, other, n_whole = undisturbed
    info, n_read = reading(subject, store)
    assert n_read < n_whole
    assert weights(store, info) == weights(whole, other)
    assert store.read(info, "sae_steps").equals(whole.read(other, "sae_steps"))
