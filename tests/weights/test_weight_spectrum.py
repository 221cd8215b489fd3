"""weight_spectrum on matrices whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import subject_from
from analysis.runner import run
from analysis.spec import IncompatibleSubject
from analysis.weights.weight_spectrum import WEIGHT_SPECTRUM, WeightSpectrumConfig
from figures.spec import NothingToDraw
from store import Store
from tests.weights.holder import Holder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def measured(store, module, **settings):
    info = run(WEIGHT_SPECTRUM, {"model": subject_from(module, name="held")}, WeightSpectrumConfig(**settings), store)
    return info, store.read(info, "spectra").set_index("tensor")


def test_the_diagonal_of_the_methods(store):
    info, rows = measured(store, Holder(w=torch.diag(torch.tensor([4.0, 3.0, 0.0]))))
    row = rows.loc["w"]
    assert row["stable_rank"] == pytest.approx(1.5625)
    assert row["effective_rank"] == pytest.approx(1.979626, abs=1e-6)
    assert row["effective_rank_share"] == pytest.approx(1.979626 / 3, abs=1e-6)
    assert (row["numerical_rank"], row["break_even_rank"], row["exact"], row["n_computed"]) == (2, 1, True, 3)
    assert row["break_even_error"] == pytest.approx(0.6)
    assert (row["frobenius"], row["largest"]) == pytest.approx((5, 4))
    ranks = store.read(info, "spectrum_ranks").set_index("max_error")["rank"]
    assert ranks.to_dict() == {0.1: 2, 0.05: 2, 0.01: 2}
    curve = store.read(info, "spectrum_curves", order_by=["rank"])
    assert curve["value"].tolist() == pytest.approx([4, 3, 0])
    assert curve["energy"].tolist() == pytest.approx([0.64, 1, 1])
    assert curve["parameter_ratio"].tolist() == pytest.approx([6 / 9, 12 / 9, 2])


def test_a_random_matrix_stands_out_no_more_than_chance_and_a_planted_direction_does(store):
    torch.manual_seed(0)
    noise = torch.randn(200, 100)
    _, rows = measured(store, Holder(noise=noise, planted=noise + 2 * torch.ones(200, 100)), factorise=0)
    assert rows.loc["noise", "stable_rank_ratio"] == pytest.approx(1, abs=0.1)
    assert rows.loc["planted", "stable_rank_ratio"] < 0.1


def test_a_tall_embedding_is_not_skipped_and_says_how_it_was_done(store):
    torch.manual_seed(0)
    model = nn.Module()
    model.embed = nn.Embedding(60_000, 6)
    _, rows = measured(store, model)
    assert rows.loc["embed.weight", "method"] == "gram"
    values = torch.linalg.svdvals(model.embed.weight.detach().double())
    assert rows.loc["embed.weight", "largest"] == pytest.approx(float(values[0]), rel=1e-9)
    assert rows.loc["embed.weight", "numerical_rank"] == 6


def test_beyond_the_limit_only_the_largest_are_computed_and_that_is_said(store):
    torch.manual_seed(0)
    info, rows = measured(store, Holder(w=torch.randn(40, 30)), limit=20, largest=5)
    row = rows.loc["w"]
    assert (row["method"], row["exact"], row["n_computed"]) == ("randomised", False, 5)
    assert row["missing"] == "Only the 5 largest of 30 singular values were computed."
    assert np.isnan(row["effective_rank"])
    assert row["stable_rank"] > 1
    assert store.read(info, "spectrum_ranks")["rank"].isna().all()
    assert store.read(info, "spectrum_curves")["rank"].tolist() == [1, 2, 3, 4, 5]


def test_stacked_experts_are_matrices_of_their_own(store):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.is_transposed = False
            self.gate_up_proj = nn.Parameter(torch.stack([torch.eye(4), torch.ones(4, 4), 2 * torch.eye(4)]))

    model = nn.ModuleDict({"layers": nn.ModuleList([Experts()])})
    info, _ = measured(store, model)
    rows = store.read(info, "spectra", order_by=["matrix"])
    assert rows["matrix"].tolist() == [0, 1, 2]
    assert rows["stable_rank"].tolist() == pytest.approx([4, 1, 4])
    layers = store.read(info, "layer_spectra").iloc[0]
    assert layers["n_matrices"] == 3
    assert layers["effective_rank_share"] == pytest.approx((1 + 0.25 + 1) / 3)


def test_a_convolution_is_flattened_and_a_transposed_store_turned(store):
    from transformers.pytorch_utils import Conv1D

    _, rows = measured(store, nn.ModuleDict({"conv": nn.Conv2d(3, 8, 2), "gpt": Conv1D(5, 7)}))
    assert tuple(rows.loc["conv.weight", ["n_out", "n_in"]]) == (8, 12)
    assert tuple(rows.loc["gpt.weight", ["n_out", "n_in"]]) == (5, 7)


def test_zero_and_broken_matrices_say_why_numbers_are_missing(store):
    bad = torch.ones(4, 4)
    bad[1, 1] = float("nan")
    info, rows = measured(store, Holder(zero=torch.zeros(4, 4), bad=bad, good=torch.eye(4)))
    assert rows.loc["zero", "missing"] == "All of its weights are zero."
    assert rows.loc["bad", "missing"].startswith("1 of its weights are NaN or infinite")
    assert rows.loc[["zero", "bad"], "stable_rank"].isna().all()
    assert rows.loc["good", "missing"] is None or rows["missing"].isna()["good"]
    assert set(store.read(info, "spectrum_curves")["tensor"]) == {"zero", "good"}


def test_planted_outliers_are_counted_and_seen_to_gather(store):
    torch.manual_seed(0)
    w = torch.randn(300, 200).clamp(-3, 3)
    w[7, :20] = 40.0
    _, rows = measured(store, Holder(w=w, calm=torch.randn(300, 200).clamp(-3, 3)), factorise=0)
    assert (rows.loc["w", "n_outliers"], rows.loc["calm", "n_outliers"]) == (20, 0)
    assert rows.loc["w", "outlier_share"] == pytest.approx(20 / 60_000)
    assert rows.loc["w", "outlier_rows"] == 1
    assert rows.loc["w", "outlier_columns"] == pytest.approx(2 / 20)
    assert np.isnan(rows.loc["calm", "outlier_rows"])


def test_cheaper_parts_hold_no_more_parameters_than_allowed_and_find_what_is_there(store):
    torch.manual_seed(0)
    low = torch.randn(64, 6) @ torch.randn(6, 96)
    sparse = torch.zeros(64, 96)
    sparse.view(-1)[torch.randperm(64 * 96)[:400]] = 3.0
    info, _ = measured(store, Holder(low=low, sparse=sparse, both=low + sparse, noise=torch.randn(64, 96)), parameters=0.4)
    rows = store.read(info, "factorisations").set_index(["tensor", "method"])
    assert set(rows.index.get_level_values("method")) == {"low_rank", "sparse", "sparse_low_rank", "dense_sparse"}
    assert (rows["n_parameters"] <= 0.4 * rows["n_rows"] * 96).all()
    error = rows["error"]
    assert error["low", "low_rank"] < 1e-6
    assert error["sparse", "sparse"] == 0
    assert error["both", "sparse_low_rank"] < 0.01 < 0.03 < min(error["both", "low_rank"], error["both", "sparse"])
    assert error["noise"].min() > 0.1
    assert rows.loc[("noise", "low_rank"), "index_bits"] == 0
    assert rows.loc[("noise", "sparse"), "index_bits"] > 0.9 * 64 * 96 * 0.9, "a mask of 40 % costs nearly a bit per place"


def test_a_run_goes_on_where_it_stopped(store, monkeypatch):
    import analysis.weights.weight_spectrum as module

    model = Holder(a=torch.eye(3), b=torch.eye(4), c=torch.eye(5))
    real, seen = module.measure, []

    def failing(tensor, *rest):
        seen.append(tensor.name)
        if tensor.name == "c" and len(seen) == 3:
            raise KeyboardInterrupt
        return real(tensor, *rest)

    monkeypatch.setattr(module, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        measured(store, model)
    _, rows = measured(store, model)
    assert seen == ["a", "b", "c", "c"]
    assert sorted(rows.index) == ["a", "b", "c"]


def test_its_figures_draw_and_those_without_anything_to_show_say_so(store):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    torch.manual_seed(0)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(20, 24) for _ in range(3)])})
    info, _ = measured(store, model)
    for figure in WEIGHT_SPECTRUM.figures:
        spec = figure.draw(store.read(info, figure.table, columns=list(figure.columns)), store.provenance(info))
        assert to_plotly(spec).data
        assert to_matplotlib(spec).axes
    info, _ = measured(store, Holder(w=torch.eye(3)), factorise=0)
    figures = {f.slug: f for f in WEIGHT_SPECTRUM.figures}
    for slug in ("stable_rank", "factorisations"):
        with pytest.raises(NothingToDraw):
            figures[slug].draw(store.read(info, figures[slug].table), store.provenance(info))


def test_vectors_alone_are_refused_in_a_sentence(store):
    with pytest.raises(IncompatibleSubject, match="no weights with two or more axes, so there is no spectrum"):
        measured(store, nn.LayerNorm(5))
