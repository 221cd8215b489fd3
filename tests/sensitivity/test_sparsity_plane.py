"""sparsity_plane, end to end on a tiny LLaMA: rows of every table, costs, fronts, what does not suit, resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.plane import SPARSITY_PLANE, SparsityPlaneConfig
from analysis.spec import UnknownName, UserError
from analysis.stats.pareto import pareto_front
from figures.spec import NothingToDraw
from store import Store
from tests import zoo
from tests.sensitivity_run import stop_after

V = 60
WEIGHTS = "magnitude, wanda, magnitude-2-of-4"


def llama():
    """A subject: 40 documents of one window of 16 tokens."""
    model, _ = zoo.llama()
    ids = torch.randint(3, V, (40, 16), generator=torch.Generator().manual_seed(1))
    return subject_from(model, name="tiny", data=TextWindows.from_ids(ids, document=np.arange(40)))


def sealed(folder, progress=None, subject=None, **settings):
    store = Store(folder)
    settings = {"interventions": WEIGHTS, "levels": "0.3, 0.6", "eps": "0.0001, 0.001, 0.01", **settings}
    return store, run(SPARSITY_PLANE, {"model": subject or llama()}, SparsityPlaneConfig(**settings), store, progress=progress)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A run of three ways of pruning weights."""
    return sealed(tmp_path_factory.mktemp("plane"), contexts="64")


def test_every_level_has_its_loss_and_a_point_has_one_level_beside_the_dense_model(weights):
    store, info = weights
    points = store.read(info, "curve_points").query("metric == 'loss'")
    levels = {method: sorted(rows["level"]) for method, rows in points.groupby("method")}
    assert levels == {"magnitude": [0, 0.3, 0.6], "wanda": [0, 0.3, 0.6], "magnitude-2-of-4": [0, 0.5]}
    assert (points.query("level == 0")["delta"] == 0).all()
    assert set(points["runs_on"]) == {"nothing", "2 of 4"} and set(points["target"]) == {"weights"}
    assert points["denominator"].str.contains("weights of").all() and set(points["split"]) == {"report"}


def test_costs_are_counted_at_both_lengths_and_every_phase(weights):
    store, info = weights
    costs = store.read(info, "plane_costs")
    assert set(costs["context"]) == {16, 64}
    assert set(zip(costs["phase"], costs["batch"])) == {("prefill", 1), ("decode", 1), ("decode", 32), ("resident", 1)}
    assert (costs.query("level == 0")["share"] == 1).all() and (costs.query("level > 0 and phase == 'prefill'")["share"] < 1).all()
    one = costs.query("method == 'magnitude' and level == 0.6 and phase == 'prefill'").set_index("context")["share"]
    assert one[64] > one[16], "the longer the text, the more of the work is attention, which pruned weights do not spare"
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index(["method", "level"])
    flops = costs.query("phase == 'prefill' and context == 16").set_index(["method", "level"])["absolute"]
    assert (points["cost_flops"] == flops.reindex(points.index)).all()


def test_fronts_are_picked_on_choice_documents_and_shown_as_on_the_report(weights):
    store, info = weights
    fronts, costs, choice = (store.read(info, name) for name in ("fronts", "plane_costs", "choice_points"))
    assert (fronts["level"] > 0).all() and len(fronts)
    at = costs.query("phase == 'prefill' and context == 16 and runs_on == 'nothing' and level > 0")
    chosen = at.merge(choice, on=["method", "seed", "level"], suffixes=("", "_choice"))
    on = pareto_front([1.0, *chosen["share"]], [0.0, *chosen["delta_choice"]])[1:]
    shown = fronts.query("phase == 'prefill' and context == 16 and runs_on == 'nothing'")
    assert set(zip(shown["method"], shown["level"])) == set(zip(chosen[on]["method"], chosen[on]["level"]))
    merged = shown.merge(chosen, on=["method", "level"], suffixes=("", "_cost"))
    assert (merged["delta"] == merged["delta_cost"]).all() and (merged["choice_delta"] == merged["delta_choice"]).all()
    assert (choice["delta"] != costs["delta"].iloc[0]).any()


def test_what_does_not_suit_the_model_is_left_out_with_the_reason(tmp_path, monkeypatch):
    from dataclasses import replace

    from analysis.interventions import catalogue

    listed = tuple(replace(one, needs_causal=False) if one.slug == "wanda" else one for one in catalogue.INTERVENTIONS)
    monkeypatch.setattr(catalogue, "INTERVENTIONS", listed)
    store, info = sealed(tmp_path)
    left_out = store.read(info, "not_applicable")
    assert left_out["method"].tolist() == ["wanda"] and "all tokens are seen" in left_out["reason"].iloc[0]
    asked = store.read(info, "interventions").set_index("method")["is_measured"]
    assert asked.to_dict() == {"magnitude": True, "wanda": False, "magnitude-2-of-4": True}
    assert set(store.read(info, "curve_points")["method"]) == {"magnitude", "magnitude-2-of-4"}


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(weights, tmp_path):
    import pandas as pd

    with pytest.raises(KeyboardInterrupt):
        sealed(tmp_path, stop_after(4), contexts="64")
    store, info = sealed(tmp_path, contexts="64")
    whole, first = weights
    for table in ("curve_points", "plane_costs", "choice_points", "fronts", "drop_points"):
        pd.testing.assert_frame_equal(store.read(info, table), whole.read(first, table))


def test_every_figure_draws_or_says_why_not(weights):
    from analysis.drawing import draw

    store, info = weights
    drawn = []
    for figure in SPARSITY_PLANE.figures:
        try:
            drawn.append(draw(store, info, figure.slug)[0])
        except NothingToDraw as why:
            assert str(why).endswith(".")
    assert len(drawn) >= 9 and all("report" in spec.sentence for spec in drawn)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UnknownName, match="magnitude, .*got 'magic'"):
        sealed(tmp_path, interventions="magic")


def test_a_grid_of_two_tells_whether_they_add_up(tmp_path):
    names = "magnitude@0.3, attention-topk@0.5, magnitude + attention-topk@0.5"
    store, info = sealed(tmp_path, interventions=names)
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index(["method", "level"])["delta"]
    assert set(points.loc["magnitude"].index) == {0, 0.3} and set(points.loc["attention-topk"].index) == {0, 0.5}
    both = points.loc["magnitude + attention-topk@0.5"]
    assert both[0.0] == pytest.approx(points["attention-topk", 0.5], abs=1e-12), "its level 0 is the other alone"
    grid = store.read(info, "combinations").set_index("level")
    assert grid.loc[0.3, "delta"] == both[0.3] and grid.loc[0.3, "delta_method"] == points["magnitude", 0.3]
    assert grid.loc[0.3, "excess"] == pytest.approx(both[0.3] - points["magnitude", 0.3] - points["attention-topk", 0.5])
    assert np.isnan(grid.loc[0.6, "excess"]), "its first was not measured alone there"
    shares = store.read(info, "plane_costs").query("phase == 'prefill' and context == 16").set_index(["method", "level"])["share"]
    saved = 1 - shares
    assert saved["magnitude + attention-topk@0.5", 0.3] == pytest.approx(saved["magnitude", 0.3] + saved["attention-topk", 0.5], rel=0.05)


def test_two_on_the_same_weights_are_left_out_with_the_reason(tmp_path):
    store, info = sealed(tmp_path, interventions="magnitude, magnitude + random@0.5", levels="0.3")
    left_out = store.read(info, "not_applicable")
    assert left_out["method"].tolist() == ["magnitude + random@0.5"] and "the only one on its weights" in left_out["reason"].iloc[0]


def test_a_chosen_configuration_is_measured_again_with_the_same_numbers(weights, tmp_path):
    import json

    from analysis.sensitivity.plane_asking import configuration
    from analysis.spec import make_config

    store, info = weights
    chosen = configuration(store.provenance(info)["config"], [("magnitude", 0.6), ("magnitude-2-of-4", 0.5)])
    config = make_config(SparsityPlaneConfig, json.loads(json.dumps(chosen)))
    again = run(SPARSITY_PLANE, {"model": llama()}, config, store)
    first, second = (store.read(one, "curve_points").query("metric == 'loss'").set_index(["method", "level"]) for one in (info, again))
    assert sorted(second.index) == [("magnitude", 0.0), ("magnitude", 0.6), ("magnitude-2-of-4", 0.0), ("magnitude-2-of-4", 0.5)]
    assert (second["delta"] == first["delta"].reindex(second.index)).all()


@pytest.mark.parametrize(("names", "words"), [
    ("default@0.5", "of one intervention"), ("magnitude + random + lamp", "must be of two"), ("magnitude@2", "the level of magnitude"),
    ("magnitude + attention-topk@0.5, magnitude + attention-topk @0.5", "each combination once"), ("", "at least one"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, names, words):
    with pytest.raises(UserError, match=words):
        sealed(tmp_path, interventions=names)
