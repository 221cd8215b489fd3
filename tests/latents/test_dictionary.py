"""A dictionary is what sae-lens makes of its files, in the units of the activations; odd files end in one sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.latents.dictionary import open_dictionary
from analysis.spec import UserError
from tests.latents.saes import SHAPES, D, F, made, perfect, saved

X = torch.randn(9, D, generator=torch.Generator().manual_seed(1)) * 3 + 1


def plain(folder: Path) -> Any:
    from sae_lens import SAE

    return SAE.load_from_disk(folder)


def edited(folder: Path, **changes: Any) -> Path:
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | changes))
    return folder


@pytest.mark.parametrize("architecture", SHAPES)
def test_latents_and_reconstruction_are_those_of_sae_lens(architecture: str, tmp_path: Path):
    folder = saved(tmp_path / "sae", architecture)
    dictionary, theirs = open_dictionary(folder), plain(folder)
    assert torch.equal(dictionary.encode(X), theirs.encode(X))
    assert torch.equal(dictionary.reconstruct(X), theirs(X))
    f, x_hat = dictionary.both(X)
    assert torch.equal(f, theirs.encode(X)) and torch.equal(x_hat, theirs(X))
    assert (dictionary.architecture, dictionary.d_in, dictionary.d_sae, dictionary.d_out) == (architecture, D, F, theirs.W_dec.shape[1])
    assert dictionary.transcoder == ("transcoder" in architecture)


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_properties_make_the_latents_by_the_formula(architecture: str, tmp_path: Path):
    dictionary = open_dictionary(saved(tmp_path / "sae", architecture))
    shift = 0 if dictionary.transcoder else dictionary.b_dec
    pre = (X - shift) @ dictionary.W_enc + dictionary.b_enc
    f = dictionary.encode(X)
    if architecture == "gated":
        assert torch.equal(f > 0, (pre > 0) & (f > 0)) and bool((f > 0).any())
    else:
        active = f > 0
        torch.testing.assert_close(f[active], pre[active])
        assert bool(active.any()) and not bool(active.all())
    torch.testing.assert_close(dictionary.decode(f), f @ dictionary.W_dec + dictionary.b_dec)


@pytest.mark.parametrize("trainer", ["batchtopk", "matryoshka_batchtopk"])
def test_what_is_trained_with_a_batch_opens_as_jumprelu(trainer: str, tmp_path: Path):
    from sae_lens.registry import get_sae_training_class

    kind, config = get_sae_training_class(trainer)
    more: dict[str, Any] = {"matryoshka_widths": [4, F]} if trainer.startswith("matryoshka") else {}
    more |= {"k": 3}
    sae = kind(config(d_in=D, d_sae=F, **more))
    sae.topk_threshold = torch.tensor(0.4)
    sae.save_inference_model(tmp_path / "sae")
    dictionary = open_dictionary(tmp_path / "sae")
    assert dictionary.architecture == "jumprelu"
    f = dictionary.encode(20 * X)
    assert torch.equal(f, plain(tmp_path / "sae").encode(20 * X))
    per_row = (f > 0).sum(1)
    assert per_row.min() < per_row.max()  # a threshold, not k of each row


@pytest.mark.parametrize("normalisation", ["none", "constant_norm_rescale", "layer_norm"])
def test_the_normalisation_of_inputs_is_undone(normalisation: str, tmp_path: Path):
    perfect(D, normalize_activations=normalisation).save_model(tmp_path / "sae")
    dictionary = open_dictionary(tmp_path / "sae")
    torch.testing.assert_close(dictionary.reconstruct(X), X, rtol=1e-4, atol=1e-4)
    f = dictionary.encode(X)
    torch.testing.assert_close(dictionary.decode(f), X, rtol=1e-4, atol=1e-4)
    if normalisation == "constant_norm_rescale":  # every row has the norm sqrt(d) inside, and by itself f does not tell the one outside
        torch.testing.assert_close(dictionary.decode(f).norm(dim=1), torch.full((9,), D**0.5))
    assert dictionary.scales_each_row == (normalisation != "none")
    torch.testing.assert_close(dictionary.reconstruct(X[:2]), X[:2], rtol=1e-4, atol=1e-4)


def test_a_scale_that_stands_beside_the_weights_is_folded_in(tmp_path: Path):
    sae = made("standard", normalize_activations="expected_average_only_in")
    sae.save_model(tmp_path / "sae")
    without = open_dictionary(tmp_path / "sae")
    assert without.normalisation == "expected_average_only_in" and "unscaled" in without.notes[0]
    (tmp_path / "sae" / "activation_scaler.json").write_text('{"scaling_factor": 0.25, "has_whitening": false}')
    folded = open_dictionary(tmp_path / "sae")
    torch.testing.assert_close(folded.encode(X), sae.encode(X * 0.25))
    torch.testing.assert_close(folded.reconstruct(X), sae(X * 0.25) / 0.25)
    assert folded.normalisation == "none" and "0.25" in folded.notes[0]
    assert folded.fingerprints != without.fingerprints


def test_a_z_dictionary_reads_all_heads_side_by_side(tmp_path: Path):
    folder = saved(tmp_path / "sae", reshape_activations="hook_z", metadata={"hook_name": "blocks.0.attn.hook_z"})
    dictionary = open_dictionary(folder)
    torch.testing.assert_close(dictionary.reconstruct(X), plain(folder)(X.reshape(9, 2, D // 2)).reshape(9, D))


def test_its_file_says_where_it_belongs(tmp_path: Path):
    metadata: dict[str, Any] = {"hook_name": "blocks.3.hook_mlp_out", "model_name": "gpt2", "context_size": 128}
    metadata |= {"exclude_special_tokens": True, "place": "h.3.mlp:output"}
    dictionary = open_dictionary(saved(tmp_path / "my-sae", metadata=metadata))
    assert (dictionary.hook_name, dictionary.model_name, dictionary.context_size) == ("blocks.3.hook_mlp_out", "gpt2", 128)
    assert dictionary.exclude_special and dictionary.place_name == "h.3.mlp:output" and dictionary.label == "my-sae"
    assert open_dictionary(saved(tmp_path / "bare")).hook_name is None


def test_a_cfg_of_before_version_6_is_understood(tmp_path: Path):
    folder = saved(tmp_path / "sae")
    cfg = {"d_in": D, "d_sae": F, "dtype": "torch.float32", "device": "cuda", "hook_point": "blocks.1.hook_resid_pre", "model_name": "gpt2"}
    (folder / "cfg.json").write_text(json.dumps(cfg | {"activation_fn_str": "relu", "context_size": 128, "normalize_activations": False}))
    dictionary = open_dictionary(folder)
    assert (dictionary.hook_name, dictionary.architecture, dictionary.normalisation) == ("blocks.1.hook_resid_pre", "standard", "none")
    assert torch.equal(dictionary.encode(X), made("standard").encode(X))


def test_weights_may_have_another_name_and_halves_of_bits(tmp_path: Path):
    folder = saved(tmp_path / "sae")
    half = {name: value.bfloat16() for name, value in load_file(folder / "sae_weights.safetensors").items()}
    (folder / "sae_weights.safetensors").unlink()
    save_file(half, folder / "other.safetensors")
    for ref in (folder, folder / "other.safetensors"):
        dictionary = open_dictionary(ref)
        assert dictionary.W_enc.dtype == torch.float32
        torch.testing.assert_close(dictionary.encode(X), made("standard").encode(X), rtol=0.1, atol=0.1)


def test_another_weight_or_setting_is_another_dictionary(tmp_path: Path):
    one, same, other = saved(tmp_path / "one"), saved(tmp_path / "same"), edited(saved(tmp_path / "other"), dtype="float64")
    weights = load_file(one / "sae_weights.safetensors")
    changed = saved(tmp_path / "changed")
    save_file({name: value + (name == "b_dec") for name, value in weights.items()}, changed / "sae_weights.safetensors")
    prints = [open_dictionary(folder).fingerprints["sae"] for folder in (one, same, other, changed)]
    assert prints[0] == prints[1] and len(set(prints)) == 3 and len(prints[0]) == 64


# ---------------------------------------------------------------------------------------------------------------------


def _pickled(folder: Path) -> None:
    (folder / "sae_weights.safetensors").write_bytes(pickle.dumps({"W_enc": 1}))


def _two_files(folder: Path) -> None:
    (folder / "sae_weights.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "sae_weights.safetensors")
    weights["W_dec"][0, 0] = float("nan")
    save_file(weights, folder / "sae_weights.safetensors")


def _extra(folder: Path) -> None:
    weights = load_file(folder / "sae_weights.safetensors")
    save_file(weights | {"surplus": torch.ones(2)}, folder / "sae_weights.safetensors")


def _lacking(folder: Path) -> None:
    weights = load_file(folder / "sae_weights.safetensors")
    save_file({name: value for name, value in weights.items() if name != "b_enc"}, folder / "sae_weights.safetensors")


HOSTILE: dict[str, tuple[Any, str]] = {
    "a pickle": (_pickled, "must be a complete safetensors file"),
    "two files": (_two_files, "one safetensors file, got .* with 2 of them"),
    "NaN": (_not_finite, "must hold finite numbers, got NaN or infinite ones in 'W_dec'"),
    "a tensor too many": (_extra, "cannot be put together .*Unexpected key"),
    "a tensor too few": (_lacking, r"must hold b_enc of 12 .* got none"),
    "no cfg": (lambda f: (f / "cfg.json").unlink(), "cfg.json"),
    "no object": (lambda f: (f / "cfg.json").write_text("[1]"), "must be a JSON object"),
    "no JSON": (lambda f: (f / "cfg.json").write_text("{"), "must be JSON"),
    "deep JSON": (lambda f: (f / "cfg.json").write_text("[" * 200_000), "must be JSON"),
    "long JSON": (lambda f: (f / "cfg.json").write_text(" " * 5_000_000), "must be at most 4"),
    "another width": (lambda f: edited(f, d_in=7), "must hold W_enc of 7 x 12 .* got 6 x 12"),
    "no width": (lambda f: edited(f, d_in=-1), "must give d_in as a whole number above 0, got -1"),
    "a huge width": (lambda f: edited(f, d_sae=10**12), "must give d_sae as a whole number"),
    "a width in words": (lambda f: edited(f, d_sae="12"), "must give d_sae as a whole number"),
    "an unknown architecture": (lambda f: edited(f, architecture="temporal"), "must name an architecture of standard, .* got 'temporal'"),
    "no architecture": (lambda f: edited(f, architecture={"a": 1}), "must name an architecture"),
    "an unknown normalisation": (lambda f: edited(f, normalize_activations="covariance_whitening"), "must normalise activations by one of"),
    "a hook of numbers": (lambda f: edited(f, metadata={"hook_name": 3, "sae_lens_version": "6.0.0"}), "must give hook_name as text"),
    "metadata of numbers": (lambda f: edited(f, metadata=3), "must have metadata"),
    "an odd version": (lambda f: edited(f, metadata={"sae_lens_version": "new"}), "some it cannot read"),
    "names of Python": (lambda f: edited(f, metadata={"sae_lens_version": "6.0.0", "__class__": 1}), "cannot be put together"),
    "an odd context": (lambda f: edited(f, metadata={"sae_lens_version": "6.0.0", "context_size": 0}), "must give context_size"),
    "a wrong switch": (lambda f: edited(f, apply_b_dec_to_input="yes"), "must give apply_b_dec_to_input as true or false"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_odd_files_end_in_one_sentence(what: str, tmp_path: Path):
    change, words = HOSTILE[what]
    folder = saved(tmp_path / "sae")
    change(folder)
    with pytest.raises(UserError, match=words) as caught:
        open_dictionary(folder)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_torch_file_is_never_opened(tmp_path: Path):
    folder = saved(tmp_path / "sae")
    torch.save({"W_enc": torch.ones(2)}, folder / "sae.pt")
    with pytest.raises(UserError, match="must be a safetensors file"):
        open_dictionary(folder / "sae.pt")


@pytest.mark.parametrize(
    ("ref", "words"), [("no-such-folder", "must be a folder"), ("no-such-release:layer_1", "not found in pretrained SAEs")]
)
def test_what_is_not_there_is_refused(ref: str, words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=words):
        open_dictionary(ref)


def test_a_release_that_cannot_be_fetched_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match="must be one that sae-lens can fetch or has fetched, got 'gpt2-small-res-jb:blocks.8.hook_resid_pre'"
    ):
        open_dictionary("gpt2-small-res-jb:blocks.8.hook_resid_pre")
