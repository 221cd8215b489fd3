"""The per-layer summary of weight_sparsity, and what stands on a card about it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from analysis.models import subject_from
from analysis.runner import run
from analysis.weights.glance import STRIPES, headlines
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig
from store import Store


class Ffn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up_proj = torch.nn.Linear(4, 4)
        self.down_proj = torch.nn.Linear(4, 4, bias=False)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Ffn()
        self.self_attn = torch.nn.Linear(2, 2, bias=False)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(4, 2)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """Block 0: up all equal, down one weight of 16. Block 1: FFN all zero. Attention of both: half zeros."""
    model = Model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        model.layers[0].mlp.down_proj.weight.zero_()
        model.layers[0].mlp.down_proj.weight[0, 0] = 3.0
        for part in (model.layers[1].mlp.up_proj, model.layers[1].mlp.down_proj):
            part.weight.zero_()
        for block in model.layers:
            block.self_attn.weight[0] = 0.0
    store = Store(tmp_path_factory.mktemp("weights"))
    subject = subject_from(model)
    info = run(WEIGHT_SPARSITY, {"model": subject}, WeightSparsityConfig(), store)
    return SimpleNamespace(store=store, info=store.find(info.id))


def test_layer_weights_are_what_one_counts_by_hand(sealed):
    rows = sealed.store.read(sealed.info, "layer_weights", order_by=["layer", "kind"]).to_dict("records")
    found = {(row["layer"], row["kind"]): row for row in rows}
    ffn = found[0, "ffn"]
    assert (ffn["n_tensors"], ffn["n_weights"]) == (2, 32)  # the bias is no matrix
    assert ffn["zero_share"] == 15 / 32
    # up: all equal, PQ Index 0. down: one of 16 carries all, 1 - 16^(1 - 2) = 15/16. Their mean is 15/32.
    assert ffn["pq_index"] == pytest.approx(15 / 32)
    assert {layer for layer, _ in found} == {0, 1}, "the head is in no block"


def test_an_all_zero_block_has_no_pq_index_and_its_stripe_has_a_gap_there(sealed):
    rows = sealed.store.read(sealed.info, "layer_weights", order_by=["layer", "kind"])
    zero = rows[(rows["layer"] == 1) & (rows["kind"] == "ffn")].iloc[0]
    assert zero["zero_share"] == 1
    assert zero["pq_index"] != zero["pq_index"]
    assert STRIPES[0].values(sealed.info.summaries) == {0: pytest.approx(15 / 32)}


def test_near_zeros_of_a_layer_weigh_matrices_by_their_size(sealed):
    near = STRIPES[2].values(sealed.info.summaries)
    by_hand = {0: (15 + 2) / 36, 1: (32 + 2) / 36}
    assert near == pytest.approx(by_hand)


def test_headlines_are_counted_over_all_weights():
    scopes = [
        {"scope": "block matrices", "n_weights": 5, "n_tensors": 1, "zero_share": 0.5, "near_zero_share": 0.6},
        {"scope": "all weights", "n_weights": 1000, "n_tensors": 7, "zero_share": 0.25, "near_zero_share": 0.3},
    ]
    told = headlines({"totals": scopes})
    assert [(one.label, one.share) for one in told] == [("Weights exactly zero", 0.25), ("Weights near zero", 0.3)]
    assert told[0].over == "Of 1,000 weights in 7 tensors, tied ones once; exact zeros are near zero, too."
    assert headlines({}) == ()


def test_a_run_without_the_summary_has_an_empty_stripe():
    assert all(stripe.values({}) == {} for stripe in STRIPES)
