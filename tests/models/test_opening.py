from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from analysis.models import TextWindows, open_subject, subject_from
from analysis.spec import UnknownName, UserError


def refusal(*args, **more) -> str:
    with pytest.raises(UserError) as caught:
        open_subject(*args, **more)
    return str(caught.value)


def write_state(folder, change) -> None:
    """Rewrite the folder's weights after ``change(state)``, with an old modification time so that hashes are remembered."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def test_importing_the_package_imports_no_heavy_library():
    code = "import sys, analysis.models; print([m for m in ('torch', 'transformers', 'transformer_lens', 'gguf') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_folder_opens_with_its_facts_without_loading_the_model(tiny_llama):
    s = open_subject(str(tiny_llama))
    assert (s.name, s.task, s.dtype, s.device) == ("tiny", "causal-lm", "float32", "cpu")
    assert s.facts["architecture"] == "LlamaForCausalLM"
    assert s.facts["n_parameters"] == sum(p.numel() for p in s.model.parameters())
    assert (s.facts["context_length"], s.facts["n_layers"], s.facts["activation"]) == (32, 2, "silu")
    assert json.loads(json.dumps(s.facts)) == s.facts
    assert not s.model.training


def test_opening_does_not_load_the_model(tiny_llama, monkeypatch):
    monkeypatch.setattr("analysis.models.loading.load_model", lambda *a: pytest.fail("loaded"))
    list(open_subject(str(tiny_llama)).tensors())[0].read()


def test_data_are_attached_with_a_fingerprint(tiny_llama, tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(f"w{i % 38}" for i in range(100)))
    s = open_subject(str(tiny_llama), str(tmp_path / "a.txt"), n_tokens=40, window=20)
    assert isinstance(s.data, TextWindows) and s.data.token_ids.shape == (2, 20)
    assert set(s.fingerprints) == {"weights", "tokenizer", "data"}
    batch, _ = next(s.data.batches(2))
    assert s.model(**batch).logits.shape == (2, 20, 40)


def test_a_window_beyond_max_position_embeddings_is_refused(tiny_llama):
    assert "at most the 32 positions" in refusal(str(tiny_llama), "python-docs", window=64)


def test_weights_fingerprint_ignores_the_path_and_follows_one_weight(tiny_llama, tmp_path):
    first = open_subject(str(tiny_llama)).fingerprints
    moved = tmp_path / "moved"
    shutil.copytree(tiny_llama, moved)
    assert open_subject(str(moved)).fingerprints == first
    write_state(moved, lambda state: state["model.norm.weight"][3].add_(1e-3))
    changed = open_subject(str(moved)).fingerprints
    assert changed["weights"] != first["weights"] and changed["tokenizer"] == first["tokenizer"]


def test_a_file_changed_in_place_with_the_same_size_gets_another_fingerprint(tiny_llama):
    old = time.time() - 100
    os.utime(tiny_llama / "model.safetensors", (old, old))
    first = open_subject(str(tiny_llama)).fingerprints["weights"]
    size = (tiny_llama / "model.safetensors").stat().st_size
    write_state(tiny_llama, lambda state: state["model.norm.weight"][0].mul_(2))
    assert (tiny_llama / "model.safetensors").stat().st_size == size
    assert open_subject(str(tiny_llama)).fingerprints["weights"] != first


def test_a_settled_file_is_hashed_once(tiny_llama, monkeypatch):
    from analysis.models.fingerprints import file_digest

    path = tiny_llama / "model.safetensors"
    os.utime(path, (1e9, 1e9))
    first = file_digest(path)
    monkeypatch.setattr("hashlib.file_digest", lambda *a: pytest.fail("hashed again"))
    assert file_digest(path) == first


def test_the_activation_function_is_part_of_the_weights_fingerprint(tiny_llama):
    first = open_subject(str(tiny_llama)).fingerprints["weights"]
    config = json.loads((tiny_llama / "config.json").read_text())
    (tiny_llama / "config.json").write_text(json.dumps(config | {"transformers_version": "0"}))
    assert open_subject(str(tiny_llama)).fingerprints["weights"] == first
    (tiny_llama / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert open_subject(str(tiny_llama)).fingerprints["weights"] != first


def test_tokenizer_fingerprint_follows_one_word(tiny_llama):
    first = open_subject(str(tiny_llama)).fingerprints
    path = tiny_llama / "tokenizer.json"
    path.write_text(path.read_text().replace('"w7"', '"x7"'))
    changed = open_subject(str(tiny_llama)).fingerprints
    assert changed["tokenizer"] != first["tokenizer"] and changed["weights"] == first["weights"]


def test_writing_to_the_loaded_model_leaves_the_file_alone(tiny_llama):
    before = (tiny_llama / "model.safetensors").read_bytes()
    model = open_subject(str(tiny_llama)).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.0)
    assert (tiny_llama / "model.safetensors").read_bytes() == before


def test_a_bare_safetensors_file_answers_weight_questions_only(tiny_llama, tmp_path):
    shutil.copy(tiny_llama / "model.safetensors", tmp_path / "bare.safetensors")
    s = open_subject(str(tmp_path / "bare.safetensors"))
    assert s.task is None and s.facts["n_parameters"] > 0
    with pytest.raises(UserError, match="must come with its config.json"):
        _ = s.model
    assert "must come with a tokenizer" in refusal(str(tmp_path / "bare.safetensors"), "python-docs")


def test_subject_from_follows_one_weight_and_the_activation():
    def build(act=torch.nn.ReLU, shift=0.0):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), act(), torch.nn.Linear(8, 2))
        with torch.no_grad():
            model[0].bias[0] += shift
        return subject_from(model).fingerprints["weights"]

    assert build() == build()
    assert len({build(), build(shift=1e-3), build(act=torch.nn.GELU)}) == 3


def test_subject_from_takes_batches_as_they_are():
    batches = [torch.randn(3, 4), torch.randn(2, 4)]
    s = subject_from(torch.nn.Linear(4, 2), data=batches)
    parts = [part for _, part in s.data.batches(99)]
    assert parts == [slice(0, 3), slice(3, 5)] and s.data.n_windows == 5
    assert s.fingerprints["data"] != subject_from(torch.nn.Linear(4, 2), data=[batches[0], batches[1] + 1]).fingerprints["data"]
    assert s.task is None and s.hook_names() == {} and "config" in s.hook_reason


def test_subject_from_takes_token_ids_for_language_models_and_for_plain_modules():
    from transformers import GPT2Config, GPT2LMHeadModel

    ids = torch.arange(12).reshape(2, 6)
    gpt2 = subject_from(GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)), data=ids)
    assert gpt2.task == "causal-lm" and set(next(gpt2.data.batches(2))[0]) == {"input_ids"}
    plain = subject_from(torch.nn.Embedding(20, 4), data=ids)
    assert torch.equal(next(plain.data.batches(2))[0], ids)


def test_batches_without_a_tensor_are_refused():
    with pytest.raises(UserError, match="must hold a tensor"):
        subject_from(torch.nn.Linear(4, 2), data=[["text"]])
    with pytest.raises(UserError, match="at least one batch"):
        subject_from(torch.nn.Linear(4, 2), data=[])


# What cannot be opened ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smollm3", "no/such/folder", "", "./smollm2", "nowhere.gguf", "a/b.gguf"])
def test_an_unknown_model_is_refused_with_the_known_ones(name):
    with pytest.raises(UnknownName, match="smollm2, minilm"):
        open_subject(name)


def test_a_hub_id_without_network_is_refused_in_a_sentence():
    with pytest.raises(UnknownName, match="'nobody/nothing-at-all'.*minilm"):
        open_subject("nobody/nothing-at-all")


def test_a_folder_that_holds_no_model_is_refused(tmp_path, own_cache):
    assert "no config.json" in refusal(str(tmp_path))


def test_a_folder_without_weights_is_refused(tiny_llama):
    (tiny_llama / "model.safetensors").unlink()
    assert "must hold .safetensors files or one .bin file" in refusal(str(tiny_llama))


def test_a_truncated_safetensors_file_is_refused(tiny_llama):
    path = tiny_llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "must be a complete safetensors file" in refusal(str(tiny_llama))


def test_an_index_may_not_lead_out_of_its_folder(tiny_llama):
    shutil.copy(tiny_llama / "model.safetensors", tiny_llama.parent / "other.safetensors")
    (tiny_llama / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    assert "files in its own folder" in refusal(str(tiny_llama))


def test_a_checkpoint_that_lacks_weights_is_refused(tiny_llama):
    write_state(tiny_llama, lambda state: state.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(UserError, match="without 1 of them .*layers.1.mlp.up_proj"):
        _ = open_subject(str(tiny_llama)).model


def test_remote_code_is_refused(tiny_llama):
    (tiny_llama / "config.json").write_text(json.dumps({"model_type": "nobody_knows", "auto_map": {"AutoConfig": "evil.Config"}}))
    (tiny_llama / "evil.py").write_text("raise SystemExit('ran')")
    assert "without remote code" in refusal(str(tiny_llama))


def test_broken_json_is_refused(tiny_llama):
    (tiny_llama / "tokenizer_config.json").write_text("{")
    assert "must be a JSON file" in refusal(str(tiny_llama))


def test_a_model_without_tokenizer_cannot_read_text_but_opens(tiny_llama):
    (tiny_llama / "tokenizer.json").unlink()
    assert open_subject(str(tiny_llama)).tokenizer is None
    assert "must come with a tokenizer" in refusal(str(tiny_llama), "python-docs", window=16)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"NOPE" * 100)
    (tmp_path / "a.bin").write_bytes(b"NOPE" * 100)
    for name in ("a.gguf", "a.bin"):
        assert "must be safetensors, GGUF, a torch state dict" in refusal(str(tmp_path / name))


def test_a_truncated_gguf_file_is_refused_and_leaves_nothing(tmp_path, own_cache):
    (tmp_path / "a.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes([5, 0, 0, 0, 0, 0, 0, 0]) * 2)
    assert "must be a complete GGUF file" in refusal(str(tmp_path / "a.gguf"))
    assert not list(own_cache.glob("gguf-*"))


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("pathlib.Path.open", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "must be readable, got: Permission denied" in refusal(str(tmp_path / "a.gguf"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_refused(tiny_llama):
    assert "must be one this machine has, got 'cuda'" in refusal(str(tiny_llama), device="cuda")


def test_a_device_torch_does_not_know_is_refused(tiny_llama):
    assert "must be one torch knows" in refusal(str(tiny_llama), device="abacus")


def test_a_cache_folder_that_cannot_be_made_is_refused(tiny_llama, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSESCOPE_CACHE", str(tmp_path / "file" / "below"))
    assert "the cache folder must be writable" in refusal(str(tiny_llama))


def test_a_broken_hash_cache_is_refused_with_what_to_do(tiny_llama, own_cache):
    own_cache.mkdir(exist_ok=True)
    (own_cache / "file-hashes.sqlite").write_bytes(b"not a database" * 100)
    assert "delete file-hashes.sqlite" in refusal(str(tiny_llama))
