"""Which weights may go."""

import pytest
import torch
from torch import nn

from analysis.interventions.scope import weight_scope
from analysis.spec import UserError
from tests import zoo


def _skeleton(name):
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        BertConfig,
        GPT2Config,
        GPTNeoXConfig,
        LlamaConfig,
        OPTConfig,
        ViTConfig,
    )

    llama = dict(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        tie_word_embeddings=True,
    )  # fmt: skip
    pythia = dict(vocab_size=50304, num_hidden_layers=12, hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    small = pythia | dict(num_hidden_layers=6, hidden_size=512, intermediate_size=2048, num_attention_heads=8)
    configs = {
        "gpt2": (AutoModelForCausalLM, GPT2Config()),
        "opt-125m": (AutoModelForCausalLM, OPTConfig()),
        "bert-base": (AutoModel, BertConfig()),
        "pythia-160m": (AutoModelForCausalLM, GPTNeoXConfig(**pythia, tie_word_embeddings=False)),
        "pythia-70m": (AutoModelForCausalLM, GPTNeoXConfig(**small, tie_word_embeddings=False)),
        "smollm-135m": (AutoModelForCausalLM, LlamaConfig(**llama)),
        "vit-b-16": (AutoModel, ViTConfig()),
    }
    maker, config = configs[name]
    with torch.device("meta"):
        return maker.from_config(config)


PUBLISHED = {  # SENSITIVITY 5.1: scope, and all parameters, tied ones once
    "gpt2": (84_934_656, 124_439_808),
    "opt-125m": (84_934_656, 125_239_296),
    "bert-base": (84_934_656, 109_482_240),
    "pythia-160m": (84_934_656, 162_322_944),
    "pythia-70m": (18_874_368, 70_426_624),
    "smollm-135m": (106_168_320, 134_515_008),
    "vit-b-16": (84_934_656, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_scope_counts_what_the_literature_prunes(name):
    scope = weight_scope(_skeleton(name))
    n_scope, n_all = PUBLISHED[name]
    assert scope.n == n_scope
    if n_all is not None:
        assert scope.n + sum(entry.n for entry in scope.skipped) == n_all


def _reasons(scope):
    return {entry.name: entry.reason for entry in scope.skipped}


@pytest.mark.parametrize(
    "make", [zoo.llama, zoo.gpt2, zoo.bert, zoo.t5, zoo.mixtral, zoo.switch, zoo.resnet, zoo.mamba, zoo.lstm, zoo.encoder, zoo.albert]
)
def test_every_parameter_is_in_or_skipped_with_a_reason(make):
    model = make()[0]
    scope = weight_scope(model)
    seen = [member.name for member in scope.members] + [entry.name for entry in scope.skipped]
    assert sorted(seen) == sorted(name for name, _ in model.named_parameters())
    assert all(entry.reason for entry in scope.skipped)


def test_embeddings_head_norms_biases_and_positions_are_out():
    reasons = _reasons(weight_scope(zoo.gpt2()[0]))
    assert reasons["transformer.wpe.weight"] == "a positional table"
    assert reasons["transformer.wte.weight"].startswith("an embedding") or "tied" in reasons["transformer.wte.weight"]
    assert reasons["transformer.h.0.ln_1.weight"] == "a norm"
    assert reasons["transformer.h.0.mlp.c_fc.bias"] == "a bias"
    assert "the output head" in _reasons(weight_scope(zoo.gpt_neox()[0])).values()
    assert _reasons(weight_scope(zoo.t5()[0]))["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] == "an embedding"


@pytest.mark.parametrize(
    ("make", "router"),
    [
        (zoo.mixtral, "model.layers.0.mlp.gate.weight"),
        (zoo.qwen2_moe, "model.layers.0.mlp.shared_expert_gate.weight"),
        (zoo.listed_experts, "blocks.0.router.weight"),
        (zoo.switch, "encoder.block.1.layer.1.mlp.router.classifier.weight"),
    ],
)
def test_routers_are_out_and_experts_are_in(make, router):
    scope = weight_scope(make()[0])
    assert _reasons(scope)[router] == "a router"
    assert any("expert" in member.name for member in scope.members)
    assert router in {member.name for member in weight_scope(make()[0], include=["routers"]).members}


def test_a_stack_of_experts_is_one_member_of_many_matrices():
    member = next(m for m in weight_scope(zoo.mixtral()[0]).members if m.name.endswith("experts.down_proj"))
    assert member.matrix_shape == (4, 16, 24)
    assert member.layer == 0 and member.role == "mlp.experts.down_proj"


class _Tied(nn.Module):
    def __init__(self, outside):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))
        self.extra = nn.Linear(4, 4)
        other = self.extra if outside else self.blocks[2][0]
        other.weight = self.blocks[0][0].weight


def test_a_tensor_tied_inside_the_scope_comes_once():
    scope = weight_scope(_Tied(outside=False))
    assert [member.name for member in scope.members] == ["blocks.0.0.weight", "blocks.1.0.weight"]
    assert scope.n == 32


def test_a_tensor_tied_to_something_outside_is_dropped_and_that_is_said():
    scope = weight_scope(_Tied(outside=True))
    assert "blocks.0.0.weight" not in {member.name for member in scope.members}
    assert _reasons(scope)["blocks.0.0.weight"] == "tied to extra.weight, and extra.weight is left out: outside of the repeated blocks"
    assert "blocks.0.0.weight" in {member.name for member in weight_scope(_Tied(outside=True), include=["outside"]).members}


def test_a_tensor_that_shares_memory_in_another_form_is_dropped():
    model = _Tied(outside=False)
    model.blocks[1][0].weight = nn.Parameter(model.blocks[0][0].weight.detach()[:, :2])
    reasons = _reasons(weight_scope(model, include=["outside"]))
    assert "shares its memory" in reasons["blocks.1.0.weight"] and "shares its memory" in reasons["blocks.0.0.weight"]


def test_without_blocks_every_matrix_but_the_last_is_in():
    scope = weight_scope(zoo.mlp()[0])
    assert [member.name for member in scope.members] == ["0.weight", "2.weight"]
    assert _reasons(scope)["4.weight"] == "the output head"
    assert "no repeated blocks" in scope.denominator


def test_matrices_of_somebodys_own_class_are_skipped_until_asked_for():
    with pytest.raises(UserError, match="OddMLP"):
        weight_scope(zoo.odd()[0])
    assert len(weight_scope(zoo.odd()[0], include=["other"]).members) == 5


def test_convolutions_are_flattened_to_outputs_by_inputs_and_kernel():
    member = next(m for m in weight_scope(zoo.resnet()[0]).members if len(m.info.shape) == 4)
    out, inputs, height, width = member.info.shape
    assert member.matrix_shape == (1, out, inputs * height * width)
    assert member.stored_shape == member.info.shape


class _Layouts(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.ConvTranspose2d(3, 5, 2), nn.Conv1d(4, 6, 3, groups=2), nn.Linear(2, 3), nn.MultiheadAttention(4, 2)]
        )


@pytest.mark.parametrize("make", [lambda: (_Layouts(), None), zoo.gpt2, zoo.mixtral])
def test_every_layout_comes_back_as_it_was_stored(make):
    for member in weight_scope(make()[0]).members:
        values = torch.arange(member.n, dtype=torch.float32).reshape(member.info.shape)
        matrices = member.matrix(values)
        assert tuple(matrices.shape) == member.matrix_shape
        assert torch.equal(member.back(matrices.contiguous()), values)


def test_gpt2_matrices_are_turned_round():
    member = next(m for m in weight_scope(zoo.gpt2()[0]).members if m.name.endswith("0.mlp.c_fc.weight"))
    assert member.info.shape == (16, 64) and member.matrix_shape == (1, 64, 16) and member.stored_shape == (64, 16)


def test_half_of_the_names_can_be_chosen():
    scope = weight_scope(zoo.llama()[0], only=r"mlp")
    assert {member.role.split(".")[0] for member in scope.members} == {"mlp"}
    chosen = scope.only([scope.members[0].name])
    assert len(chosen.members) == 1 and _reasons(chosen)[scope.members[1].name] == "not chosen"
    with pytest.raises(UserError, match="must be in the scope"):
        scope.only(["model.norm.weight"])


def test_nothing_in_scope_is_said_with_the_reasons():
    with pytest.raises(UserError, match="a norm"):
        weight_scope(nn.Sequential(nn.LayerNorm(3)))
    with pytest.raises(UserError, match="include must name one of"):
        weight_scope(zoo.mlp()[0], include=["norms"])
