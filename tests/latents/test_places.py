"""Places are found by what happens, read as plain hooks read them, and changed without touching anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from analysis.capture import CaptureError
from analysis.latents.places import Place, changing, place_named, places, reading
from analysis.spec import UserError
from tests import zoo

FAMILIES = ("llama", "gpt2", "gpt_neox", "bert", "opt", "vit", "resnet", "t5", "mamba", "encoder_norm_first", "positions_first", "mixtral")


def found(family: str) -> tuple[torch.nn.Module, Any, tuple[Place, ...]]:
    model, batch = zoo.ZOO[family]()
    return model, batch, places(model, batch)


def hook_names(family: str, layer: int = 0) -> dict[str, str]:
    """Hook name to module and side, of one layer, without plain matrices."""
    return {p.hook_name: f"{p.module}:{p.site.role}" for p in found(family)[2] if p.layer == layer and p.kind != "matrix"}


def rows_of(tensor: torch.Tensor, axis: int = -1) -> torch.Tensor:
    moved = tensor.movedim(axis, -1)
    return moved.reshape(-1, moved.shape[-1])


@contextlib.contextmanager
def hooked(model: torch.nn.Module, place: Place, see: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """A hook as anybody would write it: sees the module's first argument or its (first) output; may give another."""
    module = model.get_submodule(place.module)

    def before(_: Any, args: tuple[Any, ...]) -> Any:
        new = see(args[0])
        return None if new is None else (new, *args[1:])

    def after(_: Any, __: Any, output: Any) -> Any:
        new = see(output[0] if isinstance(output, tuple) else output)
        return None if new is None else ((new, *output[1:]) if isinstance(output, tuple) else new)

    handle = module.register_forward_pre_hook(before) if place.site.role == "input" else module.register_forward_hook(after)
    with torch.no_grad():
        yield
    handle.remove()


def plain_run(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        output = model(**batch) if isinstance(batch, dict) else model(*batch)
    return (
        output
        if isinstance(output, torch.Tensor)
        else next(v for v in output.values() if isinstance(v, torch.Tensor) and v.is_floating_point())
    )


def seen_by_hook(model: torch.nn.Module, batch: Any, place: Place) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    with hooked(model, place, lambda tensor: seen.append(tensor.clone())):
        plain_run(model, batch)
    return seen[0].transpose(0, 1) if place.site.positions_first else seen[0]


def read_all(model: torch.nn.Module, batch: Any, chosen: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    taken: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with reading(model, chosen, lambda place, values, rows: taken.update({place.name: (values.clone(), rows)})) as session:
        session.run(batch)
    return taken


# ---------------------------------------------------------------------------------------------------------------------
# What is found


def test_a_llama_block_has_the_places_of_transformerlens():
    block = "model.layers.0"
    assert hook_names("llama") == {
        "blocks.0.attn.hook_z": f"{block}.self_attn.o_proj:input",
        "blocks.0.hook_attn_out": f"{block}.self_attn:output",
        "blocks.0.mlp.hook_in": f"{block}.mlp:input",
        "blocks.0.mlp.hook_post": f"{block}.mlp.down_proj:input",
        "blocks.0.hook_mlp_out": f"{block}.mlp:output",
        "blocks.0.hook_resid_pre": f"{block}:input",
        "blocks.0.hook_resid_post": f"{block}:output",
    }


def test_a_post_norm_encoder_adds_what_its_dense_modules_return():
    names = hook_names("bert")
    block = "bert.encoder.layer.0"
    assert names["blocks.0.hook_attn_out"] == f"{block}.attention.output.dense:output"
    assert names["blocks.0.hook_mlp_out"] == f"{block}.output.dense:output"
    assert names["blocks.0.mlp.hook_in"] == f"{block}.intermediate:input"
    assert names["blocks.0.hook_resid_post"] == f"{block}:output"


def test_attention_and_mlp_side_by_side_are_told_apart():
    names = hook_names("gpt_neox")
    assert names["blocks.0.hook_attn_out"].startswith("gpt_neox.layers.0.attention")
    assert names["blocks.0.hook_mlp_out"].startswith("gpt_neox.layers.0.mlp")


def test_encoder_and_decoder_blocks_have_names_of_their_own_and_every_name_stands_once():
    every = found("t5")[2]
    names = [p.hook_name for p in every]
    assert len(names) == len(set(names))
    assert {"encoder_blocks.1.hook_mlp_out", "decoder_blocks.1.hook_mlp_out", "decoder_blocks.0.attn.hook_z"} <= set(names)
    decoder = [p for p in every if p.kind == "attention_out" and p.module.startswith("decoder.block.0.")]
    assert len(decoder) == 2 and {p.site.stream for p in decoder} == {"decoder"}


def test_experts_share_no_name_and_what_they_add_together_has_one():
    for family, group in (("mixtral", "model.layers.0.mlp.experts"), ("switch", "encoder.block.1.layer.1.mlp.experts")):
        every = found(family)[2]
        experts = [p for p in every if p.kind == "ffn" and p.site.group is not None and p.module.startswith(group)]
        assert len(experts) == 4 and all(p.hook_name.startswith(group) for p in experts)
    assert place_named(found("mixtral")[2], "blocks.0.hook_mlp_out").module == "model.layers.0.mlp"
    assert "blocks.0.mlp.hook_post" not in hook_names("qwen2_moe")  # the shared expert's is not the whole layer's
    assert "blocks.0.mlp.hook_post" not in hook_names("mamba")


def test_images_have_places_and_convolutions_count_channels():
    assert {"blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.attn.hook_z"} <= {p.hook_name for p in found("vit")[2]}
    model, batch, every = found("resnet")
    convolutions = [p for p in every if p.kind == "conv"]
    assert convolutions and {p.site.axis for p in convolutions} == {1}


@pytest.mark.parametrize(("family", "heads"), [("llama", 4), ("gpt2", 2), ("bert", 2), ("vit", 2), ("t5", 2)])
def test_the_width_of_z_is_that_of_all_heads(family: str, heads: int):
    for place in (p for p in found(family)[2] if p.kind == "attention_z"):
        assert (place.n_heads, place.width) == (heads, 16)


def test_shared_layers_have_no_places_of_modules():
    assert not [p for p in found("albert")[2] if p.module.startswith("albert.encoder.albert_layer_groups.0.albert_layers")]


def test_the_stream_before_a_block_is_the_stream_behind_the_one_before_it():
    every = found("gpt2")[2]
    assert place_named(every, "blocks.1.hook_resid_pre") == place_named(every, "blocks.0.hook_resid_post")
    assert place_named(every, "blocks.0.hook_resid_pre") != place_named(every, "blocks.0.hook_resid_post")
    assert place_named(every, "transformer.h.1").hook_name == "blocks.1.hook_resid_post"


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(UserError, match=r"got 'blocks.7.hook_resid_post'; the nearest are .*blocks.0.hook_resid_post"):
        place_named(found("llama")[2], "blocks.7.hook_resid_post")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_transformerlens_has_the_same_values_under_the_same_names(family: str):
    import copy

    from analysis.models.parity import bridge_around

    model, batch, every = found(family)
    bridge = bridge_around(copy.deepcopy(model))
    with torch.no_grad():
        cache = bridge.run_with_cache(batch["input_ids"][:1], return_type="logits")[1]
    for place in (p for p in every if p.kind != "matrix"):
        whole = {"input_ids": batch["input_ids"][:1]}
        values, _ = read_all(model, whole, [place])[place.name]
        torch.testing.assert_close(cache[place.hook_name].reshape(values.shape), values, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_what_a_plain_hook_sees_without_padding(family: str):
    model, batch, every = found(family)
    chosen = [p for p in every if p.site.plain]
    taken = read_all(model, batch, chosen)
    for place in chosen:
        tensor = seen_by_hook(model, batch, place)
        plain = rows_of(tensor, place.site.axis)
        values, rows = taken[place.name]
        assert values.shape[1] == place.width and rows.dtype == torch.int64
        kept = rows.sort().values
        torch.testing.assert_close(values[rows.argsort()], plain[kept], rtol=1e-5, atol=1e-6)
        mask = batch.get("attention_mask") if isinstance(batch, dict) and place.site.stream == "input" else None
        if mask is not None:
            assert torch.equal(kept, mask.reshape(-1).nonzero().squeeze(1))


def test_experts_of_a_stack_are_read_through_functional_calls():
    model, batch, every = found("mixtral")
    experts = [p for p in every if p.site.expert is not None and p.kind == "ffn"]
    taken = read_all(model, batch, experts)
    assert experts and sum(len(values) for values, _ in taken.values()) == 2 * 2 * int(batch["attention_mask"].sum())


def test_a_pass_can_end_behind_the_last_place():
    model, batch, every = found("llama")
    ran: list[str] = []
    for index in (0, 1):
        model.get_submodule(f"model.layers.{index}").register_forward_hook(lambda _, __, ___, i=index: ran.append(i))
    first = place_named(every, "blocks.0.hook_resid_post")
    taken = []
    with reading(model, [first], lambda place, values, rows: taken.append(values.clone()), stop=True) as session:
        assert session.run(batch) is None and session.run(batch) is None
    assert ran in ([0, 0], []) and len(taken) == 2
    assert torch.equal(taken[0], read_all(model, batch, [first])[first.name][0])


def test_nothing_is_left_behind_by_reading():
    model, batch, every = found("bert")
    with pytest.raises(ZeroDivisionError), reading(model, every, lambda *_: 1 / 0) as session:
        session.run(batch)
    assert bare(model)


def bare(model: torch.nn.Module) -> bool:
    return "forward" not in vars(model) and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# ---------------------------------------------------------------------------------------------------------------------
# Changing


@pytest.mark.parametrize("change", [lambda values, rows: values, lambda values, rows: values.clone()], ids=["same", "copy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_that_changes_nothing_keeps_every_bit(family: str, change: Any):
    model, batch, every = found(family)
    torch.backends.mha.set_fastpath_enabled(False)
    before = plain_run(model, batch)
    for place in every:
        with changing(model, place, change):
            assert torch.equal(plain_run(model, batch), before), place.name
    torch.backends.mha.set_fastpath_enabled(True)
    assert bare(model)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5", "vit", "resnet", "opt"])
def test_a_change_is_that_of_a_plain_hook_on_real_tokens(family: str):
    model, batch, every = found(family)
    dense = plain_run(model, batch)
    for place in (p for p in every if p.site.plain):
        _, rows = read_all(model, batch, [place])[place.name]

        def zeroed(tensor: torch.Tensor, place: Place = place, rows: torch.Tensor = rows) -> torch.Tensor:
            flat = rows_of(tensor, place.site.axis).clone()
            flat[rows] = flat[rows] * 0.5 + 1
            moved = tensor.movedim(place.site.axis, -1)
            return flat.reshape(moved.shape).movedim(-1, place.site.axis)

        with hooked(model, place, zeroed):
            wanted = plain_run(model, batch)
        with changing(model, place, lambda values, rows: values * 0.5 + 1):
            got = plain_run(model, batch)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        assert not torch.equal(got, dense) or place.kind == "matrix", place.name
        assert torch.equal(plain_run(model, batch), dense)


def test_padding_is_not_shown_and_stays_as_it_is():
    model, batch, every = found("llama")
    place = place_named(every, "blocks.1.hook_resid_post")
    seen: list[torch.Tensor] = []
    dense = plain_run(model, batch)
    with changing(model, place, lambda values, rows: seen.append(rows) or torch.zeros_like(values)):
        got = plain_run(model, batch)
    real = batch["attention_mask"].bool()
    assert torch.equal(seen[0], real.reshape(-1).nonzero().squeeze(1))
    assert torch.equal(got[~real], dense[~real]) and not torch.equal(got[real], dense[real])


def test_arguments_may_be_given_by_position():
    model, batch, every = found("gpt2")
    place = place_named(every, "blocks.0.hook_mlp_out")
    with torch.no_grad(), changing(model, place, lambda values, rows: values * 0):
        by_position = model(batch["input_ids"]).logits
        by_name = model(input_ids=batch["input_ids"]).logits
    assert torch.equal(by_position, by_name)


def test_two_changes_can_be_held_at_once_and_leave_in_any_error():
    model, batch, every = found("llama")
    one, two = place_named(every, "blocks.0.hook_mlp_out"), place_named(every, "blocks.1.attn.hook_z")
    dense = plain_run(model, batch)
    with (
        pytest.raises(CaptureError, match="blocks.1|o_proj"),
        changing(model, one, lambda v, r: v * 2),
        changing(model, two, lambda v, r: v[:1]),
    ):
        plain_run(model, batch)
    assert bare(model) and torch.equal(plain_run(model, batch), dense)


def test_a_compiled_model_is_changed_where_it_is_run_as_evaluations_run_it():
    from analysis.capture.running import observable, run

    model, batch, every = found("llama")
    place = place_named(every, "blocks.0.hook_resid_post")
    with changing(model, place, lambda values, rows: values * 2):
        wanted = plain_run(model, batch)
    compiled: Any = torch.compile(model, backend="eager")
    assert places(compiled, batch) == every
    with changing(compiled, place, lambda values, rows: values * 2), observable(compiled):
        got = run(compiled, batch).logits
    torch.testing.assert_close(got, wanted)
    assert bare(model)


def test_experts_can_be_changed_through_functional_calls():
    model, batch, every = found("mixtral")
    expert = next(p for p in every if p.site.expert is not None and p.kind == "ffn")
    dense = plain_run(model, batch)
    changed = 0
    for place in [p for p in every if p.kind == "ffn" and p.layer == expert.layer]:
        with changing(model, place, lambda values, rows: values * 0):
            changed += not torch.equal(plain_run(model, batch), dense)
    assert changed > 0 and torch.equal(plain_run(model, batch), dense)
