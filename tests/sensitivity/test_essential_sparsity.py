"""essential_sparsity, end to end: models trained here for seconds, drop points that are known, honest answers, resuming."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis import find_analysis
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.spec import IncompatibleSubject, UnknownName, UserError
from figures.spec import NothingToDraw
from store import Store
from tests.sensitivity_run import Ignores, digits

V = 60


def sealed(folder, subject, progress=None, **settings):
    store = Store(folder)
    settings = {"kl_positions": 64, **settings}
    return store, run(ESSENTIAL_SPARSITY, {"model": subject}, EssentialSparsityConfig(**settings), store, progress=progress)


def windows(n=160, length=9, per_document=2):
    ids = torch.randint(3, V, (n, length), generator=torch.Generator().manual_seed(0))
    return TextWindows.from_ids(ids, document=np.arange(n) // per_document)


def test_digits_have_a_drop_point_with_an_interval_and_magnitude_beats_random(tmp_path):
    store, info = sealed(tmp_path, digits(), methods="magnitude, random", eps="0.05, 0.2, 0.5")
    drops = store.read(info, "drop_points")
    shown = drops[drops["is_headline"]].set_index("method")
    assert (shown["eps"] == 0.2).all() and shown.loc["magnitude", "answer"] == "reached"
    row = shown.loc["magnitude"]
    assert 0 < row["low"] <= row["level"] <= row["high"] < 1
    assert row["level"] > shown.loc["random", "level"] + 0.1
    gap = store.read(info, "drop_differences").iloc[0]
    assert gap["low"] > 0 and (gap["one_rank_high"], gap["other_rank_low"]) == (1, 2)
    told = ESSENTIAL_SPARSITY.headlines(info.summaries)
    assert told[0].share == row["level"] and "200" not in told[0].label and "400 documents" in told[0].over


def test_points_agree_with_a_naive_copy_pruned_by_hand(tmp_path):
    subject = digits()
    store, info = sealed(tmp_path, subject, levels="0.3, 0.6, 0.8")
    points, right = (store.read(info, "curve_points").query(f"metric == '{name}'").set_index("level") for name in ("loss", "accuracy"))
    from analysis.tasks import choose_task

    task = choose_task(subject, split="report", seed=0)
    x = torch.cat([batch.inputs for batch in task.batches(100)])
    labels = torch.from_numpy(task.data.labels)
    for level in (0.3, 0.6, 0.8):
        model = digits().model
        weights = [model[0].weight.data, model[2].weight.data]
        flat = torch.cat([w.flatten() for w in weights])
        gone = set(flat.abs().argsort(stable=True)[: math.floor(len(flat) * level + 1e-9)].tolist())
        keep = torch.tensor([i not in gone for i in range(len(flat))])
        for w, part in zip(weights, keep.split([w.numel() for w in weights])):
            w.mul_(part.view_as(w))
        with torch.no_grad():
            logits = model(x)
        expected, accuracy = float(nn.functional.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())
        assert points.loc[level, "value"] == pytest.approx(expected, abs=1e-6)
        assert right.loc[level, "value"] == pytest.approx(accuracy) and right.loc[0.0, "value"] > 0.95
        assert right.loc[level, "delta"] == pytest.approx(right.loc[0.0, "value"] - accuracy)
        assert points.loc[level, "achieved"] == pytest.approx(level, abs=1 / len(flat))


def test_measuring_the_dense_model_again_gives_exactly_its_loss(tmp_path):
    store, info = sealed(tmp_path, digits(), levels="0.5")
    losses = store.read(info, "point_losses").query("level == 0")
    assert (losses["loss_sum"] == losses["dense_sum"]).all() and len(losses) == 400
    assert store.provenance(info)["facts"]["noise_floor"] == 0.0
    at_zero = store.read(info, "curve_points").query("level == 0").set_index("metric")
    assert at_zero.loc["loss", ["delta", "low", "high", "stderr"]].tolist() == [0, 0, 0, 0] and at_zero.loc["kl", "value"] == 0


def test_the_model_is_as_it_was_afterwards(tmp_path):
    subject = digits()
    before = {name: p.clone() for name, p in subject.model.state_dict().items()}
    sealed(tmp_path, subject, methods="magnitude, random", levels="0.5, 0.9")
    assert all(torch.equal(p, before[name]) for name, p in subject.model.state_dict().items())


def test_a_model_that_ignores_its_matrices_is_not_reached(tmp_path):
    store, info = sealed(tmp_path, subject_from(Ignores(V), data=windows()), task="causal-lm")
    drops = store.read(info, "drop_points").query("metric == 'loss'")
    assert set(drops["answer"]) == {"not reached"} and drops["level"].isna().all() and (drops["last_level"] == 0.99).all()
    assert "not reached" in drops["words"].iloc[0]
    told = ESSENTIAL_SPARSITY.headlines(info.summaries)
    assert "at least" in told[0].label and told[0].share == 0.99


def test_where_zeros_were_there_before_the_answer_says_which_share_was_zero(tmp_path):
    """s* is of the share asked for; random pruning removes more weights that are not zero than the share of zeros says."""
    subject = digits()
    with torch.no_grad():
        weight = subject.model[2].weight
        weight[weight.abs() < weight.abs().median()] = 0
    store, info = sealed(tmp_path, subject, methods="random, magnitude", eps="0.2", levels="0.05, 0.1, 0.2, 0.4, 0.6, 0.8")
    drops = store.read(info, "drop_points").query("metric == 'loss'").set_index("method")
    points = store.read(info, "curve_points").query("metric == 'loss' and method == 'random'")
    row = drops.loc["random"]
    assert row["answer"] == "reached" and row["achieved"] > row["level"] + 0.1
    assert row["achieved"] == pytest.approx(np.interp(row["level"], points["level"], points["achieved"]))
    assert f"{100 * row['level']:.1f} %; there {100 * row['achieved']:.1f} % of the scope were zero" in row["note"]
    assert "share asked for" not in str(drops.loc["magnitude", "note"]), "of magnitude the zeros go first"


def test_a_model_without_labels_has_a_curve_of_its_own_outputs(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    store, info = sealed(tmp_path, subject_from(model, data=list(torch.randn(120, 12).split(24))))
    points = store.read(info, "curve_points")
    assert set(points["task"]) == {"divergence"} and set(points["unit"]) == {"relative error"} and set(points["metric"]) == {"loss"}
    assert points.set_index("level").loc[0.0, "value"] == 0
    drops = store.read(info, "drop_points")
    assert drops["eps"].tolist() == [0.05, 0.1, 0.2] and "reached" in set(drops["answer"])


def test_a_stopped_run_repeats_no_point_and_ends_the_same(tmp_path):
    def stop(progress):
        if progress.what == "measuring levels" and progress.done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealed(tmp_path / "a", digits(), progress=stop)
    subject = digits()
    passes: list[int] = []
    hook = subject.model.register_forward_hook(lambda *_: passes.append(1))
    store, stopped = sealed(tmp_path / "a", subject)
    hook.remove()
    whole_store, whole = sealed(tmp_path / "b", digits())
    n_levels = len(whole_store.read(whole, "curve_points").query("metric == 'loss'"))
    n_batches = 8
    prepared = n_batches + 1  # the dense outputs that KL is measured from, and the one example that is costed
    assert len(passes) == (n_levels - 4) * n_batches + prepared
    for table in ("curve_points", "point_losses", "drop_points", "pruned_where", "point_tokens", "scope_tensors"):
        assert store.read(stopped, table).equals(whole_store.read(whole, table)), table


def test_progress_only_grows_and_names_about_how_many_levels_there_will_be(tmp_path):
    seen = []
    store, info = sealed(tmp_path, digits(), progress=lambda p: seen.append((p.what, p.done, p.total, p.seconds_left)), eps="0.2")
    steps = [(done, total) for what, done, total, _ in seen if what == "measuring levels"]
    n = 1 + len(store.read(info, "curve_points").query("metric == 'loss'"))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps) and steps[-1][0] == n
    assert all(total >= done for done, total in steps) and 10 < steps[0][1] < 20
    assert any(left is not None and left > 0 for what, _, _, left in seen if what == "measuring levels")


def test_a_pattern_is_a_point_without_a_drop_point(tmp_path):
    store, info = sealed(tmp_path, digits(), structures="2:4", levels="0.9")
    points = store.read(info, "curve_points").query("metric == 'loss'")
    assert points["level"].tolist() == [0, 0.5] and set(points["kind"]) == {"point"} and set(points["scope"]) == {"group"}
    assert store.read(info, "drop_points").empty


def test_patterns_without_a_continuum_are_measured_once_each_and_answered_with_the_last_within(tmp_path):
    """n:4 has three patterns; between them there is nothing to interpolate, and no level of a grid gives another one (METHODS A1)."""
    store, info = sealed(tmp_path, digits(), structures="n:4", eps="0.001, 0.05, 5")
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("level")
    assert points.index.tolist() == [0, 0.25, 0.5, 0.75] and set(points["kind"]) == {"patterns"}
    assert points["achieved"].tolist() == [0, 0.25, 0.5, 0.75] and points["native_value"].tolist() == [4, 3, 2, 1]
    drops = store.read(info, "drop_points").query("metric == 'loss'").set_index("eps")
    for eps in (0.001, 0.05):
        within = [level for level in points.index if (points["delta"].loc[:level] <= eps).all()]
        assert drops.loc[eps, "answer"] == "reached" and drops.loc[eps, "level"] == within[-1]
    assert drops.loc[0.05, "level"] == 0.25 and drops.loc[0.05, ["low", "high", "below", "above"]].tolist() == [0.25, 0.25, 0.25, 0.5]
    assert "3 of 4 kept is the last pattern within" in drops.loc[0.05, "words"] and "undecided" not in drops.loc[0.05, "words"]
    assert drops.loc[0.001, "level"] == 0 and "no pattern is within" in drops.loc[0.001, "words"]
    assert drops.loc[5, "answer"] == "not reached" and "all patterns are within, to 1 of 4 kept" in drops.loc[5, "words"]
    assert drops["bend"].isna().all(), "a bend is of a continuum"
    (told,) = ESSENTIAL_SPARSITY.headlines(info.summaries)
    assert told.share == 0.25 and "3 of 4 kept" in told.over
    curve = ESSENTIAL_SPARSITY.figure("curve").draw(store.read(info, "curve_points"), store.provenance(info))
    assert "3 of 4 kept" in curve.sentence and "there is nothing between them" in " ".join(curve.notes)


def test_a_pattern_whose_interval_holds_the_tolerance_is_undecided(tmp_path):
    store, info = sealed(tmp_path / "a", digits(), structures="n:4")
    row = store.read(info, "curve_points").query("metric == 'loss' and level == 0.5").iloc[0]
    assert row["low"] < row["delta"] < row["high"]
    for name, eps in (("b", (row["delta"] + row["high"]) / 2), ("c", (row["delta"] + row["low"]) / 2)):
        store, info = sealed(tmp_path / name, digits(), structures="n:4", eps=str(eps))
        drop = store.read(info, "drop_points").query("metric == 'loss'").iloc[0]
        assert (drop["low"], drop["level"], drop["high"]) == (0.25, 0.5 if name == "b" else 0.25, 0.5)
        assert "undecided: 2 of 4 kept" in drop["words"]


def test_the_scope_lists_every_parameter_with_a_reason_for_each_left_alone(tmp_path):
    subject = digits()
    store, info = sealed(tmp_path, subject, levels="0.5")
    scope = store.read(info, "scope_tensors")
    assert sorted(scope["tensor"]) == sorted(name for name, _ in subject.model.named_parameters())
    assert scope.query("in_scope")["tensor"].tolist() == ["0.weight", "2.weight"]
    assert scope.query("not in_scope")["reason"].str.len().min() > 0
    where = store.read(info, "pruned_where").query("level == 0.5")
    assert where["n_zero"].sum() == math.floor(0.5 * (64 * 64 * 2)) and where["n_weights"].sum() == 64 * 64 * 2


def test_costs_fall_with_the_level_and_state_their_operating_point(tmp_path):
    store, info = sealed(tmp_path, digits(), levels="0.5")
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("level")
    assert points.loc[0.0, "cost_flops"] == 2 * (64 * 64 * 2 + 64 * 10)
    assert points.loc[0.5, "cost_flops"] == 2 * (64 * 64 + 64 * 10)
    assert points.loc[0.5, "cost_params"] == points.loc[0.0, "cost_params"] - 64 * 64
    assert points["cost_bytes"].isna().all(), "a classifier decodes nothing"
    assert "prefill: one pass over one example" in store.provenance(info)["facts"]["cost"]


def test_an_own_metric_is_measured_beside_the_loss(tmp_path):
    store, info = sealed(tmp_path, digits(), levels="0.9", logits="3|8")
    rows = store.read(info, "curve_points").query("metric == 'logit difference'").set_index("level")
    assert rows.loc[0.0, "delta"] == 0 and rows.loc[0.9, "delta"] != 0 and set(rows["unit"]) == {"logits"}


def test_a_masked_language_model_has_a_curve_with_its_own_unit_and_shown_tokens(tmp_path):
    from tests import zoo
    from tests.tasks.test_tasks import FakeTokenizer

    model, _ = zoo.bert()
    subject = subject_from(model, data=windows(), tokenizer=FakeTokenizer())
    store, info = sealed(tmp_path, subject, levels="0.5", eps="0.05")
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("level")
    assert points.loc[0.5, "unit"] == "nats per masked token" and points.loc[0.5, "delta"] != 0 and points.loc[0.5, "perplexity"] > 1
    tokens, losses = store.read(info, "point_tokens"), store.read(info, "point_losses")
    assert tokens["example"].nunique() == 4 and (tokens.query("level == 0")["delta"] == 0).all()
    whole = losses.query("level == 0.5").set_index("document")
    one = tokens.query("level == 0.5").groupby("document").agg(loss=("loss", "sum"), n=("loss", "size"))
    assert (one["n"] <= whole["n"][one.index]).all() and (one["loss"] <= whole["loss_sum"][one.index] + 1e-9).all()


def test_figures_draw_on_screen_and_paper_and_name_the_denominator(tmp_path):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store, info = sealed(tmp_path, digits(), methods="magnitude, random", eps="0.2")
    for figure in ESSENTIAL_SPARSITY.figures[:-1]:
        spec = figure.draw(store.read(info, figure.table), store.provenance(info))
        assert to_plotly(spec).data and to_matplotlib(spec).axes
    curve = ESSENTIAL_SPARSITY.figure("curve").draw(store.read(info, "curve_points"), store.provenance(info))
    assert "8,192 weights of 2 tensors" in " ".join(curve.notes) and "s*(0.2) of magnitude" in curve.sentence
    assert "fine-tuning" in " ".join(curve.notes)
    prefill = ESSENTIAL_SPARSITY.figure("prefill").draw(store.read(info, "curve_points"), store.provenance(info))
    assert prefill.data.query("level == 0")["cost"].tolist() == [1, 1] and "prefill" in " ".join(prefill.notes)
    with pytest.raises(NothingToDraw, match="nothing is decoded"):
        ESSENTIAL_SPARSITY.figure("decode").draw(store.read(info, "curve_points"), store.provenance(info))


@pytest.mark.parametrize(
    ("low", "high", "drawn"),
    [(None, None, [0.4]), (0.3, None, [0.3, 0.4, 0.9]), (0.3, 0.5, [0.3, 0.4, 0.5]), (0.0, 0.4, [0.0, 0.4])],
    ids=["one document", "open end", "both ends", "from 0"],
)
def test_the_bar_of_a_drop_point_is_its_interval_and_nothing_where_there_is_none(tmp_path, low, high, drawn):
    store, info = sealed(tmp_path, digits(), levels="0.5")
    drop = {"curve": "magnitude", "eps": 0.05, "level": 0.4, "low": low, "high": high, "last_level": 0.9, "words": "", "is_headline": True}
    record = {**store.provenance(info), "facts": {**store.provenance(info)["facts"], "drops": [drop]}}
    data = ESSENTIAL_SPARSITY.figure("curve").draw(store.read(info, "curve_points"), record).data
    assert data.query("series == 's*: magnitude'")["level"].tolist() == drawn


def test_the_curve_can_be_drawn_before_the_run_has_ended(tmp_path):
    """Live pages have the committed rows and a record without facts."""
    from figures.screen import to_plotly

    store, info = sealed(tmp_path, digits(), levels="0.5")
    record = {k: v for k, v in store.provenance(info).items() if k != "facts"}
    rows = store.read(info, "curve_points")
    assert to_plotly(ESSENTIAL_SPARSITY.figure("curve").draw(rows[rows["level"] == 0], record)).data


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UnknownName, match="methods must be of magnitude"):
        sealed(tmp_path, digits(), methods="magic")
    with pytest.raises(UserError, match="split must be report"):
        sealed(tmp_path, digits(), methods="wanda", split="all")
    with pytest.raises(UserError, match="eps must be above 0"):
        sealed(tmp_path, digits(), eps="0")
    with pytest.raises(UserError, match="logits must be two tokens"):
        sealed(tmp_path, digits(), logits="3")
    with pytest.raises(IncompatibleSubject, match="has no inputs"):
        sealed(tmp_path, subject_from(nn.Linear(3, 3)))


@pytest.mark.parametrize("family", ["gpt2", "t5", "mixtral", "resnet", "lstm"])
def test_families_of_models_have_a_curve_and_come_back(tmp_path, family):
    from tests import zoo

    model, batch = zoo.ZOO[family]()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    settings = {"task": "divergence", "split": "all", "levels": "0.5"}
    store, info = sealed(tmp_path, subject_from(model, name=family, data=[batch] * 3), **settings)
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("level")
    assert points.loc[0.0, "value"] == 0 < points.loc[0.5, "value"]
    assert points.loc[0.5, "cost_flops"] < points.loc[0.0, "cost_flops"]
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_it_is_registered():
    assert find_analysis("essential_sparsity") is ESSENTIAL_SPARSITY


@pytest.mark.models
def test_minilm_has_a_drop_point_with_an_interval_on_a_thousand_tokens(tmp_path):
    """Its own outputs are what it is compared with; at 10 % relative error about a tenth may go, of random weights far less."""
    from analysis.models import open_subject

    subject = open_subject("minilm", "python-docs", n_tokens=1024, window=64)
    settings = {"levels": "0.01, 0.05, 0.1, 0.15, 0.2", "n_tokens": 1024, "window": 64, "kl_positions": 0}
    store, info = sealed(tmp_path, subject, methods="magnitude, random", **settings)
    drops = store.read(info, "drop_points").query("eps == 0.1").set_index("method")
    assert set(drops["unit"]) == {"relative error"} and set(drops["answer"]) == {"reached"}
    row = drops.loc["magnitude"]
    assert row["level"] == pytest.approx(0.106, abs=0.004)
    assert 0.1 < row["low"] < row["level"] < row["high"] < 0.115
    assert drops.loc["random", "high"] < row["low"] / 3
