"""weight_sparsity on tensors whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig
from store import Filter, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


class Holder(nn.Module):
    """Named tensors, nothing to run."""

    def __init__(self, **tensors):
        super().__init__()
        for name, values in tensors.items():
            setattr(self, name, nn.Parameter(torch.as_tensor(values), requires_grad=False))


def measured(store, module, **settings):
    info = run(WEIGHT_SPARSITY, {"model": subject_from(module, name="held")}, WeightSparsityConfig(**settings), store)
    rows = store.read(info, "tensors").set_index("tensor")
    return info, rows


def test_the_hand_computed_pq_index_of_the_methods_hold(store):
    vectors = {"equal": [1.0, 1, 1, 1], "one": [1.0, 0, 0, 0], "two": [1.0, 1, 0, 0], "rising": [1.0, 2, 3, 4], "pair": [3.0, -4]}
    _, rows = measured(store, Holder(**vectors))
    wanted = {"equal": 0, "one": 0.75, "two": 0.5, "rising": 0.055586, "pair": 0.005128}
    for name, value in wanted.items():
        assert rows.loc[name, "pq_index"] == pytest.approx(value, abs=1e-6), name
    assert rows.loc["two", "hoyer"] == pytest.approx(0.585786, abs=1e-6)
    assert rows.loc["two", "zero_share"] == 0.5
    assert rows.loc["pair", "l2"] == 5
    assert rows.loc["pair", "l1"] == 7
    assert rows.loc["pair", "max_abs"] == 4


def test_an_all_zero_tensor_has_no_index_and_a_single_weight_no_hoyer(store):
    _, rows = measured(store, Holder(zeros=torch.zeros(5), single=torch.ones(1)))
    assert np.isnan(rows.loc["zeros", "pq_index"]), "NULL, which pandas shows as NaN"
    assert rows.loc["zeros", ["zero_share", "near_zero_share"]].tolist() == [1, 1]
    assert rows.loc["single", "pq_index"] == 0
    assert np.isnan(rows.loc["single", "hoyer"])


def test_near_zeros_are_relative_to_the_tensor(store):
    """rms of (1, 1, 1, tiny) is 0.866; scaling the tensor changes nothing."""
    values = torch.tensor([1.0, 1.0, 1.0, 0.0005], dtype=torch.float64)
    _, rows = measured(store, Holder(small=values, large=values * 1e6, clear=values + torch.tensor([0, 0, 0, 0.01], dtype=torch.float64)))
    assert rows["n_near_zero"].to_dict() == {"small": 1, "large": 1, "clear": 0}
    assert rows["n_zero"].sum() == 0


def test_a_tied_tensor_counts_once_and_names_its_twin(store):
    model = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(3, 4, bias=False)})
    model["b"].weight = model["a"].weight
    info, rows = measured(store, model)
    assert len(rows) == 1
    assert list(rows.iloc[0]["tied"]) == ["b.weight"]
    totals = store.read(info, "totals").set_index("scope")
    assert totals.loc["all weights", "n_weights"] == 12


def test_values_that_are_no_numbers_are_counted_and_left_out(store):
    _, rows = measured(store, Holder(w=[1.0, float("nan"), float("inf"), 1.0]))
    assert rows.loc["w", "n_nonfinite"] == 2
    assert rows.loc["w", "pq_index"] == 0
    assert rows.loc["w", "l1"] == 2


def test_the_histogram_holds_every_weight_in_its_bin(store):
    values = torch.tensor([0.0, 1e-9, 1.0, 1.124, -1.125, 5000.0])
    info, _ = measured(store, Holder(w=values))
    rows = store.read(info, "tensor_histograms", where=[Filter("tensor", "=", "w")], order_by=["low"])
    assert rows["n_weights"].tolist() == [2, 2, 1, 1]
    assert rows["low"].tolist() == [0, 1.0, 1.125, 4096]
    assert rows["high"].tolist()[:3] == [2.0**-20, 1.125, 1.25]


def test_slices_change_nothing(store, monkeypatch):
    torch.manual_seed(0)
    module = Holder(w=torch.randn(337, 29), stack=torch.randn(3, 40, 9), v=torch.randn(50))
    _, whole = measured(store, module)
    monkeypatch.setattr("analysis.weights.reading.SLICE", 10)
    monkeypatch.setattr("analysis.weights.reading.WIDENED", 10)
    _, sliced = measured(Store(store.folder.parent / "other"), module)
    for column in ("pq_index", "hoyer", "l1", "l2", "near_zero_share"):
        assert sliced.loc["w", column] == pytest.approx(whole.loc["w", column], rel=1e-12)


def test_planted_zeros_of_a_block_matrix_show_in_their_scope(store):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])

    model = Model()
    with torch.no_grad():
        model.layers[1].weight[:2] = 0
    info, rows = measured(store, model)
    assert rows.loc["layers.1.weight", "zero_share"] == 0.5
    assert rows.loc["layers.1.weight", "layer"] == 1
    assert rows.loc["layers.1.weight", "role"] == "weight"
    totals = store.read(info, "totals").set_index("scope")
    assert totals.loc["block matrices", "zero_share"] == 0.25
    assert totals.loc["all weights", "n_weights"] == 40 + 2 * 20


def test_a_model_without_weights_is_refused_in_a_sentence(store):
    with pytest.raises(IncompatibleSubject, match="no weight tensors"):
        measured(store, nn.ReLU())
