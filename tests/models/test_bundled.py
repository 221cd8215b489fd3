"""The two models that come with the installation, really loaded."""

from __future__ import annotations

import time

import pytest
import torch

from analysis.models import cache_folder, open_subject

pytestmark = pytest.mark.models


def test_smollm2_says_that_it_is_dequantised(smollm2):
    assert smollm2.label == "SmolLM2-135M-Instruct (dequantised Q4_1)"
    assert any(note.startswith("linear weights are dequantised 4-bit (Q4_1) values") for note in smollm2.facts["notes"])
    assert any("8-bit (Q8_0)" in note for note in smollm2.facts["notes"])  # the embedding
    assert smollm2.facts["n_parameters"] == 134_515_008
    assert (smollm2.task, smollm2.dtype, smollm2.facts["context_length"]) == ("causal-lm", "float32", 8192)


def test_smollm2_weights_have_few_distinct_magnitudes(smollm2):
    info = next(i for i in smollm2.tensors() if i.name == "model.layers.3.mlp.down_proj.weight")
    assert info.read().abs().unique().numel() < 0.1 * info.numel


def test_smollm2_ties_its_embedding_once(smollm2):
    assert [(i.name, i.tied) for i in smollm2.tensors() if i.tied] == [("model.embed_tokens.weight", ("lm_head.weight",))]
    assert len(list(smollm2.tensors())) == 272


def test_the_converted_folder_is_found_again_and_plain(smollm2):
    began = time.monotonic()
    again = open_subject("smollm2")
    assert time.monotonic() - began < 10
    assert again.fingerprints["weights"] == smollm2.fingerprints["weights"]
    assert not list(cache_folder().glob("gguf-*.tmp"))
    assert getattr(smollm2.model, "hf_quantizer", None) is None


@torch.no_grad()
def test_smollm2_predicts_python_docs_with_a_perplexity_between_11_and_22(smollm2):
    losses = []
    for batch, _ in smollm2.data.batches(4):
        logits = smollm2.model(**batch).logits[:, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["input_ids"][:, 1:].flatten(), reduction="none"))
    assert 11 < torch.cat(losses).mean().exp().item() < 22


@torch.no_grad()
def test_smollm2_has_thirty_canonical_names_and_the_same_outputs_after_asking(smollm2):
    batch, _ = next(smollm2.data.batches(2))
    before = smollm2.model(**batch).logits
    expected = {f"model.layers.{i}.mlp.down_proj": f"blocks.{i}.mlp.hook_post" for i in range(30)}
    assert smollm2.hook_names() == expected
    assert smollm2.hook_reason is None
    assert torch.equal(smollm2.model(**batch).logits, before)


@torch.no_grad()
def test_minilm_has_six_canonical_names_and_the_same_outputs_after_asking(minilm):
    batch, _ = next(minilm.data.batches(4))
    before = minilm.model(**batch).last_hidden_state
    assert minilm.hook_names() == {f"encoder.layer.{i}.output.dense": f"blocks.{i}.mlp.hook_post" for i in range(6)}
    assert torch.equal(minilm.model(**batch).last_hidden_state, before)


def test_minilm_is_an_encoder_without_a_head_whose_position_indices_are_no_weights(minilm):
    assert type(minilm.model).__name__ == "BertModel" and minilm.task == "encoder"
    assert "embeddings.position_ids" not in {i.name for i in minilm.tensors()}
    assert minilm.facts["n_parameters"] == sum(p.numel() for p in minilm.model.parameters())


def test_minilm_windows_begin_and_end_with_special_tokens(minilm):
    data = minilm.data
    assert {data.token_strings[i] for i in data.token_ids[:, 0]} == {"[CLS]"}
    assert {data.token_strings[i] for i in data.token_ids[:, -1]} == {"[SEP]"}
    assert data.special[:, [0, -1]].all()
    assert len(data.documents) == data.n_windows == 32


def test_opening_says_nothing_on_stdout(capfd):
    _ = open_subject("minilm", "python-docs", n_tokens=64, window=32).model
    assert capfd.readouterr() == ("", "")
