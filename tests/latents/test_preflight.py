"""A wrong model, hook point or width is refused with the sentence that says which; a wrong layer shows in what is explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analysis.latents.dictionary import Dictionary, open_dictionary
from analysis.latents.places import place_named, places, reading
from analysis.latents.preflight import check_model, family_of, preflight
from analysis.models import subject_from
from analysis.models.text import TextWindows
from analysis.spec import UserError
from tests import zoo
from tests.latents.saes import perfect, saved

HOOK = "blocks.1.hook_resid_post"
IDS = torch.randint(3, 60, (16, 12), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def subject() -> Any:
    return subject_from(zoo.llama()[0], name="tiny-llama", data=TextWindows.from_ids(IDS.numpy(), name="some ids"))


def dictionary(folder: Path, sae: Any, **metadata: Any) -> Dictionary:
    from sae_lens.saes.sae import SAEMetadata

    sae.cfg.metadata = SAEMetadata(**{"hook_name": HOOK, "model_name": "tiny-llama", **metadata})
    sae.save_model(folder)
    return open_dictionary(folder)


def directions(subject: Any, hook: str, n: int) -> Any:
    """An SAE that keeps the ``n`` directions of largest variance at a place, and nothing else."""
    place = place_named(places(subject.model, {"input_ids": IDS}), hook)
    taken: list[torch.Tensor] = []
    with reading(subject.model, [place], lambda at, values, rows: taken.append(values.clone())) as session:
        session.run({"input_ids": IDS})
    x = taken[0][torch.arange(len(taken[0])) % IDS.shape[1] > 0]
    basis = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:n]
    sae = perfect(16)
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.W_dec.zero_()
        sae.W_enc[:, : 2 * n] = torch.cat([basis, -basis]).T
        sae.W_dec[: 2 * n] = torch.cat([basis, -basis])
        sae.b_dec.copy_(x.mean(0))
    return sae


def test_a_perfect_dictionary_explains_everything(subject: Any, tmp_path: Path):
    found = preflight(dictionary(tmp_path / "sae", perfect(16)), subject)
    assert found.place.hook_name == HOOK and found.out is None
    assert found.explained_variance == pytest.approx(1.0, abs=1e-6)
    model, hook, width, normalisation, reconstructs = found.findings
    assert model == "It is of tiny-llama, and so is the model, by its name."
    assert hook == "It reads blocks.1.hook_resid_post, the residual stream in layer 1."
    assert width == "It reads 16 values, the width of the place, into 32 latents."
    assert normalisation == "It reads activations as they are."
    assert reconstructs == "It explains 100.0% of the variance on 176 tokens of some ids (first positions and special tokens left out)."


def test_predicting_the_mean_explains_nothing_and_is_warned_of(subject: Any, tmp_path: Path):
    found = preflight(dictionary(tmp_path / "sae", directions(subject, HOOK, 0)), subject)
    assert found.explained_variance == pytest.approx(0.0, abs=1e-5)
    assert "it may be of another model or layer." in found.findings[-1]


def test_a_dictionary_of_another_layer_is_told_by_what_it_explains(subject: Any, tmp_path: Path):
    sae = directions(subject, "blocks.0.hook_mlp_out", 6)
    right = preflight(dictionary(tmp_path / "right", sae, hook_name="blocks.0.hook_mlp_out"), subject)
    assert right.explained_variance is not None and right.explained_variance > 0.5
    wrong = preflight(dictionary(tmp_path / "wrong", sae, hook_name="blocks.1.hook_mlp_out"), subject)
    assert wrong.explained_variance is not None and wrong.explained_variance < 0.5
    assert f"At blocks.0.hook_mlp_out it explains {right.explained_variance:.1%}." in wrong.findings[-1]


def test_an_unscaled_dictionary_and_its_scaling_are_told_apart(subject: Any, tmp_path: Path):
    sae = perfect(16, normalize_activations="layer_norm")
    found = preflight(dictionary(tmp_path / "sae", sae), subject)
    assert found.explained_variance == pytest.approx(1.0, abs=1e-3)
    assert found.findings[3] == "Each row is centred and scaled before it is read, and brought back afterwards."
    unscaled = dictionary(tmp_path / "unscaled", perfect(16, normalize_activations="expected_average_only_in"))
    assert "by a factor that its files do not hold" in preflight(unscaled, subject).findings[3]


def test_a_wrong_model_is_refused_by_name(subject: Any, tmp_path: Path):
    with pytest.raises(UserError, match=r"must be of the model it is used on, got sae, which is of gpt2-small, for tiny-llama \(llama\)"):
        preflight(dictionary(tmp_path / "sae", perfect(16), model_name="gpt2-small"), subject)


def test_a_hook_point_that_is_not_there_is_refused_with_near_ones(subject: Any, tmp_path: Path):
    with pytest.raises(
        UserError, match=r"the hook point of the SAE must be a place of tiny-llama, got blocks.9.hook_resid_post \(the nearest"
    ):
        preflight(dictionary(tmp_path / "sae", perfect(16), hook_name="blocks.9.hook_resid_post"), subject)
    nowhere = open_dictionary(saved(tmp_path / "nowhere", d_in=16))
    with pytest.raises(UserError, match="must say at which hook point it was trained"):
        preflight(nowhere, subject)
    assert preflight(nowhere, subject, at=HOOK).place.hook_name == HOOK


def test_a_wrong_width_is_refused_with_both_widths(subject: Any, tmp_path: Path):
    with pytest.raises(UserError, match=r"the width of what the SAE reads must be that of blocks.1.hook_resid_post, 16, got 6 in sae"):
        preflight(dictionary(tmp_path / "sae", perfect(6)), subject)
    with pytest.raises(UserError, match="it reads head 3 alone"):
        preflight(dictionary(tmp_path / "head", perfect(6), hook_name="blocks.1.attn.hook_z", hook_head_index=3), subject)


def test_the_weights_tell_more_than_the_name(subject: Any, tmp_path: Path):
    same = dictionary(tmp_path / "same", perfect(16), model_name="gpt2", model_fingerprint=subject.fingerprints["weights"])
    assert preflight(same, subject).findings[0] == "It was trained on these very weights (tiny-llama)."
    other = dictionary(tmp_path / "other", perfect(16), model_fingerprint="0" * 32)
    assert "with other weights" in preflight(other, subject).findings[0]
    unknown = dictionary(tmp_path / "unknown", perfect(16), model_name="somebody/net-9")
    assert preflight(unknown, subject).findings[0].startswith("It is of somebody/net-9; whether")


def test_a_transcoder_is_tried_on_what_it_predicts(subject: Any, tmp_path: Path):
    metadata = {"hook_name": "blocks.0.ln2.hook_normalized", "hook_name_out": "blocks.0.hook_mlp_out"}
    transcoder = open_dictionary(saved(tmp_path / "sae", "transcoder", d_in=16, d_out=16, metadata=metadata))
    found = preflight(transcoder, subject)
    assert found.out is not None and (found.place.kind, found.out.kind) == ("mlp_in", "mlp_out")
    assert "taken as blocks.0.mlp.hook_in" in found.findings[1]
    assert "of what it predicts" in found.findings[-1] or "worse than the mean" in found.findings[-1]


def test_without_data_nothing_is_claimed_of_reconstruction(tmp_path: Path):
    bare = subject_from(zoo.llama()[0], name="tiny-llama")
    found = preflight(dictionary(tmp_path / "sae", perfect(16)), bare)
    assert found.explained_variance is None and "was not tried" in found.findings[-1]


def test_images_have_rows_instead_of_tokens(tmp_path: Path):
    model, batch = zoo.vit()
    subject = subject_from(model, name="tiny-vit", data=[batch])
    found = preflight(dictionary(tmp_path / "sae", perfect(16), model_name="vit-base"), subject)
    assert found.findings[-1] == "It explains 100.0% of the variance on 10 rows of given batches."


@pytest.mark.parametrize(
    ("name", "begins"),
    [("google/gemma-2-2b", "gemma"), ("EleutherAI/pythia-70m-deduped", "gpt_neox"), ("deepseek-r1-distill-llama-8b", "llama"),
     ("gpt2-small", "gpt2"), ("tiny-stories-1L-21M", "gpt_neo"), ("HuggingFaceTB/SmolLM2-135M", "llama")],
)  # fmt: skip
def test_architectures_are_known_by_the_names_of_models(name: str, begins: str):
    assert family_of(name)[0] == begins
    assert family_of("my-model") == ()


@pytest.mark.parametrize(
    ("trained", "begins", "words"),
    [(True, False, "that begin with a BOS token, and these begin with text"), (False, True, "without a BOS token, and these begin with"),
     (True, True, ""), (False, False, ""), (None, True, "")],
)  # fmt: skip
def test_windows_that_begin_otherwise_than_in_training_are_told(tmp_path: Path, trained: bool | None, begins: bool, words: str):
    special = torch.zeros(IDS.shape, dtype=torch.bool).numpy()
    special[:, 0] = begins
    data = replace(TextWindows.from_ids(IDS.numpy(), name="some ids"), special=special)
    subject = subject_from(zoo.llama()[0], name="tiny-llama", data=data)
    sae = dictionary(tmp_path / "sae", perfect(16), **({} if trained is None else {"prepend_bos": trained}))
    findings = preflight(sae, subject).findings
    assert [one for one in findings if "BOS" in one] == [one for one in findings if words and words in one]
    assert len(findings) == (6 if words else 5)


def named(model_name: str, subject_name: str, model_type: str) -> str:
    """What is said of a dictionary of a model of one name, for a model of another and of some type."""
    sae: Any = SimpleNamespace(model_name=model_name, metadata={}, label="sae")
    model = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    return check_model(sae, SimpleNamespace(model=model, name=subject_name, source="", label=subject_name, fingerprints={}))


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("answerdotai/ModernBERT-base", "modernbert"), ("google/mt5-small", "mt5"), ("tiiuae/falcon-mamba-7b", "falcon_mamba"),
     ("microsoft/deberta-v3-base", "deberta-v2"), ("camembert-base", "camembert"), ("google/paligemma-3b-pt-224", "paligemma"),
     ("vinai/phobert-base", "roberta"), ("somebody/dolphin-7b", "llama")],
)  # fmt: skip
def test_a_model_of_the_same_name_is_never_refused(name: str, model_type: str):
    assert named(name, name, model_type) == f"It is of {name}, and so is the model, by its name."


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("answerdotai/ModernBERT-base", "modernbert"), ("google/mt5-small", "mt5"), ("tiiuae/falcon-mamba-7b", "falcon_mamba"),
     ("microsoft/deberta-v3-base", "deberta-v2"), ("camembert-base", "camembert"), ("google/paligemma-3b-pt-224", "paligemma"),
     ("xlm-roberta-base", "xlm-roberta"), ("meta-llama/Llama-3.2-11B-Vision", "mllama")],
)  # fmt: skip
def test_a_type_that_holds_the_family_is_not_refused(name: str, model_type: str):
    assert "cannot be told from the names" in named(name, "my-copy", model_type)


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("bert-base-uncased", "roberta"), ("bert-base-uncased", "distilbert"), ("bert-base-uncased", "albert"), ("roberta-base", "bert"),
     ("gpt2", "gpt_neox"), ("google/mt5-small", "llama"), ("state-spaces/mamba-130m", "falcon_h1")],
)  # fmt: skip
def test_a_type_of_another_family_is_refused_though_its_name_holds_the_family(name: str, model_type: str):
    with pytest.raises(UserError, match=f"for my-copy \\({model_type}\\): another architecture"):
        named(name, "my-copy", model_type)
