from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.models import open_subject, subject_from
from analysis.models.tensors import tensors_of_files


def test_tensors_from_files_equal_the_loaded_models_parameters(tiny_llama):
    s = open_subject(str(tiny_llama))
    parameters = dict(s.model.named_parameters())
    infos = list(s.tensors())
    assert [i.name for i in infos] == list(parameters)
    for info in infos:
        assert torch.equal(info.read(), parameters[info.name]), info.name
        assert (info.shape, info.numel) == (tuple(parameters[info.name].shape), parameters[info.name].numel())


def test_files_and_module_tell_the_same_story(tiny_llama):
    s = open_subject(str(tiny_llama))
    assert list(s.tensors()) == list(subject_from(s.model).tensors())


def test_tied_tensors_come_once_with_their_names(tiny_llama):
    s = open_subject(str(tiny_llama))
    tied = [i for i in s.tensors() if i.tied]
    assert [(i.name, i.tied) for i in tied] == [("model.embed_tokens.weight", ("lm_head.weight",))]
    assert s.facts["tied"] == [["model.embed_tokens.weight", "lm_head.weight"]]


def test_two_parameters_on_the_same_memory_are_one_tensor():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert [(i.name, i.tied) for i in subject_from(model).tensors() if i.tied] == [("0.weight", ("1.weight",))]


def test_untied_equal_tensors_stay_two():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].load_state_dict(model[0].state_dict())
    assert [i.tied for i in subject_from(model).tensors()] == [()] * 4


def test_kinds_and_layers_of_a_llama(tiny_llama):
    found = {i.name: (i.kind, i.layer) for i in open_subject(str(tiny_llama)).tensors()}
    assert found["model.embed_tokens.weight"] == ("embedding", None)
    assert found["model.layers.1.self_attn.q_proj.weight"] == ("attention", 1)
    assert found["model.layers.0.mlp.down_proj.weight"] == ("ffn", 0)
    assert found["model.layers.1.input_layernorm.weight"] == ("norm", 1)


def test_buffers_are_no_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert [(i.name, i.kind) for i in subject_from(model).tensors()] == [
        ("0.weight", "conv"),
        ("0.bias", "bias"),
        ("1.weight", "norm"),
        ("1.bias", "norm"),
    ]


def test_integers_in_a_file_are_no_weights_and_blocks_come_in_order(tmp_path):
    from safetensors.torch import save_file

    state = {f"h.{i}.mlp.weight": torch.ones(2, 2) for i in (10, 9, 2)} | {"position_ids": torch.arange(4)}
    save_file(state, tmp_path / "a.safetensors")
    infos = list(tensors_of_files([tmp_path / "a.safetensors"], None))
    assert [(i.name, i.layer, i.kind) for i in infos] == [
        ("h.2.mlp.weight", 2, "ffn"),
        ("h.9.mlp.weight", 9, "ffn"),
        ("h.10.mlp.weight", 10, "ffn"),
    ]


def test_running_means_in_a_file_are_no_weights(tmp_path, own_cache):
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"))
    model.save_pretrained(tmp_path)
    s = open_subject(str(tmp_path))
    assert s.task is None and s.tokenizer is None
    assert [i.name for i in s.tensors()] == [name for name, _ in model.named_parameters()]
    assert type(s.model) is ResNetForImageClassification


def test_a_language_model_saved_without_its_prefix_gets_its_own_names(tmp_path, own_cache):
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    model.save_pretrained(tmp_path)
    save_file(model.transformer.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert [i.name for i in open_subject(str(tmp_path)).tensors()] == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_checkpoint_may_carry_or_lack_the_base_models_prefix(tmp_path, own_cache, prefix):
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
    model = BertModel(config)
    config.architectures = ["BertModel"]
    config.save_pretrained(tmp_path)
    save_file({prefix + k: v for k, v in model.state_dict().items()}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    s = open_subject(str(tmp_path))
    assert [i.name for i in s.tensors()] == [name for name, _ in model.named_parameters()]
    assert torch.equal(s.model.pooler.dense.weight, model.pooler.dense.weight)
