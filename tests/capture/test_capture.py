"""What observers are handed, and what their replacements do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from analysis.capture import CaptureError, Frame, capture, find_sites
from analysis.capture.handover import exchanged, hand_over
from analysis.capture.operators import tensors_in
from analysis.capture.running import observable, run
from tests import zoo


class Keeper:
    """Keeps copies of everything it is handed; optionally replaces."""

    def __init__(self, replace=None, gates: bool = False) -> None:
        self.replace, self.gates = replace, gates
        self.seen: dict[str, list[Any]] = {}
        self.after: dict[str, list[Any]] = {}

    def values(self, site, values, rows):
        self.seen.setdefault(site.name, []).append((values.clone(), None if rows is None else rows.clone()))
        return None if self.replace is None else self.replace(values)

    def product(self, site, values, rows, output, gate, up):
        self.after.setdefault(site.name, []).append((values.clone(), rows, output.clone(), gate, up))


def capturable(model, batch, *kinds: str):
    sites = find_sites(model, batch)
    return [s for s in sites if s.kind in kinds] if kinds else [s for s in sites if s.role == "input" or s.plain]


def captured(made: zoo.Made, keeper: Any, *kinds: str):
    model, batch = made
    with capture(model, capturable(model, batch, *kinds), keeper) as session:
        return session.run(batch)


def bare(made: zoo.Made):
    model, batch = made
    with observable(model):
        return run(model, batch)


def same(a: Any, b: Any) -> bool:
    pairs = list(zip(tensors_in(a), tensors_in(b), strict=True))
    return bool(pairs) and all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("make", zoo.ZOO.values(), ids=zoo.ZOO)
@pytest.mark.parametrize("replace", [None, lambda values: values.clone()], ids=["observed", "replaced by the same"])
def test_outputs_are_bit_for_bit_those_of_the_bare_model(make, replace):
    keeper = Keeper(replace, gates=True)
    assert same(captured(make(), keeper), bare(make()))
    assert keeper.seen


def test_without_padding_the_bare_model_means_the_model_called_directly():
    model, batch = zoo.mixtral()
    with torch.no_grad():
        direct = model(**batch)
    assert torch.equal(captured((model, batch), Keeper()).logits, direct.logits)


def test_llama_values_are_act_gate_times_up_on_the_real_tokens_only():
    model, batch = zoo.llama()
    keeper, inputs = Keeper(gates=True), {}
    mlp = model.model.layers[1].mlp
    handle = mlp.register_forward_pre_hook(lambda module, args: inputs.update(x=args[0]))
    captured((model, batch), keeper, "ffn")
    handle.remove()
    x = inputs["x"].reshape(-1, 16)[batch["attention_mask"].flatten().bool()]
    gate, up = F.silu(mlp.gate_proj(x)), mlp.up_proj(x)
    (values, rows), (_, _, output, seen_gate, seen_up) = (
        k["model.layers.1.mlp.down_proj:linear:input"][0] for k in (keeper.seen, keeper.after)
    )
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    torch.testing.assert_close(values, gate * up)
    torch.testing.assert_close(seen_gate, gate)
    torch.testing.assert_close(seen_up, up)
    torch.testing.assert_close(output, values @ mlp.down_proj.weight.T)


@pytest.mark.parametrize("make", [zoo.phi3, zoo.mixtral, zoo.odd], ids=["phi3", "mixtral", "odd"])
def test_gate_times_up_is_the_value_also_where_no_module_returns_them(make):
    keeper = Keeper(gates=True)
    captured(make(), keeper, "ffn")
    gated = [entry for entries in keeper.after.values() for entry in entries if entry[3] is not None]
    assert gated
    for values, _, _, gate, up in gated:
        torch.testing.assert_close(gate * up, values)


def test_the_first_factor_handed_over_is_the_activated_one():
    model, batch = zoo.odd()
    keeper = Keeper(gates=True)
    captured((model, batch), keeper, "ffn")
    gate, up = keeper.after[":einsum:input:w_down"][0][3:]
    torch.testing.assert_close(gate, F.silu(batch[0] @ model.w_gate).reshape(-1, 9))
    torch.testing.assert_close(up, (batch[0] @ model.w_up).reshape(-1, 9))


def test_without_padding_values_are_handed_over_without_a_copy():
    model, batch = zoo.llama()
    read: list[int] = []
    handed: list[Any] = []

    class Pointers:
        def values(self, site, values, rows):
            handed.append((values.data_ptr(), rows))

    batch = {"input_ids": batch["input_ids"]}
    handle = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda m, args: read.append(args[0].data_ptr()))
    sites = capturable(model, batch, "ffn")[:1]
    read.clear()
    with capture(model, sites, Pointers()) as session:
        session.run(batch)
    handle.remove()
    assert handed == [(read[0], None)]


def test_padding_is_never_handed_over_whichever_tokens_it_holds():
    model, batch = zoo.bert()
    other = {**batch, "input_ids": torch.where(batch["attention_mask"].bool(), batch["input_ids"], 59)}
    one, two = Keeper(), Keeper()
    sites = capturable(model, batch, "ffn")
    for keeper, given in ((one, batch), (two, other)):
        with capture(model, sites, keeper) as session:
            session.run(given)
    for name, [(values, rows)] in one.seen.items():
        assert values.shape == (12, 24) and rows.shape == (12,)
        assert torch.equal(values, two.seen[name][0][0])


def test_decoder_sites_follow_the_decoder_mask():
    model, batch = zoo.t5()
    keeper = Keeper()
    captured((model, batch), keeper, "ffn")
    counts = {name.split(".")[0]: entries[0][1].tolist() for name, entries in keeper.seen.items()}
    assert counts == {"encoder": [*range(12)], "decoder": [*range(11)]}


@pytest.mark.parametrize("make", [zoo.llama, zoo.gpt2, zoo.mixtral, zoo.encoder], ids=["llama", "gpt2", "mixtral", "encoder"])
def test_replacing_by_zeros_is_zeroing_what_the_down_projection_reads(make):
    made = make()
    if isinstance(made[1], dict) and "attention_mask" in made[1]:
        made[1].pop("attention_mask")
    made[1].pop("src_key_padding_mask", None)
    zeroed = captured(made, Keeper(torch.zeros_like), "ffn")
    model, batch = made
    dense = bare(made)
    with torch.no_grad():
        for name in {s.weight for s in capturable(model, batch, "ffn")}:
            dict(model.named_parameters())[name].zero_()
    emptied = bare(made)
    assert not same(zeroed, dense)
    assert same(zeroed, emptied)


def test_zeros_at_one_llama_layer_equal_a_hook_that_zeroes_its_real_tokens():
    model, batch = zoo.llama()
    site = capturable(model, batch, "ffn")[1]
    with capture(model, [site], Keeper(torch.zeros_like)) as session:
        ours = session.run(batch).logits
    keep = 1 - batch["attention_mask"][..., None]
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda m, args: (args[0] * keep,))
    theirs = bare((model, batch)).logits
    handle.remove()
    assert torch.equal(ours, theirs)


def test_the_product_is_shown_what_it_read_after_a_replacement():
    keeper = Keeper(torch.zeros_like)
    captured(zoo.odd(), keeper, "ffn")
    assert all(not values.any() and not output.any() for [(values, _, output, _, _)] in keeper.after.values())


@pytest.mark.parametrize("implementation", ["grouped_mm", "eager", "batched_mm"])
def test_mixtral_rows_are_the_tokens_that_the_router_sent(implementation):
    model, batch = zoo.mixtral(implementation=implementation)
    chosen: dict[int, torch.Tensor] = {}
    inputs: dict[int, torch.Tensor] = {}
    for n, layer in enumerate(model.model.layers):
        layer.mlp.experts.register_forward_pre_hook(lambda m, args, n=n: (chosen.update({n: args[1]}), inputs.update({n: args[0]}))[0])
    keeper = Keeper()
    sites = capturable(model, batch, "ffn")
    with capture(model, sites, keeper) as session:
        session.run(batch)
    real = batch["attention_mask"].flatten().bool()
    assert model.config._experts_implementation == implementation
    for n in (0, 1):
        experts = model.model.layers[n].mlp.experts
        total = 0
        for site in (s for s in sites if s.layer == n):
            sent = ((chosen[n] == site.expert).any(1) & real).nonzero().squeeze(1)
            entries = keeper.seen.get(site.name, [(torch.zeros(0, 24), torch.zeros(0, dtype=torch.long))])
            values, rows = entries[0]
            assert len(entries) == 1 and rows.sort().values.tolist() == sent.tolist()
            gate, up = F.linear(inputs[n][rows], experts.gate_up_proj[site.expert]).chunk(2, -1)
            torch.testing.assert_close(values, F.silu(gate) * up)
            total += len(rows)
        assert total == 12 * 2


def test_convolution_rows_are_positions_and_columns_channels():
    model, batch = zoo.resnet()
    inputs: list[torch.Tensor] = []
    convolution = model.resnet.encoder.stages[0].layers[0].layer[1].convolution
    convolution.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    keeper = Keeper()
    captured((model, batch), keeper, "conv")
    values, rows = keeper.seen["resnet.encoder.stages.0.layers.0.layer.1.convolution:conv2d:input"][0]
    assert rows is None and not keeper.after
    assert torch.equal(values, inputs[-1].permute(0, 2, 3, 1).reshape(-1, 8))


def test_recurrent_outputs_are_seen_and_replaced():
    model, batch = zoo.lstm()
    keeper = Keeper(torch.zeros_like)
    batch = {"input_ids": batch["input_ids"]}
    output = captured((model, batch), keeper, "recurrent")
    with torch.no_grad():
        values, (hidden, cell) = model.rnn(model.embed(batch["input_ids"]))
    assert torch.equal(keeper.seen["rnn:lstm:output"][0][0], values.reshape(-1, 20))
    for name, state in (("hidden", hidden), ("cell", cell)):
        # A row a sequence: the forward direction's ten units, then the backward direction's.
        assert torch.equal(keeper.seen[f"rnn:lstm:{name}"][0][0], torch.cat([state[0], state[1]], dim=1))
    assert torch.equal(output, model.head.bias.expand(2, 7, 3))


class States(torch.nn.Module):
    """Gives what a recurrent layer ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.rnn(x)[1]


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 4)], ids=["batch", "single sequence"])
def test_a_replaced_state_arrives_in_its_place_and_the_other_is_left_alone(shape):
    torch.manual_seed(0)
    model, x = States().eval(), torch.randn(shape)
    hidden, cell = bare((model, (x,)))
    sites = [s for s in find_sites(model, (x,)) if s.role == "cell"]
    with capture(model, sites, Keeper(lambda values: values * 2)) as session:
        new_hidden, new_cell = session.run((x,))
    assert torch.equal(new_hidden, hidden)
    assert torch.equal(new_cell, cell * 2)


def test_packed_rows_are_the_real_tokens_each_at_its_place():
    model, batch = zoo.gru()
    batch = {name: value.flip(0) for name, value in batch.items()}  # the shorter sequence first: packing sorts them
    keeper = Keeper()
    captured((model, batch), keeper, "recurrent")
    values, rows = keeper.seen["rnn:gru:output"][0]
    assert rows is not None
    assert sorted(rows.tolist()) == batch["attention_mask"].flatten().nonzero().squeeze(1).tolist()
    inputs: list[torch.Tensor] = []
    handle = model.head.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    bare((model, batch))
    handle.remove()
    assert torch.equal(values, inputs[0].reshape(-1, 20)[rows])


def test_rows_laid_out_by_positions_first_are_numbered_by_sequence_and_without_padding():
    model, batch = zoo.positions_first()
    inputs: list[torch.Tensor] = []
    model.encoder.layers[0].linear2.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    keeper = Keeper()
    captured((model, batch), keeper, "ffn")
    values, rows = keeper.seen["encoder.layers.0.linear2:linear:input"][0]
    assert sorted(rows.tolist()) == batch["attention_mask"].flatten().nonzero().squeeze(1).tolist()
    assert torch.equal(values, inputs[-1].transpose(0, 1).reshape(-1, 24)[rows])


def test_experts_that_are_modules_see_the_tokens_they_were_sent():
    model, batch = zoo.listed_experts()
    inputs: list[torch.Tensor] = []
    model.blocks[0]["router"].register_forward_hook(lambda m, args, out: inputs.append(out))
    keeper = Keeper()
    captured((model, batch), keeper, "ffn")
    chosen, real = inputs[-1][:, :-1].argmax(1), batch["attention_mask"].flatten().bool()
    for expert in range(2):
        rows = keeper.seen[f"blocks.0.experts.{expert}.w2:linear:input"][0][1]
        assert rows.tolist() == ((chosen == expert) & real).nonzero().squeeze(1).tolist()
    assert "blocks.0.experts.2.w2:linear:input" not in keeper.seen


def hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("make", [zoo.llama, zoo.mixtral], ids=["plain", "functional"])
def test_an_error_in_an_observer_leaves_no_hook_and_every_setting_restored(make):
    model, batch = make()
    model.train()
    sites = capturable(model, batch, "ffn")

    def fail(values):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), capture(model, sites, Keeper(fail)) as session:
        session.run(batch)
    assert hooks(model) == 0 and all(m.training for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() and torch.is_grad_enabled()
    assert same(captured((model, batch), Keeper()), bare((model, batch)))


def test_a_wrong_replacement_is_refused_in_a_sentence():
    with pytest.raises(CaptureError, match=r"replacement values at .* must be torch.float32 of shape \(12, 24\), got .*; return them"):
        captured(zoo.llama(), Keeper(lambda values: values[:1]), "ffn")


def test_a_direct_call_inside_a_capture_is_refused_in_a_sentence():
    model, batch = zoo.llama()
    with capture(model, capturable(model, batch, "ffn"), Keeper()), pytest.raises(CaptureError, match=r"session\.run\(batch\)"):
        model(**batch)


def test_attention_sites_cannot_be_captured_and_say_so():
    model, batch = zoo.llama()
    with pytest.raises(CaptureError, match="choose sites of kind ffn"), capture(model, capturable(model, batch, "attention"), Keeper()):
        pass


def test_a_frame_of_another_shape_is_refused_in_a_sentence():
    model, batch = zoo.llama()
    wrong = Frame(torch.ones(2, 3, dtype=torch.bool))
    with capture(model, capturable(model, batch, "ffn"), Keeper()) as session, pytest.raises(CaptureError, match="must be handed 6 rows"):
        session.run(batch, wrong)


def test_an_observer_of_values_alone_gets_no_output_hooks():
    model, batch = zoo.llama()

    class Values:
        def values(self, site, values, rows):
            return None

    sites = capturable(model, batch, "ffn")
    with capture(model, sites, Values()):
        assert hooks(model) == len(sites)
    with capture(model, sites, Keeper(gates=True)):
        assert hooks(model) == 4 * len(sites)


def test_exchanged_values_keep_the_layout_in_memory():
    maps = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    site = next(s for s in capturable(*zoo.resnet(), "conv"))
    handed = hand_over(site, maps, Frame(None), None)
    new = exchanged(maps, 1, [(handed, handed.values * 2)])
    assert new.stride() == maps.stride() and torch.equal(new, maps * 2)


def test_experts_without_tokens_hand_nothing_over():
    model, batch = zoo.mixtral(experts=8)
    sites = capturable(model, batch, "ffn")
    keeper = Keeper()
    with capture(model, sites, keeper) as session:
        session.run({name: value[:1, :1] for name, value in batch.items()})
    assert len(keeper.seen) == 4
    assert all(values.shape == (1, 24) and rows.tolist() == [0] for [(values, rows)] in keeper.seen.values())


class Glu(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = torch.nn.Linear(4, 12), torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.glu(self.into(x)))


def test_the_gate_of_a_glu_is_the_sigmoid_of_its_second_half():
    model, x = Glu().eval(), torch.randn(3, 4)
    keeper = Keeper(gates=True)
    captured((model, (x,)), keeper, "ffn")
    first, second = model.into(x).chunk(2, -1)
    gate, up = keeper.after["out:linear:input"][0][3:]
    torch.testing.assert_close(gate, second.sigmoid())
    torch.testing.assert_close(up, first)


@pytest.mark.parametrize("kind", ["mapping", "exported"])
def test_an_exported_program_shows_the_same_values(kind):
    model, (x,) = zoo.odd()
    keeper, other = Keeper(), Keeper()
    captured((model, (x,)), keeper, "ffn")
    program = torch.export.export(model, (x,)).module() if kind == "exported" else model
    batch = (x,) if kind == "exported" else {"x": x}
    sites = [s for s in find_sites(program, batch) if s.kind == "ffn"]
    with capture(program, sites, other) as session:
        session.run(batch)
    assert len(other.seen) == len(keeper.seen) == 2
    for [(a, _)], [(b, _)] in zip(keeper.seen.values(), other.seen.values(), strict=True):
        torch.testing.assert_close(a, b)
