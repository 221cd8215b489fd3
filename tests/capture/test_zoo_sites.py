"""Which FFN, attention, block and matrix sites every family has: said in full, so that one too many or too few shows."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from analysis.capture import find_sites
from analysis.capture.site import Site
from tests import zoo


def sites_of(made: zoo.Made, *kinds: str) -> list[Site]:
    return [s for s in find_sites(*made) if s.kind in kinds]


def ffn(made: zoo.Made) -> list[tuple]:
    """(name, layer, width, stream, activation, gated) of every FFN site."""
    return [(s.name, s.layer, s.width, s.stream, s.activation, s.gated) for s in sites_of(made, "ffn")]


def attention(made: zoo.Made) -> list[tuple]:
    return [(s.name, s.layer, s.stream) for s in sites_of(made, "attention")]


def blocks(made: zoo.Made) -> list[tuple]:
    """(layer, stream, the matrix whose output is added) of every residual addition."""
    return [(s.layer, s.stream, s.weight) for s in sites_of(made, "residual")]


def matrices(made: zoo.Made) -> list[str | None]:
    """The parameter of every matrix product that reads no neurons."""
    return [s.weight for s in sites_of(made, "matrix")]


def each(text: str, *words: str, layers: tuple[int, ...] = (0, 1)) -> list[str]:
    """``text`` for every layer and word."""
    return [text.format(n=n, w=w) for n in layers for w in words]


def test_opt():
    made, block = zoo.opt(), "model.decoder.layers.{n}"
    assert ffn(made) == [(f"model.decoder.layers.{n}.fc2:linear:input", n, 24, "input", "relu", False) for n in (0, 1)]
    assert attention(made) == [(f"model.decoder.layers.{n}.self_attn:sdpa:output", n, "input") for n in (0, 1)]
    added = [(n, "input", f"model.decoder.layers.{n}.{w}.weight") for n in (0, 1) for w in ("self_attn.out_proj", "fc2")]
    assert blocks(made) == added
    read = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1")
    assert matrices(made) == [*each(block + ".{w}.weight", *read), "lm_head.weight"]


def test_gpt_neox_adds_attention_and_ffn_before_it_adds_both_to_the_stream():
    made, block = zoo.gpt_neox(), "gpt_neox.layers.{n}"
    assert ffn(made) == [(f"gpt_neox.layers.{n}.mlp.dense_4h_to_h:linear:input", n, 24, "input", "gelu", False) for n in (0, 1)]
    assert attention(made) == [(f"gpt_neox.layers.{n}.attention:sdpa:output", n, "input") for n in (0, 1)]
    # The second addition adds a sum, which is no single matrix's output.
    assert blocks(made) == [a for n in (0, 1) for a in ((n, "input", f"gpt_neox.layers.{n}.mlp.dense_4h_to_h.weight"), (n, "input", None))]
    read = each(block + ".{w}.weight", "attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h")
    assert matrices(made)[:-1] == read
    assert find_sites(*made)[-1].module == "lm_head"


def test_gpt2_reads_its_tied_embedding_as_the_last_matrix():
    made = zoo.gpt2()
    assert attention(made) == [(f"transformer.h.{n}.attn:sdpa:output", n, "input") for n in (0, 1)]
    assert blocks(made) == [(n, "input", f"transformer.h.{n}.{w}.c_proj.weight") for n in (0, 1) for w in ("attn", "mlp")]
    read = each("transformer.h.{n}.{w}.weight", "attn.c_attn", "attn.c_proj", "mlp.c_fc")
    assert matrices(made) == [*read, "lm_head.weight"]


def test_vit_has_its_patches_matrix_and_the_classifier_beside_the_blocks():
    made = zoo.vit()
    assert attention(made) == [(f"vit.layers.{n}.attention:sdpa:output", n, "rows") for n in (0, 1)]
    assert [layer for layer, _, _ in blocks(made)] == [0, 0, 1, 1]
    read = matrices(made)
    assert read[0] == "vit.embeddings.patch_embeddings.projection.weight"
    assert read[-1] == "classifier.weight"
    assert len(read) == 2 + 2 * 5


@pytest.mark.parametrize("norm_first", [False, True])
def test_torch_encoder_in_either_order_of_norms(norm_first):
    made = zoo.encoder(norm_first)
    assert ffn(made) == [(f"layers.{n}.linear2:linear:input", n, 24, "input", "relu", False) for n in (0, 1)]
    assert attention(made) == [(f"layers.{n}.self_attn:mha:output", n, "input") for n in (0, 1)]
    assert blocks(made) == [(n, "input", f"layers.{n}.{w}.weight") for n in (0, 1) for w in ("self_attn.out_proj", "linear2")]
    # The attention's own matrices are inside one opaque call.
    assert matrices(made) == each("layers.{n}.linear1.weight", "")


def test_a_model_laid_out_by_positions_first_is_one_of_tokens_all_the_same():
    made = zoo.positions_first()
    assert ffn(made) == [(f"encoder.layers.{n}.linear2:linear:input", n, 24, "input", "relu", False) for n in (0, 1)]
    assert {s.positions_first for s in sites_of(made, "ffn", "matrix")} == {True}
    assert {s.positions_first for s in sites_of(zoo.encoder(), "ffn", "matrix")} == {False}


def test_an_mlp_of_two_hidden_layers_has_two_ffn_sites():
    made = zoo.mlp()
    assert ffn(made) == [("2:linear:input", 0, 12, "rows", "relu", False), ("4:linear:input", 1, 8, "rows", "gelu", False)]
    assert attention(made) == blocks(made) == []
    assert matrices(made) == ["0.weight"]


@pytest.mark.parametrize(
    ("make", "states"), [(zoo.lstm, {"hidden": 20, "cell": 20}), (zoo.gru, {"hidden": 40})], ids=["lstm", "gru packed, two layers"]
)
def test_recurrent_layers_are_seen_at_their_output_and_their_final_states(make, states):
    sites = sites_of(make(), "recurrent")
    operator = sites[0].operator
    assert [(s.name, s.width, s.stream) for s in sites] == [
        (f"rnn:{operator}:output", 20, "input"),
        *((f"rnn:{operator}:{state}", width, "rows") for state, width in states.items()),
    ]
    assert matrices(make()) == ["head.weight"]


def test_a_recurrent_layer_with_positions_first_follows_the_tokens():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(60, 8), nn.LSTM(8, 10)

        def forward(self, input_ids, attention_mask):
            return self.rnn(self.embed(input_ids).transpose(0, 1))[0].transpose(0, 1)

    site = find_sites(Tagger().eval(), zoo.tokens())[0]
    assert (site.name, site.stream, site.positions_first) == ("rnn:lstm:output", "input", True)


def test_qwen2_moe_has_its_shared_ffn_beside_the_experts():
    made, found = zoo.qwen2_moe(), []
    for n in (0, 1):
        found.append((f"model.layers.{n}.mlp.shared_expert.down_proj:linear:input", n, 20, "input", "silu", True))
        found += [(f"model.layers.{n}.mlp.experts:linear:input:down_proj[{e}]", n, 12, "input", "silu", True) for e in range(4)]
    assert ffn(made) == found
    groups = [(s.group, s.member) for s in sites_of(made, "ffn")]
    stack = "model.layers.{n}.mlp.experts.down_proj"
    assert groups == [pair for n in (0, 1) for pair in ((None, None), *((stack.format(n=n), e) for e in range(4)))]
    assert attention(made) == [(f"model.layers.{n}.self_attn:sdpa:output", n, "input") for n in (0, 1)]


SWITCH = [("encoder.block.1.layer.1.mlp.experts", 1, "input"), ("decoder.block.1.layer.2.mlp.experts", 3, "decoder")]


@pytest.mark.parametrize("length", [7, 2])
def test_experts_that_are_modules_are_found_whether_or_not_a_token_visits_them(length):
    model, batch = zoo.switch()
    batch = {name: value[:, :length] for name, value in batch.items()}
    sites = [s for s in find_sites(model, batch) if s.kind == "ffn" and s.group is not None]
    wanted = [
        (
            f"{group}.expert_{e}.wo:linear:input",
            layer,
            stream,
            group,
            e,
            (f"{group}.expert_{e}.wi.weight",),
            f"{group}.expert_{e}.wo.weight",
        )
        for group, layer, stream in SWITCH
        for e in range(4)
    ]
    assert [(s.name, s.layer, s.stream, s.group, s.member, s.producers, s.weight) for s in sites] == wanted
    dense = [s.name for s in find_sites(model, batch) if s.kind == "ffn" and s.group is None]
    assert dense == ["encoder.block.0.layer.1.mlp.wo:linear:input", "decoder.block.0.layer.2.mlp.wo:linear:input"]


def test_what_experts_add_to_the_stream_is_named_after_all_of_them():
    """Which of them ran last depends on the tokens, and a site's name must not."""
    assert [(layer, w) for layer, _, w in blocks(zoo.switch()) if w and "experts" in w] == [(n, group) for group, n, _ in SWITCH]


def test_a_listed_expert_that_the_router_never_chooses_is_a_site_too():
    made = zoo.listed_experts()
    assert ffn(made) == [(f"blocks.{n}.experts.{e}.w2:linear:input", n, 12, "input", "silu", True) for n in (0, 1) for e in range(3)]
    assert [(s.group, s.member) for s in sites_of(made, "ffn")] == [(f"blocks.{n}.experts", e) for n in (0, 1) for e in range(3)]


class Skips(nn.Module):
    """Blocks behind one gathering of the real tokens, as in packed models; the last one is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(3))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids).reshape(-1, 8)[attention_mask.bool().flatten()]
        for block in self.blocks[:2]:
            x = x + block(x)
        return x


def test_blocks_of_a_packed_model_are_not_taken_for_experts():
    sites = [s for s in find_sites(Skips().eval(), zoo.tokens()) if s.kind == "ffn"]
    assert [(s.name, s.group, s.layer) for s in sites] == [("blocks.0.2:linear:input", None, 0), ("blocks.1.2:linear:input", None, 1)]


def test_mamba_has_two_ffn_sites_a_block():
    """By the definition: the convolution behind SiLU is read by ``x_proj``, the scan times SiLU(gate) by ``out_proj``.

    The second has no producers, since one of its factors is a state and no matrix's output. The softplus of the step size is read by
    no matrix product. The convolution and ``dt_proj`` are applied by functions, so their products lie in the mixer itself.
    """
    made, mixer = zoo.mamba(), "backbone.layers.{n}.mixer"
    found = [(f"backbone.layers.{n}.mixer.{w}:linear:input", n, 32, "input", "silu", False) for n in (0, 1) for w in ("x_proj", "out_proj")]
    assert ffn(made) == found
    producers = [s.producers for s in sites_of(made, "ffn")]
    assert producers == [p for n in (0, 1) for p in ((f"backbone.layers.{n}.mixer.conv1d.weight",), ())]
    assert attention(made) == []
    assert [weight for _, stream, weight in blocks(made) if stream == "input"] == each(mixer + ".out_proj.weight", "")
    assert matrices(made) == [*each(mixer + ".{w}.weight", "in_proj", "conv1d", "dt_proj"), "lm_head.weight"]
    unread = [(s.activation, s.width, s.axis) for s in sites_of(made, "activation")]
    assert unread == [("softplus", 32, -2)] * 2


def test_shared_layers_are_one_site():
    made = zoo.albert()
    block = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    assert ffn(made) == [(f"{block}.ffn_output:linear:input", 0, 24, "input", "gelu_tanh", False)]
    assert attention(made) == [(f"{block}.attention:sdpa:output", 0, "input")]


KINDS = {
    "llama": {"matrix": 13, "attention": 2, "residual": 4, "ffn": 2},
    "phi3": {"matrix": 7, "attention": 2, "residual": 4, "ffn": 2},
    "gpt2": {"matrix": 7, "attention": 2, "residual": 4, "ffn": 2},
    "opt": {"matrix": 11, "attention": 2, "residual": 4, "ffn": 2},
    "gpt_neox": {"matrix": 7, "attention": 2, "residual": 4, "ffn": 2},
    "bert": {"matrix": 12, "attention": 2, "residual": 4, "ffn": 2, "activation": 1},
    "albert": {"matrix": 8, "attention": 1, "residual": 2, "ffn": 1, "activation": 1},
    "t5": {"matrix": 29, "attention": 6, "residual": 10, "ffn": 4},
    "t5_gated": {"matrix": 33, "attention": 6, "residual": 10, "ffn": 4},
    "mixtral": {"matrix": 19, "attention": 2, "residual": 4, "ffn": 8},
    "mixtral_eager": {"matrix": 19, "attention": 2, "residual": 4, "ffn": 8},
    "qwen2_moe": {"matrix": 25, "attention": 2, "residual": 6, "ffn": 10, "activation": 2},
    "switch": {"matrix": 37, "attention": 6, "residual": 10, "ffn": 10},
    "listed_experts": {"matrix": 15, "residual": 2, "ffn": 6},
    "mamba": {"matrix": 7, "residual": 6, "ffn": 4, "activation": 2},
    "vit": {"matrix": 12, "attention": 2, "residual": 4, "ffn": 2},
    "resnet": {"matrix": 4, "residual": 3, "conv": 5, "activation": 2},
    "encoder": {"matrix": 2, "attention": 2, "residual": 4, "ffn": 2},
    "encoder_norm_first": {"matrix": 2, "attention": 2, "residual": 4, "ffn": 2},
    "positions_first": {"matrix": 2, "attention": 2, "residual": 4, "ffn": 2},
    "mlp": {"matrix": 1, "ffn": 2},
    "lstm": {"matrix": 1, "recurrent": 3},
    "gru": {"matrix": 1, "recurrent": 2},
    "odd": {"matrix": 3, "residual": 2, "ffn": 2},
    "linear": {"matrix": 2},
}
"""Sites of each kind that every family has: no family of the zoo goes unsaid, and none gains or loses one unseen."""


def test_every_family_of_the_zoo_is_counted():
    assert KINDS.keys() == zoo.ZOO.keys()


@pytest.mark.parametrize("family", KINDS)
def test_every_family_has_so_many_sites_of_each_kind(family):
    assert Counter(s.kind for s in find_sites(*zoo.ZOO[family]())) == KINDS[family]


def test_phi3_reads_three_fused_matrices_a_block():
    made = zoo.phi3()
    read = each("model.layers.{n}.{w}.weight", "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj")
    assert matrices(made) == [*read, "lm_head.weight"]
    assert blocks(made) == [(n, "input", f"model.layers.{n}.{w}.weight") for n in (0, 1) for w in ("self_attn.o_proj", "mlp.down_proj")]


def test_bert_reads_its_heads_two_matrices_beside_the_blocks():
    made, block = zoo.bert(), "bert.encoder.layer.{n}.{w}.weight"
    own = [f"attention.self.{w}" for w in ("query", "key", "value")]
    read = each(block, *own, "attention.output.dense", "intermediate.dense")
    assert matrices(made) == [*read, "cls.predictions.transform.dense.weight", "cls.predictions.decoder.weight"]
    added = ("attention.output.dense", "output.dense")
    assert blocks(made) == [(n, "input", block.format(n=n, w=w)) for n in (0, 1) for w in added]


def test_t5_blocks_add_crossed_attention_in_the_decoder_only():
    made = zoo.t5()
    inner = [f"layer.0.SelfAttention.{w}" for w in "qkvo"]
    crossed = [f"layer.1.EncDecAttention.{w}" for w in "qkvo"]
    encoder = each("encoder.block.{n}.{w}.weight", *inner, "layer.1.DenseReluDense.wi")
    decoder = each("decoder.block.{n}.{w}.weight", *inner, *crossed, "layer.2.DenseReluDense.wi")
    assert matrices(made) == [*encoder, *decoder, "lm_head.weight"]
    first = [(n, "input", f"encoder.block.{n}.layer.{w}.weight") for n in (0, 1) for w in ("0.SelfAttention.o", "1.DenseReluDense.wo")]
    added = ("0.SelfAttention.o", "1.EncDecAttention.o", "2.DenseReluDense.wo")
    assert blocks(made) == first + [(n + 2, "decoder", f"decoder.block.{n}.layer.{w}.weight") for n in (0, 1) for w in added]


def test_mixtral_reads_router_and_every_experts_fused_matrix():
    made = zoo.mixtral()
    own = [f"self_attn.{w}_proj.weight" for w in "qkvo"]
    assert matrices(made) == [*each("model.layers.{n}.{w}", *own, "mlp.gate.weight", *["mlp.experts.gate_up_proj"] * 4), "lm_head.weight"]
    added = ("self_attn.o_proj.weight", "mlp.experts.down_proj")
    assert blocks(made) == [(n, "input", f"model.layers.{n}.{w}") for n in (0, 1) for w in added]


def test_resnet_reads_its_first_maps_and_shortcut_as_matrices_and_adds_after_each_pair():
    made, stage = zoo.resnet(), "resnet.encoder.stages.{}.convolution.weight"
    shortcut = stage.format("1.layers.0.shortcut")
    first = ["resnet.embedder.embedder.convolution.weight", stage.format("0.layers.0.layer.0")]
    assert matrices(made) == [*first, shortcut, "classifier.1.weight"]
    pairs = [(0, "rows", stage.format(f"0.layers.{n}.layer.1")) for n in (0, 1)]
    assert blocks(made) == [*pairs, (1, "rows", shortcut)]
