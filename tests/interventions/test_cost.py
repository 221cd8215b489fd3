"""Costs by hand: a linear model, a small LLaMA, and the stated SmolLM2 shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from analysis.interventions.cost import dense_cost
from analysis.interventions.experts import experts_of
from analysis.interventions.spec import Cost, MatrixCount
from tests import zoo


def pruned(model, names, share, layout="unstructured"):
    counts = [(name, model.get_parameter(name).numel()) for name in names]
    return Cost(share, tuple(MatrixCount(name, n, int(n * share), 0) for name, n in counts), layout)


def measured(model, example, context, names, causal=False):
    return dense_cost(model, example, context, {name: model.get_parameter(name) for name in names}, causal=causal)


def test_a_linear_model_costs_two_flops_a_weight_and_row():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    dense = measured(model, torch.zeros(1, 10), 1, ["0.weight"])
    assert dense.flops == 2 * (200 + 100) and dense.attention_flops == 0 and dense.position_bytes is None
    half = dense.at(pruned(model, ["0.weight"], 0.5))
    assert half.flops == 2 * (100 + 100) and half.parameters == 325 - 100 and half.decode_bytes is None
    assert half.resident_bytes == 4 * 325 - 400 + 200 / 8


def test_nothing_pruned_costs_what_the_dense_model_costs():
    model = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5))
    dense = measured(model, torch.zeros(1, 10), 1, ["0.weight"])
    assert dense.at(pruned(model, ["0.weight"], 0.0)).resident_bytes == dense.weight_bytes == 4 * 325
    assert dense.at(pruned(model, ["0.weight"], 0.01)).resident_bytes == 4 * 325, "a bit mask that costs more than it saves is not stored"


def test_two_of_four_in_sixteen_bits_is_nine_sixteenths():
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 1, bias=False)).to(torch.bfloat16)
    dense = measured(model, torch.zeros(1, 64, dtype=torch.bfloat16), 1, ["0.weight"])
    left = dense.at(pruned(model, ["0.weight"], 0.5, "2:4")).resident_bytes - 2 * 64
    assert left / (2 * 64 * 64) == 0.5625


@pytest.mark.parametrize(("layout", "mask"), [("block 4x4", 1 / 16 / 8), ("block 4x4 l2", 1 / 16 / 8), ("rows", 0), ("columns", 0)])
def test_tiles_need_a_bit_each_and_rows_none(layout, mask):
    model = nn.Linear(64, 64, bias=False)
    dense = measured(model, torch.zeros(1, 64), 1, ["weight"])
    assert dense.at(pruned(model, ["weight"], 0.5, layout)).resident_bytes == 64 * 64 * (2 + mask)


def test_a_decoder_by_hand():
    """2 layers, d 16, 4 heads of 4, 2 key-value heads, FFN 24, vocabulary 60; 7 positions."""
    model, batch = zoo.llama()
    n, names = 7, [name for name, p in model.named_parameters() if "layers" in name and p.dim() == 2]
    example = {"input_ids": batch["input_ids"][:1]}
    blocks = 2 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 24)
    full = measured(model, example, n, names)
    dense = measured(model, example, n, names, causal=True)
    assert full.attention_flops == 2 * 2 * 2 * n * n * 16
    assert full.flops == 2 * n * (blocks + 60 * 16) + full.attention_flops
    assert dense.attention_flops == full.attention_flops * (n + 1) / (2 * n), "a query sees the keys at or before it"
    assert sum(dense.flops_of.values()) == 2 * n * blocks
    assert dense.position_bytes == 2 * 2 * 8 * 4
    found = dense.at(pruned(model, names, 0.5)).decode_bytes
    assert found is not None
    kept = dense.weight_bytes - 4 * blocks + 4 * blocks / 2 + blocks / 8
    tokens = 4 * 60 * 16  # a token reads one row of the embedding table
    assert found[1] == pytest.approx(kept - tokens + dense.position_bytes * 8 + dense.product_bytes)
    assert found[32] == pytest.approx((kept - tokens) / 32 + dense.position_bytes * 8 + dense.product_bytes)
    assert "prefill" in dense.words and "B = 1 and 32" in dense.words


def test_fused_attention_counts_as_eager_attention_does():
    model, batch = zoo.llama()
    example = {"input_ids": batch["input_ids"][:1]}
    fused = measured(model, example, 7, [])
    model.set_attn_implementation("eager")
    eager = measured(model, example, 7, [])
    assert fused.attention_flops == eager.attention_flops > 0 and fused.flops == pytest.approx(eager.flops, rel=0.01)


def test_grouped_experts_count_as_many_flops_as_experts_one_by_one():
    (grouped, batch), (eager, _) = zoo.mixtral(), zoo.mixtral(implementation="eager")
    example = {"input_ids": batch["input_ids"][:1]}
    assert measured(grouped, example, 7, []).flops == measured(eager, example, 7, []).flops


def test_a_token_reads_the_experts_it_is_sent_to_and_a_batch_their_union():
    model, batch = zoo.mixtral()
    example = {"input_ids": batch["input_ids"][:1]}
    names = [name for name, p in model.named_parameters() if "experts" in name]
    dense = measured(model, example, 7, names)
    experts = sum(model.get_parameter(name).nbytes for name in names)
    tokens = model.get_input_embeddings().weight.nbytes
    found = dense.at(pruned(model, names, 0.0)).decode_bytes
    assert found is not None and dense.position_bytes is not None
    rest = dense.position_bytes * 8 + dense.product_bytes
    assert found[1] == pytest.approx(dense.weight_bytes - tokens - experts / 2 + rest)
    assert found[32] == pytest.approx((dense.weight_bytes - tokens - experts * 0.5**32) / 32 + rest)
    assert "2 of 4 experts a token" in dense.words
    half = dense.at(pruned(model, names, 0.5)).decode_bytes
    assert half is not None
    assert found[1] - half[1] == pytest.approx((experts / 2 - experts / 32) / 2), "what is pruned of an expert is saved where it is read"


@pytest.mark.parametrize(("made", "expected"), [
    (zoo.mixtral, {(4, 2)}), (zoo.qwen2_moe, {(4, 2)}), (zoo.switch, {(4, 1)}), (zoo.listed_experts, {(3, None)}), (zoo.llama, set()),
])  # fmt: skip
def test_experts_and_how_many_a_token_is_sent_to_are_found(made, expected):
    model, _ = made()
    found = experts_of(model)
    assert {(one.n, one.per_token) for one in found} == expected
    in_experts = {name for name, _ in model.named_parameters() if ".experts." in name}
    assert {name for one in found for name in one.parameters} == in_experts


def test_where_nothing_says_how_many_all_experts_are_counted_and_that_is_said():
    model, _ = zoo.listed_experts()
    (first, _) = experts_of(model)
    assert first.touched(1) == 1.0
    dense = measured(model, {"input_ids": torch.ones(1, 7, dtype=torch.long)}, 7, [])
    words = replace(dense, position_bytes=1.0).words
    assert "all experts counted where the router does not say" in words
