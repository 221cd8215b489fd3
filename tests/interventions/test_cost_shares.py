"""Costs of what is not weights, by hand: shares of products, of what is touched, of pairs and keys; and other lengths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.interventions.cost import dense_cost
from analysis.interventions.spec import Cost, MatrixCount, Shares
from tests import zoo

N = 7


def line():
    """10 to 20 to 5, without biases, on one row: 400 + 200 FLOPs."""
    model = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    return dense_cost(model, torch.zeros(1, 10), 1, dict(model.named_parameters()), causal=False)


def decoder(scope="layers"):
    """2 layers, d 16, 4 heads of 4, 2 key-value heads, FFN 24, vocabulary 60; 7 positions."""
    model, batch = zoo.llama()
    members = {name: p for name, p in model.named_parameters() if scope in name and p.dim() == 2}
    return dense_cost(model, {"input_ids": batch["input_ids"][:1]}, N, members, causal=True)


def moved(point, batch=1):
    """Bytes per decoded token."""
    assert point.decode_bytes is not None
    return point.decode_bytes[batch]


def at(dense, **shares):
    return dense.at(Cost(0.5, shares=Shares(**shares)))


def test_shares_of_one_are_the_dense_model():
    for dense in (line(), decoder()):
        assert dense.at(Cost(0.0, shares=Shares())) == dense.at(Cost(0.0))
        assert dense.at(Cost(0.0)).flops == dense.flops


def test_products_that_are_not_executed_cost_nothing_and_selecting_costs_what_it_costs():
    assert at(line(), products={"2.weight": 0.25}).flops == 400 + 50
    assert at(line(), products={"2.weight": 0.25}, overhead_flops=30).flops == 400 + 50 + 30
    assert at(line(), products={"2.weight": 1.0}, overhead_flops=30).flops > line().flops, "selecting without saving costs more"


def test_positions_that_are_gone_spare_the_products_of_the_blocks_only():
    dense = decoder()
    blocks = sum(dense.flops_of.values())
    assert at(dense, positions=0.5).flops == pytest.approx(dense.flops - blocks / 2)


@pytest.mark.parametrize(("p", "batch", "union"), [(0.1, 1, 0.1), (0.1, 32, 1 - 0.9**32), (1.0, 32, 1.0), (0.0, 32, 0.0)])
def test_dynamic_shares_grow_to_their_union_over_the_batch(p, batch, union):
    dense = decoder("down_proj")
    size = sum(dense.bytes_of.values())
    full, part = moved(dense.at(Cost(0.0)), batch), moved(at(dense, touched=dict.fromkeys(dense.sizes, p)), batch)
    assert full - part == pytest.approx(size * (1 - union) / batch)


def test_ten_per_cent_of_sixteen_rows_touch_eighty_one_per_cent_of_the_weights(monkeypatch):
    from analysis.interventions import cost

    monkeypatch.setattr(cost, "BATCHES", (16,))
    dense = decoder("down_proj")
    spared = moved(dense.at(Cost(0.0)), 16) - moved(at(dense, touched=dict.fromkeys(dense.sizes, 0.1)), 16)
    assert 1 - 16 * spared / sum(dense.bytes_of.values()) == pytest.approx(0.81, abs=0.005)


def test_what_is_the_same_for_every_token_needs_no_union_and_need_not_be_held():
    dense = decoder("down_proj")
    name, half = next(iter(dense.sizes)), 0.5
    static, dynamic = (at(dense, touched={name: half}, static=static) for static in (True, False))
    full, spared = dense.at(Cost(0.0)), dense.bytes_of[name] / 2
    assert moved(full, 32) - moved(static, 32) == pytest.approx(spared / 32) and moved(dynamic, 32) > moved(static, 32)
    assert full.resident_bytes - static.resident_bytes == spared and dynamic.resident_bytes == full.resident_bytes
    assert full.parameters - static.parameters == dense.sizes[name] / 2 and dynamic.parameters == full.parameters


def test_pairs_keys_and_their_selection_are_counted_apart():
    dense = decoder()
    assert dense.position_bytes is not None
    full, keys = dense.at(Cost(0.0)), dense.position_bytes * N
    assert full.flops - at(dense, pairs=0.25).flops == pytest.approx(0.75 * dense.attention_flops)
    exact = at(dense, pairs=0.25, overhead_pairs=0.5)  # an exact top-k computes every score first
    assert full.flops - exact.flops == pytest.approx(0.25 * dense.attention_flops)
    assert moved(full) - moved(at(dense, keys_read=0.25)) == pytest.approx(0.75 * keys)
    assert moved(full) - moved(at(dense, keys_read=0.25, overhead_keys=0.5)) == pytest.approx(0.25 * keys)
    assert at(dense, keys_read=0.25).resident_bytes == full.resident_bytes, "what is not read is held all the same"
    assert full.resident_bytes - at(dense, keys_held=0.25).resident_bytes == pytest.approx(0.75 * keys)
    assert moved(at(dense, overhead_bytes=100)) - moved(full) == pytest.approx(100)


def test_weights_of_a_selection_are_shared_by_the_batch_and_held_as_all_weights_are():
    """Predictors and turns of a basis are weights: D has weights / B, M has them."""
    dense = decoder()
    full, own = dense.at(Cost(0.0)), at(dense, overhead_bytes=320)
    assert moved(own, 32) - moved(full, 32) == pytest.approx(320 / 32)
    assert own.resident_bytes - full.resident_bytes == 320
    routed = at(dense, overhead_bytes=320, overhead_touched=0.25)
    assert moved(routed) - moved(full) == pytest.approx(80), "of an expert's predictor what its tokens read"
    assert moved(routed, 32) - moved(full, 32) == pytest.approx(320 * (1 - 0.75**32) / 32) and routed.resident_bytes == own.resident_bytes


def test_what_selects_for_patches_of_an_image_is_counted_for_each_of_them():
    assert at(line(), overhead_flops=30, rows=17).flops == 600 + 17 * 30
    text = decoder()
    assert at(text, overhead_flops=30, rows=17).flops == pytest.approx(text.flops + N * 30), "of text at the length of the cost"


def test_pruned_weights_and_shares_multiply():
    dense = line()
    counts = (MatrixCount("2.weight", 100, 50, 0),)
    assert dense.at(Cost(0.5, counts, shares=Shares(products={"2.weight": 0.5}))).flops == 400 + 50


def test_another_length_is_what_measuring_there_gives():
    model, _ = zoo.llama()
    members = {name: p for name, p in model.named_parameters() if "layers" in name and p.dim() == 2}
    for causal in (True, False):
        short, long = (dense_cost(model, {"input_ids": torch.ones(1, n, dtype=torch.long)}, n, members, causal=causal) for n in (6, 24))
        stretched = short.stretched(24)
        assert stretched.flops == pytest.approx(long.flops) and stretched.attention_flops == pytest.approx(long.attention_flops)
        assert moved(stretched.at(Cost(0.0))) == pytest.approx(moved(long.at(Cost(0.0))))
        assert stretched.at(Cost(0.0)).resident_bytes == long.at(Cost(0.0)).resident_bytes and "24 positions" in stretched.words


def test_a_length_where_there_are_no_positions_and_shares_of_unknown_parameters_are_faults():
    with pytest.raises(ValueError, match="number of positions"):
        line().stretched(8)
    with pytest.raises(ValueError, match="'nowhere'"):
        at(line(), touched={"nowhere": 0.5})


def test_a_cost_is_read_back_as_it_was():
    cost = Cost(0.5, (MatrixCount("a", 4, 2, 1),), "2:4", {"heads": 3}, Shares(products={"a": 0.5}, static=True, pairs=0.3))
    assert Cost.of_text(cost.as_text()) == cost and Cost.of_text(Cost(0.1).as_text()) == Cost(0.1)
