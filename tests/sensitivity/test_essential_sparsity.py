"""essential_sparsity, end to end: models trained here for seconds, drop points that are known, honest answers, resuming."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis import find_analysis
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.spec import IncompatibleSubject, UnknownName, UserError
from figures.spec import NothingToDraw
from store import Store

V = 60


def sealed(folder, subject, progress=None, **settings):
    store = Store(folder)
    settings = {"kl_positions": 64, **settings}
    return store, run(ESSENTIAL_SPARSITY, {"model": subject}, EssentialSparsityConfig(**settings), store, progress=progress)


@pytest.fixture(scope="module")
def trained():
    """A classifier of digits, trained for a second, with more weights than it needs."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.from_numpy(digits.data.astype(np.float32) / 16), torch.from_numpy(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict(), x, y.numpy()


def digits(trained):
    """The classifier as a subject: the same weights each time."""
    state, x, y = trained
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model.load_state_dict(state)
    return subject_from(model, data=GivenBatches(list(x[:800].split(100)), labels=y[:800]))


class Ignores(nn.Module):
    """Gives logits that its matrices have no part in: nothing can be noticed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.logits = nn.Parameter(torch.linspace(-1, 1, V))

    def forward(self, input_ids):
        hidden = input_ids[..., None].float() * torch.ones(8)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.logits.expand(*input_ids.shape, -1) + 0 * hidden.sum()


def windows(n=160, length=9, per_document=2):
    ids = torch.randint(3, V, (n, length), generator=torch.Generator().manual_seed(0))
    return TextWindows.from_ids(ids, document=np.arange(n) // per_document)


def test_digits_have_a_drop_point_with_an_interval_and_magnitude_beats_random(tmp_path, trained):
    store, info = sealed(tmp_path, digits(trained), methods="magnitude, random", eps="0.05, 0.2, 0.5")
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


def test_points_agree_with_a_naive_copy_pruned_by_hand(tmp_path, trained):
    subject = digits(trained)
    store, info = sealed(tmp_path, subject, levels="0.3, 0.6, 0.8")
    points, right = (store.read(info, "curve_points").query(f"metric == '{name}'").set_index("level") for name in ("loss", "accuracy"))
    from analysis.tasks import choose_task

    task = choose_task(subject, split="report", seed=0)
    x = torch.cat([batch.inputs for batch in task.batches(100)])
    labels = torch.from_numpy(task.data.labels)
    for level in (0.3, 0.6, 0.8):
        model = digits(trained).model
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


def test_measuring_the_dense_model_again_gives_exactly_its_loss(tmp_path, trained):
    store, info = sealed(tmp_path, digits(trained), levels="0.5")
    losses = store.read(info, "point_losses").query("level == 0")
    assert (losses["loss_sum"] == losses["dense_sum"]).all() and len(losses) == 400
    assert store.provenance(info)["facts"]["noise_floor"] == 0.0
    at_zero = store.read(info, "curve_points").query("level == 0").set_index("metric")
    assert at_zero.loc["loss", ["delta", "low", "high", "stderr"]].tolist() == [0, 0, 0, 0] and at_zero.loc["kl", "value"] == 0


def test_the_model_is_as_it_was_afterwards(tmp_path, trained):
    subject = digits(trained)
    before = {name: p.clone() for name, p in subject.model.state_dict().items()}
    sealed(tmp_path, subject, methods="magnitude, random", levels="0.5, 0.9")
    assert all(torch.equal(p, before[name]) for name, p in subject.model.state_dict().items())


def test_a_model_that_ignores_its_matrices_is_not_reached(tmp_path):
    store, info = sealed(tmp_path, subject_from(Ignores(), data=windows()), task="causal-lm")
    drops = store.read(info, "drop_points").query("metric == 'loss'")
    assert set(drops["answer"]) == {"not reached"} and drops["level"].isna().all() and (drops["last_level"] == 0.99).all()
    assert "not reached" in drops["words"].iloc[0]
    told = ESSENTIAL_SPARSITY.headlines(info.summaries)
    assert "at least" in told[0].label and told[0].share == 0.99


def test_a_model_without_labels_has_a_curve_of_its_own_outputs(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    store, info = sealed(tmp_path, subject_from(model, data=list(torch.randn(120, 12).split(24))))
    points = store.read(info, "curve_points")
    assert set(points["task"]) == {"divergence"} and set(points["unit"]) == {"relative error"} and set(points["metric"]) == {"loss"}
    assert points.set_index("level").loc[0.0, "value"] == 0
    drops = store.read(info, "drop_points")
    assert drops["eps"].tolist() == [0.05, 0.1, 0.2] and "reached" in set(drops["answer"])


def test_a_stopped_run_repeats_no_point_and_ends_the_same(tmp_path, trained):
    def stop(progress):
        if progress.what == "measuring levels" and progress.done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealed(tmp_path / "a", digits(trained), progress=stop)
    subject = digits(trained)
    passes: list[int] = []
    hook = subject.model.register_forward_hook(lambda *_: passes.append(1))
    store, stopped = sealed(tmp_path / "a", subject)
    hook.remove()
    whole_store, whole = sealed(tmp_path / "b", digits(trained))
    n_levels = len(whole_store.read(whole, "curve_points").query("metric == 'loss'"))
    n_batches = 8
    prepared = n_batches + 1  # the dense outputs that KL is measured from, and the one example that is costed
    assert len(passes) == (n_levels - 4) * n_batches + prepared
    for table in ("curve_points", "point_losses", "drop_points", "pruned_where", "point_tokens", "scope_tensors"):
        assert store.read(stopped, table).equals(whole_store.read(whole, table)), table


def test_progress_only_grows_and_names_about_how_many_levels_there_will_be(tmp_path, trained):
    seen = []
    store, info = sealed(tmp_path, digits(trained), progress=lambda p: seen.append((p.what, p.done, p.total, p.seconds_left)), eps="0.2")
    steps = [(done, total) for what, done, total, _ in seen if what == "measuring levels"]
    n = 1 + len(store.read(info, "curve_points").query("metric == 'loss'"))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps) and steps[-1][0] == n
    assert all(total >= done for done, total in steps) and 10 < steps[0][1] < 20
    assert any(left is not None and left > 0 for what, _, _, left in seen if what == "measuring levels")


def test_a_pattern_is_a_point_without_a_drop_point(tmp_path, trained):
    store, info = sealed(tmp_path, digits(trained), structures="2:4", levels="0.9")
    points = store.read(info, "curve_points").query("metric == 'loss'")
    assert points["level"].tolist() == [0, 0.5] and set(points["kind"]) == {"point"} and set(points["scope"]) == {"group"}
    assert store.read(info, "drop_points").empty


def test_the_scope_lists_every_parameter_with_a_reason_for_each_left_alone(tmp_path, trained):
    subject = digits(trained)
    store, info = sealed(tmp_path, subject, levels="0.5")
    scope = store.read(info, "scope_tensors")
    assert sorted(scope["tensor"]) == sorted(name for name, _ in subject.model.named_parameters())
    assert scope.query("in_scope")["tensor"].tolist() == ["0.weight", "2.weight"]
    assert scope.query("not in_scope")["reason"].str.len().min() > 0
    where = store.read(info, "pruned_where").query("level == 0.5")
    assert where["n_zero"].sum() == math.floor(0.5 * (64 * 64 * 2)) and where["n_weights"].sum() == 64 * 64 * 2


def test_costs_fall_with_the_level_and_state_their_operating_point(tmp_path, trained):
    store, info = sealed(tmp_path, digits(trained), levels="0.5")
    points = store.read(info, "curve_points").query("metric == 'loss'").set_index("level")
    assert points.loc[0.0, "cost_flops"] == 2 * (64 * 64 * 2 + 64 * 10)
    assert points.loc[0.5, "cost_flops"] == 2 * (64 * 64 + 64 * 10)
    assert points.loc[0.5, "cost_params"] == points.loc[0.0, "cost_params"] - 64 * 64
    assert points["cost_bytes"].isna().all(), "a classifier decodes nothing"
    assert "prefill: one pass over one example" in store.provenance(info)["facts"]["cost"]


def test_an_own_metric_is_measured_beside_the_loss(tmp_path, trained):
    store, info = sealed(tmp_path, digits(trained), levels="0.9", logits="3|8")
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


def test_figures_draw_on_screen_and_paper_and_name_the_denominator(tmp_path, trained):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store, info = sealed(tmp_path, digits(trained), methods="magnitude, random", eps="0.2")
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


def test_the_curve_can_be_drawn_before_the_run_has_ended(tmp_path, trained):
    """Live pages have the committed rows and a record without facts."""
    from figures.screen import to_plotly

    store, info = sealed(tmp_path, digits(trained), levels="0.5")
    record = {k: v for k, v in store.provenance(info).items() if k != "facts"}
    rows = store.read(info, "curve_points")
    assert to_plotly(ESSENTIAL_SPARSITY.figure("curve").draw(rows[rows["level"] == 0], record)).data


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, trained):
    with pytest.raises(UnknownName, match="methods must be of magnitude"):
        sealed(tmp_path, digits(trained), methods="magic")
    with pytest.raises(UserError, match="split must be report"):
        sealed(tmp_path, digits(trained), methods="wanda", split="all")
    with pytest.raises(UserError, match="eps must be above 0"):
        sealed(tmp_path, digits(trained), eps="0")
    with pytest.raises(UserError, match="logits must be two tokens"):
        sealed(tmp_path, digits(trained), logits="3")
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
