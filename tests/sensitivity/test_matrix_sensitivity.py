"""matrix_sensitivity, end to end: planted worth is found, points are those of models pruned by hand, resuming, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis.interventions.scope import weight_scope
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.candidates import _heads
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from analysis.spec import IncompatibleSubject, UnknownName, UserError
from analysis.tasks import choose_task
from store import Store
from tests import zoo
from tests.sensitivity.planted import ESSENTIAL, USELESS, planted
from tests.tasks.test_tasks import FakeTokenizer


def sealed(folder, subject, progress=None, **settings):
    store = Store(folder)
    return store, run(MATRIX_SENSITIVITY, {"model": subject}, MatrixSensitivityConfig(**settings), store, progress=progress)


def llama(n=48):
    model, _ = zoo.llama()
    for p in model.parameters():
        p.data.mul_(4.0 if p.dim() > 1 else 1.0)
    ids = torch.randint(3, 60, (n, 9), generator=torch.Generator().manual_seed(1))
    return subject_from(model, data=TextWindows.from_ids(ids, document=np.arange(n) // 2), tokenizer=FakeTokenizer())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return sealed(tmp_path_factory.mktemp("planted"), planted())


def test_a_planted_useless_matrix_has_zero_sensitivity_and_the_essential_ones_rank_first(found):
    store, info = found
    ranking = store.read(info, "matrix_ranking").set_index("tensor")
    useless = ranking.loc[[f"blocks.{USELESS}.up.weight", f"blocks.{USELESS}.down.weight"]]
    assert (useless["area"] == 0).all() and (useless["answer"] == "not reached").all()
    first = ranking.sort_values("rank").index[:2]
    assert set(first) == {f"blocks.{ESSENTIAL}.up.weight", f"blocks.{ESSENTIAL}.down.weight"}
    assert (ranking.loc[first, "rank_high"] <= 2).all() and (ranking.loc[first, "area"] > 0.02).all()
    points = store.read(info, "matrix_points").set_index(["tensor", "level"])
    assert not points.loc[f"blocks.{USELESS}.up.weight", "resolved"].any() and points.loc[first[0], "resolved"].any()
    down = points.loc[f"blocks.{USELESS}.down.weight"]
    assert (down["already_zero"] == 1).all() and (down["achieved"] == 1).all(), "existing zeros are no prunability"


def test_points_are_the_losses_of_copies_pruned_by_hand(found):
    store, info = found
    points = store.read(info, "matrix_points").set_index(["tensor", "level"])
    subject = planted()
    task = choose_task(subject, split="report", seed=0)
    x, y = torch.cat([batch.inputs for batch in task.batches(100)]), torch.from_numpy(task.data.labels)
    for block, name in ((0, "up"), (2, "down")):
        for level in (0.3, 0.5, 0.7):
            model = planted().model
            w = getattr(model.blocks[block], name).weight.data
            order = w.abs().flatten().argsort(stable=True)
            w.view(-1)[order[: math.floor(w.numel() * level + 1e-9)]] = 0
            with torch.no_grad():
                expected = float(nn.functional.cross_entropy(model(x), y))
            assert points.loc[(f"blocks.{block}.{name}.weight", level), "value"] == pytest.approx(expected, abs=1e-5)


def test_the_area_is_the_trapezoid_of_the_points(found):
    store, info = found
    points = store.read(info, "matrix_points").query("stage == 'grid'").pivot(index="tensor", columns="level", values="delta")
    ranking = store.read(info, "matrix_ranking").set_index("tensor")
    by_hand = (0.15 * points[0.3] + 0.1 * (points[0.3] + points[0.5]) + 0.1 * (points[0.5] + points[0.7])) / 0.7
    assert ranking["area"].to_dict() == pytest.approx(by_hand.to_dict(), abs=1e-12)


def test_the_bracket_around_the_tolerance_is_halved_only_where_it_is_crossed(found):
    store, info = found
    points = store.read(info, "matrix_points")
    refined = points.query("stage == 'refined'")
    crossed = points.query("stage == 'grid'").groupby("tensor")["delta"].max() > store.provenance(info)["facts"]["eps"]
    assert set(refined["tensor"]) <= set(crossed[crossed].index) and len(refined)
    assert set(refined["level"]) <= {0.15, 0.4, 0.6}


def test_how_many_levels_lie_in_one_pass_changes_no_number(tmp_path):
    """A level behind the first collapsed one is not measured with one level a pass, so it must not count with several."""
    rows = []
    for stack in (1, 2, 3, 4):
        subject = planted()
        subject.model.head.weight.data.mul_(8)
        store, info = sealed(tmp_path / str(stack), subject, levels="0.5, 0.9, 0.95, 1", stack=stack, refine=1, proxies="none")
        assert info.key == (rows[0][0].key if rows else info.key)
        rows.append((info, store.read(info, "matrix_points"), store.read(info, "matrix_ranking")))
    _, points, ranking = rows[0]
    assert points.query("stage == 'grid'").groupby("tensor").size().min() < 4, "something collapses before the last level"
    for _, other, ranked in rows[1:]:
        assert other[["tensor", "level", "stage"]].values.tolist() == points[["tensor", "level", "stage"]].values.tolist()
        assert other["delta"].tolist() == pytest.approx(points["delta"].tolist(), abs=1e-5)
        assert ranked["area"].tolist() == pytest.approx(ranking["area"].tolist(), abs=1e-5)
        assert ranked["note"].tolist() == ranking["note"].tolist()


@pytest.mark.parametrize("family", ["bert", "vit", "opt", "t5", "llama"])
def test_a_head_has_its_rows_of_query_key_and_value_and_its_columns_of_what_reads_it(family):
    """8 rows of 16 weights, three times, and 8 columns, wherever the four matrices lie. LLaMA's heads share keys: rows of query alone."""
    model, batch = zoo.ZOO[family]()
    heads = list(_heads(model, batch, weight_scope(model)))
    assert len(heads) == {"t5": 12, "llama": 8}.get(family, 4)
    for one in heads:
        made, _ = one.at(1.0)
        went = [(model.get_parameter(name) != values).nonzero() for name, values in made.items()]
        shape = sorted((len(at[:, 0].unique()), len(at[:, 1].unique())) for at in went)
        assert (one.n, shape) == ((128, [(4, 16), (16, 4)]) if family == "llama" else (512, [(8, 16)] * 3 + [(16, 8)]))


def test_predictions_rank_the_planted_model_and_a_useless_matrix_is_predicted_as_such(found):
    store, info = found
    agreement = store.read(info, "proxy_agreement").set_index(["proxy", "level"])
    assert agreement.loc[("fisher", 0.7), "spearman"] > 0.5 and agreement.loc[("fisher", 0.7), "n"] == 6
    assert agreement["words"].str.len().min() > 0
    proxies = store.read(info, "matrix_proxies").set_index(["proxy", "tensor", "level"])
    assert proxies.loc[("fisher", f"blocks.{USELESS}.up.weight", 0.7), "value"] == 0


def test_every_parameter_is_in_scope_or_has_a_reason(found):
    store, info = found
    scope = store.read(info, "scope_tensors").set_index("tensor")
    assert set(scope.index) == {name for name, _ in planted().model.named_parameters()}
    assert scope.loc["head.weight", "reason"] and not scope.loc["head.weight", "in_scope"]
    assert "head.weight" not in set(store.read(info, "matrix_ranking")["tensor"])


def test_all_figures_draw_on_screen_and_paper(found):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly
    from figures.spec import NothingToDraw

    store, info = found
    for figure in MATRIX_SENSITIVITY.figures:
        try:
            spec = figure.draw(store.read(info, figure.table), store.provenance(info))
        except NothingToDraw:
            assert figure.slug == "parts"
            continue
        assert to_plotly(spec).data and to_matplotlib(spec).axes


def test_a_stopped_run_counts_nothing_twice_and_ends_the_same(tmp_path, found):
    def stop(progress):
        if progress.what == "measuring matrices" and progress.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealed(tmp_path, planted(), progress=stop)
    store, stopped = sealed(tmp_path, planted())
    whole_store, whole = found
    for table in ("matrix_points", "matrix_losses", "matrix_ranking", "proxy_agreement", "scope_tensors"):
        assert store.read(stopped, table).equals(whole_store.read(whole, table)), table
    assert store.provenance(stopped)["facts"]["restarting"]["passes"] < whole_store.provenance(whole)["facts"]["restarting"]["passes"]


def test_the_model_is_as_it_was_afterwards(tmp_path):
    subject = planted()
    before = {name: p.clone() for name, p in subject.model.state_dict().items()}
    sealed(tmp_path, subject, levels="0.5", proxies="none")
    assert all(torch.equal(p, before[name]) for name, p in subject.model.state_dict().items())


def test_levels_are_not_climbed_once_the_loss_has_collapsed_and_that_is_said(tmp_path):
    subject = planted()
    subject.model.head.weight.data.mul_(8)  # sure of itself, so that being wrong costs much
    store, info = sealed(tmp_path, subject, levels="0.5, 0.9, 0.95, 1", stack=1, refine=0, proxies="none")
    ranking = store.read(info, "matrix_ranking").set_index("tensor")
    stopped = ranking[ranking["note"].fillna("").str.contains("had collapsed")]
    assert len(stopped) and not any(name.startswith(f"blocks.{USELESS}") for name in stopped.index)
    points = store.read(info, "matrix_points")
    assert points.groupby("tensor").size()[stopped.index].max() < 4


def test_removing_a_head_is_zeroing_the_columns_that_read_it(tmp_path):
    store, info = sealed(tmp_path, llama(), units="heads, ffn", proxies="none", group_levels="1", refine=0)
    points = store.read(info, "matrix_points").set_index("tensor")
    assert (points["kind"].value_counts() == 8).all() and (points["achieved"] == 1).all()
    one = llama()
    task = choose_task(one, split="report", seed=0)
    dense = task.losses(one.model)
    for name, cut in (
        ("model.layers.1.self_attn head 2", lambda m: m.model.layers[1].self_attn.o_proj.weight.data[:, 8:12].zero_()),
        ("model.layers.0.mlp neurons 6 to 11", lambda m: m.model.layers[0].mlp.down_proj.weight.data[:, 6:12].zero_()),
    ):
        pruned = llama()
        cut(pruned.model)
        gone = task.losses(pruned.model)
        expected = (gone.total.sum() - dense.total.sum()) / dense.n.sum()
        assert points.loc[name, "delta"] == pytest.approx(expected, abs=2e-6) and abs(expected) > 1e-4


def test_a_shortlist_is_measured_and_the_others_are_listed_as_only_predicted(tmp_path):
    store, info = sealed(tmp_path, planted(), measure=2, refine=0)
    ranking = store.read(info, "matrix_ranking")
    assert ranking["area"].notna().sum() == 2 and (ranking[ranking["area"].isna()]["words"] == "not measured, only predicted").all()
    assert len(ranking) == 6 and len(store.read(info, "matrix_proxies")) == 3 * 3 * 6


def test_a_divergence_task_has_no_gradients_and_says_so(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))
    store, info = sealed(tmp_path, subject_from(model, data=list(torch.randn(60, 12).split(10))))
    assert set(store.read(info, "matrix_points")["unit"]) == {"relative error"}
    assert set(store.read(info, "matrix_proxies")["proxy"]) == {"output error"}
    assert "no gradient" in store.provenance(info)["facts"]["no_gradients"]


def test_refusals_name_the_setting(tmp_path):
    with pytest.raises(UnknownName, match="units must be of matrices, heads, ffn"):
        sealed(tmp_path, planted(), units="layers")
    with pytest.raises(UserError, match="method must be one"):
        sealed(tmp_path, planted(), method="magnitude, random")
    with pytest.raises(UserError, match="levels must hold a level above 0"):
        sealed(tmp_path, planted(), levels="0")
    with pytest.raises(IncompatibleSubject, match="has no inputs"):
        sealed(tmp_path, subject_from(planted().model))
