"""Which sites are found: stated for every model of the zoo."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from analysis.capture import Frame, find_sites
from analysis.capture.flow import Flow
from analysis.capture.site import Site
from analysis.spec import IncompatibleSubject
from tests import zoo

NEURONS = ("ffn", "conv", "recurrent")


def neurons(made: zoo.Made) -> list[tuple]:
    """(module, operator, layer, width, stream, activation, gated) of every site that holds neurons."""
    return [(s.module, s.operator, s.layer, s.width, s.stream, s.activation, s.gated) for s in find_sites(*made) if s.kind in NEURONS]


def attention(made: zoo.Made) -> list[tuple]:
    return [(s.module, s.operator, s.layer, s.stream) for s in find_sites(*made) if s.kind == "attention"]


def by_name(made: zoo.Made) -> dict[str, Site]:
    return {s.name: s for s in find_sites(*made)}


def test_llama_has_one_gated_silu_unit_a_block_with_plain_hooks_for_gate_and_up():
    sites = by_name(zoo.llama())
    assert neurons(zoo.llama()) == [(f"model.layers.{n}.mlp.down_proj", "linear", n, 24, "input", "silu", True) for n in (0, 1)]
    assert attention(zoo.llama()) == [(f"model.layers.{n}.self_attn", "sdpa", n, "input") for n in (0, 1)]
    site = sites["model.layers.1.mlp.down_proj:linear:input"]
    assert site.weight == "model.layers.1.mlp.down_proj.weight"
    assert site.producers == ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight")
    assert (site.gate, site.up) == ("model.layers.1.mlp.act_fn", "model.layers.1.mlp.up_proj")
    assert site.plain and not site.transposed and site.expert is None
    assert sites["lm_head:linear:input"].layer == 2


def test_llama_residual_sites_name_the_matrix_that_was_added():
    found = [s.weight for s in find_sites(*zoo.llama()) if s.kind == "residual" and s.layer == 0]
    assert found == ["model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"]


def test_every_matrix_of_llama_is_one_site():
    model, batch = zoo.llama()
    read = [s.weight for s in find_sites(model, batch) if s.role == "input"]
    matrices = [n for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    assert sorted(w for w in read if w is not None) == sorted(matrices)


def test_a_fused_gate_and_up_matrix_is_two_producers_of_one_name():
    assert neurons(zoo.phi3()) == [(f"model.layers.{n}.mlp.down_proj", "linear", n, 24, "input", "silu", True) for n in (0, 1)]
    site = by_name(zoo.phi3())["model.layers.0.mlp.down_proj:linear:input"]
    assert site.producers == ("model.layers.0.mlp.gate_up_proj.weight",) * 2
    assert (site.gate, site.up, site.plain) == (None, None, True)


def test_gelu_written_out_with_tanh_is_one_ungated_activation_and_conv1d_is_stored_transposed():
    assert neurons(zoo.gpt2()) == [(f"transformer.h.{n}.mlp.c_proj", "addmm", n, 64, "input", "gelu_tanh", False) for n in (0, 1)]
    site = by_name(zoo.gpt2())["transformer.h.0.mlp.c_proj:addmm:input"]
    assert site.transposed and site.plain
    assert site.producers == ("transformer.h.0.mlp.c_fc.weight",)


def test_bert_head_activation_is_no_neuron_since_a_norm_follows():
    made = zoo.bert()
    assert neurons(made) == [(f"bert.encoder.layer.{n}.output.dense", "linear", n, 24, "input", "gelu", False) for n in (0, 1)]
    assert attention(made) == [(f"bert.encoder.layer.{n}.attention.self", "sdpa", n, "input") for n in (0, 1)]
    unread = [s.module for s in find_sites(*made) if s.kind == "activation"]
    assert unread == ["cls.predictions.transform.transform_act_fn"]


@pytest.mark.parametrize("gated", [False, True])
def test_t5_tells_encoder_from_decoder_although_both_are_equally_long(gated):
    act = "gelu_tanh" if gated else "relu"
    encoder = [(f"encoder.block.{n}.layer.1.DenseReluDense.wo", "linear", n, 24, "input", act, gated) for n in (0, 1)]
    decoder = [(f"decoder.block.{n}.layer.2.DenseReluDense.wo", "linear", n + 2, 24, "decoder", act, gated) for n in (0, 1)]
    assert neurons(zoo.t5(gated)) == encoder + decoder
    crossed = ("decoder.block.0.layer.1.EncDecAttention", "sdpa", 2, "decoder")
    assert len(attention(zoo.t5(gated))) == 6 and crossed in attention(zoo.t5(gated))


@pytest.mark.parametrize("implementation", ["grouped_mm", "eager", "batched_mm"])
def test_mixtral_has_a_site_for_every_expert_however_they_are_run(implementation):
    model, batch = zoo.mixtral(implementation=implementation)
    sites = [s for s in find_sites(model, batch) if s.kind == "ffn"]
    assert [s.name for s in sites] == [f"model.layers.{n}.mlp.experts:linear:input:down_proj[{e}]" for n in (0, 1) for e in range(4)]
    assert {(s.width, s.activation, s.gated, s.stream, s.plain, s.transposed) for s in sites} == {(24, "silu", True, "input", False, False)}
    assert [(s.layer, s.expert) for s in sites] == [(n, e) for n in (0, 1) for e in range(4)]
    assert model.config._experts_implementation == implementation


def test_experts_that_no_token_visits_are_sites_too():
    model, batch = zoo.mixtral(experts=8, implementation="eager")
    one = {name: value[:1, :1] for name, value in batch.items()}
    assert len([s for s in find_sites(model, one) if s.kind == "ffn"]) == 16


def test_vit_rows_are_patches_not_tokens():
    assert neurons(zoo.vit()) == [(f"vit.layers.{n}.mlp.fc2", "linear", n, 24, "rows", "gelu", False) for n in (0, 1)]


def test_resnet_counts_each_activated_map_once_and_not_what_pooling_or_a_shortcut_reads():
    conv = [
        ("0.layers.0.layer.1", 0, 8, 1),
        ("0.layers.1.layer.0", 0, 8, 0),
        ("0.layers.1.layer.1", 0, 8, 1),
        ("1.layers.0.layer.0", 1, 8, 0),
        ("1.layers.0.layer.1", 1, 12, 1),
    ]
    sites = [s for s in find_sites(*zoo.resnet()) if s.kind == "conv"]
    found = [(s.module, s.layer, s.width, len(s.producers)) for s in sites]
    assert found == [(f"resnet.encoder.stages.{p}.convolution", n, w, k) for p, n, w, k in conv]
    assert {(s.operator, s.activation, s.stream, s.axis) for s in sites} == {("conv2d", "relu", "rows", 1)}
    assert not [s for s in find_sites(*zoo.resnet()) if s.kind == "ffn"]


def test_torch_encoder_shows_its_neurons_and_the_fast_path_is_on_again_afterwards():
    assert torch.backends.mha.get_fastpath_enabled()
    assert neurons(zoo.encoder()) == [(f"layers.{n}.linear2", "linear", n, 24, "input", "relu", False) for n in (0, 1)]
    assert attention(zoo.encoder()) == [(f"layers.{n}.self_attn", "mha", n, "input") for n in (0, 1)]
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_lstm_is_seen_at_its_output_and_its_states():
    assert neurons(zoo.lstm()) == [("rnn", "lstm", 0, 20, stream, None, False) for stream in ("input", "rows", "rows")]


def test_a_functional_ffn_with_its_own_parameters_is_found():
    sites = by_name(zoo.odd())
    assert neurons(zoo.odd()) == [("", "einsum", 0, 9, "rows", "silu", True), ("", "linear", 0, 11, "rows", "relu2", False)]
    gated, plain = sites[":einsum:input:w_down"], sites[":linear:input:v_out"]
    assert gated.producers == ("w_gate", "w_up") and gated.transposed and not gated.plain
    assert plain.producers == ("v_in",) and not plain.transposed


def test_a_model_without_activations_has_matrices_but_no_neurons():
    sites = find_sites(*zoo.linear())
    assert [(s.kind, s.weight) for s in sites] == [("matrix", "one.weight"), ("matrix", "two.weight")]


@pytest.mark.parametrize("make", zoo.ZOO.values(), ids=zoo.ZOO)
def test_names_are_unique_and_the_same_each_time(make):
    first, second = find_sites(*make()), find_sites(*make())
    assert first == second
    assert len({s.name for s in first}) == len(first)


def test_canonical_names_are_used_where_given():
    model, batch = zoo.llama()
    names = {"model.layers.1.mlp.down_proj": "blocks.1.mlp.hook_post"}
    found = {s.module: s.hook_name for s in find_sites(model, batch, names=names) if s.kind == "ffn"}
    assert found["model.layers.1.mlp.down_proj"] == "blocks.1.mlp.hook_post"
    assert found["model.layers.0.mlp.down_proj"] == "model.layers.0.mlp.down_proj.hook_in"


class Chain(nn.Module):
    """linear, then ``step``, then linear: what does the second one read?"""

    def __init__(self, step, width: int = 8) -> None:
        super().__init__()
        self.one, self.other, self.two = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(width, 3)
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.step(self, x))


def read_by_two(step, width: int = 8) -> Site:
    torch.manual_seed(0)
    sites = find_sites(Chain(step, width), (torch.randn(2, 4, 8),))
    return next(s for s in sites if s.module == "two")


@pytest.mark.parametrize(
    ("step", "activation", "producers"),
    [
        (lambda m, x: torch.relu(m.one(x)), "relu", 1),
        (lambda m, x: torch.relu(m.one(x)).square(), "relu2", 1),
        (lambda m, x: (lambda h: h * torch.sigmoid(h))(m.one(x)), "silu", 1),
        (lambda m, x: (lambda h: h * torch.sigmoid(1.702 * h))(m.one(x)), "quick_gelu", 1),
        (lambda m, x: (lambda h: 0.5 * h * (1 + torch.erf(h / 2**0.5)))(m.one(x)), "gelu", 1),
        (lambda m, x: nn.functional.gelu(m.one(x), approximate="tanh"), "gelu_tanh", 1),
        (lambda m, x: torch.relu(m.one(x)) * m.other(x), "relu", 2),
        (lambda m, x: m.other(x) * torch.relu(m.one(x)), "relu", 2),
        (lambda m, x: torch.relu(m.one(x) + m.other(x)), "relu", 1),
        (lambda m, x: nn.functional.dropout(torch.relu(m.one(x)), 0.5, False).double().float(), "relu", 1),
    ],
    ids=["relu", "relu squared", "silu", "quick gelu", "gelu", "gelu by tanh", "gated", "gated, up first", "adapter", "dropout and casts"],
)
def test_an_activation_is_followed_through_elementwise_steps(step, activation, producers):
    site = read_by_two(step)
    assert (site.kind, site.activation, len(site.producers)) == ("ffn", activation, producers)


@pytest.mark.parametrize(
    "step",
    [
        lambda m, x: x + torch.relu(m.one(x)),
        lambda m, x: (lambda h: h + torch.relu(m.other(h)))(torch.relu(m.one(x))),
        lambda m, x: nn.functional.layer_norm(torch.relu(m.one(x)), (8,)),
        lambda m, x: (lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))(torch.relu(m.one(x))),
        lambda m, x: torch.relu(m.one(x)).mean(1, keepdim=True),
        lambda m, x: torch.softmax(m.one(x), -1),
    ],
    ids=["residual", "residual of activated", "layer norm", "written-out norm", "pooling", "softmax"],
)
def test_an_activation_is_not_followed_through_residuals_norms_and_pooling(step):
    assert read_by_two(step).kind == "matrix"


def test_glu_is_gated_by_its_second_half():
    site = read_by_two(lambda m, x: nn.functional.glu(m.one(x)), width=4)
    assert (site.kind, site.activation, site.producers) == ("ffn", "sigmoid", ("one.weight", "one.weight"))


def test_two_slices_of_one_matrix_gate_each_other_and_one_slice_taken_twice_does_not():
    gated = read_by_two(lambda m, x: (lambda h: torch.relu(h[..., :4]) * h[..., 4:])(m.one(x)), width=4)
    itself = read_by_two(lambda m, x: (lambda h: torch.sigmoid(h[..., :4]) * h[..., :4])(m.one(x)), width=4)
    assert gated.gated and not itself.gated


def test_a_whole_model_inside_a_sequential_keeps_its_own_layers():
    model, batch = zoo.bert()

    class Wrapped(nn.Sequential):
        def forward(self, **batch):
            return self[0](**batch)

    sites = find_sites(Wrapped(model), batch)
    assert [s.layer for s in sites if s.kind == "ffn"] == [0, 1]


def test_a_compiled_model_is_found_under_its_wrapper():
    model, batch = zoo.llama()
    assert find_sites(torch.compile(model), batch) == find_sites(model, batch)


def test_a_scripted_model_is_refused_in_a_sentence():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    with pytest.raises(IncompatibleSubject, match="must be made of Python modules, got a TorchScript module"):
        find_sites(scripted, (torch.randn(2, 4),))


def test_discovery_leaves_the_model_as_it_was():
    model, batch = zoo.llama()
    model.train()
    model.model.layers[0].eval()
    flags, state = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    find_sites(model, batch)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_frame_takes_all_positions_where_no_mask_is_given():
    ids = torch.zeros(2, 3, dtype=torch.long)
    assert Frame.of({"input_ids": ids}).rows("input") is None
    assert Frame.of({"input_ids": ids}).shape("input") == (2, 3)
    assert Frame.of((torch.zeros(2, 3, 4),)).shape("input") is None
    masked = Frame.of({"attention_mask": torch.tensor([[1, 1, 0], [0, 1, 1]])})
    assert masked.rows("input") is not None and masked.rows("input").tolist() == [0, 1, 4, 5]  # pyright: ignore


def test_layers_of_a_bare_sequential_count_what_holds_neurons():
    steps = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    sites = {s.module: (s.kind, s.layer) for s in find_sites(steps, (torch.randn(3, 4),))}
    assert sites == {"0": ("matrix", 2), "2": ("ffn", 0), "4": ("ffn", 1)}


class Beside(nn.Module):
    """Its own product, and one more use of its argument: added to the output, or noted on the side."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))
        self.added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = nn.functional.linear(x, self.weight)
        if self.added:
            return product + x
        self.largest = x.max()
        return product


@pytest.mark.parametrize("added", [True, False])
def test_a_module_that_uses_its_argument_twice_is_not_served_by_a_plain_hook(added):
    sites = find_sites(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Beside(added)), (torch.randn(3, 4),))
    assert [(s.kind, s.plain) for s in sites if s.module == "2" and s.role == "input"] == [("ffn", False)]


def test_rows_gathered_from_gathered_rows_are_still_tokens():
    frame = Frame(torch.ones(2, 3, dtype=torch.bool))
    flow, hidden = Flow(frame), torch.randn(6, 4)
    first, second = torch.tensor([5, 3, 1]), torch.tensor([2, 0])
    once = hidden[first]
    flow.follow("getitem", (hidden, first), {}, once)
    twice = once[second]
    flow.follow("getitem", (once, second), {}, twice)
    found = flow.of(twice)
    assert found is not None and found.index.tolist() == [1, 5]
    other = torch.randn(3, 4)
    assert flow.of(other) is None
