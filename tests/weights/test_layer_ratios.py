"""layer_ratios on models whose ratios are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.stats.ratios import Magnitudes, magnitude_kept
from analysis.weights.layer_ratios import LAYER_RATIOS, LayerRatiosConfig
from figures.spec import NothingToDraw
from store import Store
from tests.weights.holder import Holder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def measured(store, module, **settings):
    info = run(LAYER_RATIOS, {"model": subject_from(module, name="held")}, LayerRatiosConfig(**settings), store)
    return info, store.read(info, "layer_ratios"), store.read(info, "ratio_totals").set_index(["method", "density"])


def of(rows, method, density, column="tensor_density"):
    chosen = rows[(rows["method"] == method) & (rows["density"] == density)]
    return chosen.set_index("tensor")[column]


class ThreeShapes(nn.Module):
    """The shapes of METHODS 0.5, with a vector that must be left out."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Linear(32, 10)


def test_er_and_erk_have_the_densities_of_the_methods(store):
    _, rows, totals = measured(store, ThreeShapes())
    names = ["a.weight", "b.weight", "c.weight"]
    assert of(rows, "erk", 0.1)[names].tolist() == pytest.approx([0.256351, 0.051911, 0.581405], abs=1e-6)
    assert of(rows, "erk", 0.2)[names].tolist() == pytest.approx([0.550867, 0.111551, 1.0], abs=1e-6)
    assert of(rows, "er", 0.1)[names].tolist() == pytest.approx([0.328941, 0.077907, 0.109070], abs=1e-6)
    assert totals.loc[("erk", 0.1), "reached"] == pytest.approx(0.1)
    assert totals.loc[("erk", 0.1), "n_weights"] == 5360


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_global_and_lamp_keep_what_sorting_keeps(store, dtype):
    torch.manual_seed(0)
    module = Holder(a=torch.randn(30, 40).to(dtype), b=(torch.randn(20, 20) * 0.1).to(dtype), c=(torch.randn(7, 90) * 3).to(dtype))
    _, rows, _ = measured(store, module)
    sizes = np.array([1200, 400, 630])
    exact = [Magnitudes.of(p.detach().double().numpy()) for p in module.parameters()]
    for density in (0.05, 0.5, 0.9):
        kept = of(rows, "global", density)[["a", "b", "c"]].to_numpy() * sizes
        assert kept == pytest.approx(magnitude_kept(exact, density, "global"), abs=1e-6)
        kept = of(rows, "lamp", density)[["a", "b", "c"]].to_numpy() * sizes
        assert kept == pytest.approx(magnitude_kept(exact, density, "lamp"), abs=2)


def test_a_layer_that_collapses_is_flagged_and_the_floor_repairs_it(store):
    torch.manual_seed(0)
    module = Holder(small=torch.full((10, 10), 1e-4), large=torch.randn(100, 100).abs() + 1)
    _, rows, totals = measured(store, module, floor_percent=0.2)
    assert of(rows, "global", 0.5, "collapsed").to_dict() == {"small": True, "large": False}
    assert not of(rows, "global_floor", 0.5, "collapsed").any()
    assert of(rows, "global_floor", 0.5, "repaired").to_dict() == {"small": True, "large": False}
    assert not of(rows, "global", 0.5, "repaired").any()
    assert of(rows, "global_floor", 0.5)["small"] == pytest.approx(20 / 100), "0.2 per cent of 10,100 weights"
    assert totals.loc[("global", 0.5), "n_collapsed"] == 1
    assert totals.loc[("global_floor", 0.5), ["n_collapsed", "n_repaired", "least_kept"]].tolist() == [0, 1, 20]
    assert not of(rows, "lamp", 0.05, "collapsed").any(), "LAMP keeps one weight of each"


def test_a_floor_that_cannot_be_had_is_said_in_a_sentence_and_the_rest_is_there(store):
    _, rows, totals = measured(store, Holder(a=torch.randn(10, 10), b=torch.randn(10, 10)), floor_percent=30.0)
    assert totals.loc[("global_floor", 0.5), "infeasible"].startswith("the overall sparsity must be at most 0.4")
    assert np.isnan(totals.loc[("global_floor", 0.5), "reached"])
    assert of(rows, "global_floor", 0.5).empty
    assert len(of(rows, "global", 0.5)) == 2


def test_the_own_densities_of_a_pruned_checkpoint_are_shown_and_compared(store):
    torch.manual_seed(0)
    a, b = torch.randn(20, 20), torch.randn(40, 40)
    a[:5], b[:30] = 0, 0
    info, rows, totals = measured(store, Holder(a=a, b=b))
    own = (300 + 400) / 2000
    assert store.provenance(info)["facts"]["shown_density"] == pytest.approx(own)
    at = totals[totals["is_shown"]].reset_index().set_index("method")
    assert at["density"].unique() == pytest.approx([own])
    assert at.loc["uniform", "distance"] == pytest.approx((400 * (0.75 - own) + 1600 * (own - 0.25)) / 2000)
    assert at.loc["global", "distance"] == pytest.approx(0, abs=1e-9), "what is zero is smallest"
    assert totals.loc[("global", 0.9), "reached"] == pytest.approx(own), "no sparsity below the present one is made"
    assert rows.groupby("tensor")["own_density"].first().to_dict() == pytest.approx({"a": 0.75, "b": 0.25})


def test_embeddings_share_out_only_when_asked(store):
    model = nn.ModuleDict({"embed": nn.Embedding(50, 4), "layers": nn.ModuleList([nn.Linear(4, 4)])})
    _, rows, _ = measured(store, model)
    assert set(rows["tensor"]) == {"layers.0.weight"}
    _, rows, _ = measured(store, model, embeddings=True)
    assert set(rows["tensor"]) == {"embed.weight", "layers.0.weight"}


def test_a_stack_of_experts_has_the_ratio_of_one_of_them(store):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.is_transposed = False
            self.gate_up_proj = nn.Parameter(torch.randn(5, 8, 4))

    model = nn.ModuleDict({"layers": nn.ModuleList([Experts(), nn.Linear(64, 64)])})
    info, rows, _ = measured(store, model)
    stack = store.read(info, "ratio_tensors").set_index("tensor").loc["layers.0.gate_up_proj"]
    assert (list(stack["shape"]), stack["n_matrices"], stack["n_weights"]) == ([8, 4], 5, 160)
    found = of(rows, "erk", 0.05)
    ratio = found["layers.0.gate_up_proj"] / found["layers.1.weight"]
    assert ratio == pytest.approx((12 / 32) / (128 / 4096))


def test_a_run_goes_on_where_it_stopped(store, monkeypatch):
    import analysis.weights.layer_ratios as module

    torch.manual_seed(0)
    model, real, seen = ThreeShapes(), module._at_thresholds, []

    def failing(tensor, keys):
        seen.append(tensor.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(tensor, keys)

    monkeypatch.setattr(module, "_at_thresholds", failing)
    with pytest.raises(KeyboardInterrupt):
        measured(store, model)
    _, rows, _ = measured(store, model)
    assert seen == ["a.weight", "b.weight", "b.weight", "c.weight"]
    _, whole, _ = measured(Store(store.folder.parent / "other"), model)
    assert rows.to_json() == whole.to_json()


def test_its_figures_draw_and_a_model_without_blocks_says_so(store):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    torch.manual_seed(0)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(20, 24) for _ in range(3)])})
    info, _, _ = measured(store, model)
    for figure in LAYER_RATIOS.figures:
        spec = figure.draw(store.read(info, figure.table, columns=list(figure.columns)), store.provenance(info))
        assert to_plotly(spec).data
        assert to_matplotlib(spec).axes
    info, _, _ = measured(store, Holder(w=torch.randn(3, 3)))
    per_layer = LAYER_RATIOS.figure("per_layer")
    with pytest.raises(NothingToDraw, match="no numbered blocks"):
        per_layer.draw(store.read(info, per_layer.table), store.provenance(info))


def test_vectors_alone_are_refused_in_a_sentence(store):
    with pytest.raises(IncompatibleSubject, match="no weights with two or more axes, so there is nothing to share out"):
        measured(store, nn.LayerNorm(5))
