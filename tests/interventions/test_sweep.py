"""A sweep against naive passes, on toys whose every number is known; and what an evaluation keeps of the dense model."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from analysis.interventions.levels import Levels
from analysis.interventions.measuring import Evaluation, Measured
from analysis.interventions.metrics import LogitDifference
from analysis.interventions.spec import Applied, Cost, Held, Shares
from analysis.interventions.sweep import Baseline, Curve, Point, sweep
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.spec import UserError
from analysis.stats.losses import kl_divergence
from analysis.tasks import Losses, choose_task, mean_loss

V = 30
EPS = (0.01, 0.05, 0.1)


class Scales(nn.Module):
    """A language model that trusts its logits by a factor: the factor is what the toy intervention takes away."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, V)
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, input_ids):
        return self.table(input_ids) * self.factor


class Fades(Held):
    """Level s sets the factor to 1 - s; remembers what it was asked for."""

    def __init__(self, model, levels=None) -> None:
        self.model, self.levels, self.facts, self.asked = model, levels, {}, []

    def at(self, level):
        self.asked.append(level)
        with torch.no_grad():
            self.model.factor.fill_(1 - level)
        return Applied(level, level, "one factor")

    def cost(self, level):
        return Cost(level)


@contextmanager
def held(model, levels=None):
    try:
        yield Fades(model, levels)
    finally:
        with torch.no_grad():
            model.factor.fill_(1.0)


def subject(n=60, per_document=1):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, V, (n, 8), generator=generator)
    return subject_from(Scales(), data=TextWindows.from_ids(ids, document=np.arange(n) // per_document))


def evaluation(made, **more):
    return Evaluation(made.model, choose_task(made, "causal-lm"), 16, **more)


def test_a_sweep_gives_the_losses_of_naive_passes():
    made = subject()
    evaluated = evaluation(made)
    baseline = Baseline.of(evaluated.dense())
    with held(made.model) as fades:
        points = list(sweep(fades, evaluated, baseline, Levels.of("0.25, 0.5, 1", (0.05,))))
    assert [point.level for point in points] == fades.asked == [0, 0.25, 0.5, 1]
    task = choose_task(made, "causal-lm")
    for point in points:
        naive = copy.deepcopy(made.model)
        naive.factor.data.fill_(1 - point.level)
        assert point.measured["loss"].total == pytest.approx(task.losses(naive, 7).total, abs=1e-9)
    assert mean_loss(points[-1].measured["loss"]).value == pytest.approx(math.log(V), abs=1e-6), "a factor of 0 leaves equal logits"


def test_level_zero_measured_again_is_the_dense_loss_to_the_bit():
    made = subject()
    evaluated = evaluation(made)
    dense = evaluated.dense()
    with held(made.model) as fades:
        (again,) = sweep(fades, evaluated, Baseline.of(dense), Levels.of("0", (0.05,)))
    assert (again.measured["loss"].total == dense["loss"].total).all()


def test_known_points_are_not_measured_again_and_do_not_change_what_follows():
    made = subject()
    evaluated = evaluation(made)
    baseline = Baseline.of(evaluated.dense())
    levels = Levels.of("adaptive", (0.01, 0.05))
    with held(made.model) as fades:
        whole = list(sweep(fades, evaluated, baseline, levels))
    back = [Point.of_arrays(point.arrays()) for point in whole[:6]]
    with held(made.model) as fades:
        rest = list(sweep(fades, evaluated, baseline, levels, known=back))
    assert [p.level for p in rest] == [p.level for p in whole[6:]] == fades.asked
    one, two = Curve.of(whole, baseline), Curve.of([*back, *rest], baseline)
    assert one.drop_point(0.05) == two.drop_point(0.05)


def test_a_point_intervention_is_measured_at_its_own_levels_only():
    made = subject()
    evaluated = evaluation(made)
    with held(made.model, levels=(0.0, 0.5)) as fades:
        list(sweep(fades, evaluated, Baseline.of(evaluated.dense()), Levels.of("adaptive", (0.05,))))
    assert fades.asked == [0.0, 0.5]


class Counts(Fades):
    """Knows what it removed only once the model has run: a tenth less than planned."""

    def measured_share(self):
        return None if self.asked[-1] == 0 else self.asked[-1] - 0.1

    def cost(self, level):
        return Cost(level, shares=Shares(pairs=1 - (self.measured_share() or 0.0)))


def test_what_only_running_tells_is_read_after_it_and_survives_being_stored():
    made = subject()
    measured = evaluation(made)
    baseline = Baseline.of(measured.dense())
    points = list(sweep(Counts(made.model), measured, baseline, Levels(EPS, (0.0, 0.5)), dense=baseline.measured))
    assert [point.achieved for point in points] == [0.0, 0.4]
    back = Point.of_arrays(points[1].arrays())
    assert back.achieved == 0.4 and back.cost == points[1].cost == Cost(0.5, shares=Shares(pairs=0.6))


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.1])
def test_the_drop_point_is_where_the_loss_solved_by_hand_crosses(eps):
    """A model that knows each answer with logit 8: its loss at level s is ln(1 + (V - 1) exp(-8 (1 - s)))."""
    ids = (torch.arange(40)[:, None] + torch.arange(6)) % V
    made = subject_from(Scales(), data=TextWindows.from_ids(ids))
    made.model.table.weight.data = 8.0 * torch.eye(V).roll(1, dims=1)
    evaluated = evaluation(made)
    baseline = Baseline.of(evaluated.dense())
    with held(made.model) as fades:
        curve = Curve.of(sweep(fades, evaluated, baseline, Levels.of("adaptive", (0.01, 0.05, 0.1), resolution=0.0125)), baseline)
    dense = math.log(1 + (V - 1) * math.exp(-8))
    truth = 1 + math.log((math.exp(dense + eps) - 1) / (V - 1)) / 8
    found = curve.drop_point(eps)
    assert found.answer == "reached" and found.point.level == pytest.approx(truth, abs=0.002)
    assert found.low.level == pytest.approx(found.high.level), "no document differs from any other"


def test_an_infinite_loss_ends_the_curve_and_survives_in_words():
    made = subject()
    evaluated = evaluation(made)
    dense = evaluated.dense()
    baseline = Baseline.of(dense)
    endless = Measured({"loss": Losses(**{**dense["loss"].arrays(), "n_endless": np.ones(60, np.int64)})})
    curve = Curve.of([Point(0.0, dense), Point(0.5, dense), Point(0.6, endless)], baseline)
    drop = curve.drop_point(0.05)
    assert drop.point.level == 0.5 and drop.answer == "reached"
    with pytest.raises(UserError, match="must be finite"):
        Baseline.of(endless)


def test_losses_of_other_positions_are_never_subtracted():
    made = subject()
    evaluated = evaluation(made)
    dense = evaluated.dense()
    fewer = Measured({"loss": Losses(**{**dense["loss"].arrays(), "n": dense["loss"].n - 1})})
    with pytest.raises(ValueError, match="same positions"):
        Baseline.of(dense).increase(fewer)


# --------------------------------------------------------------------------------------------------- measuring


def test_kl_to_the_dense_model_is_that_of_all_positions_where_all_are_asked_for():
    made = subject()
    evaluated = evaluation(made, kl_positions=10**6)
    assert evaluated.dense()["kl"].total.sum() == 0
    before = made.model(torch.from_numpy(made.data.token_ids)).detach()
    with held(made.model) as fades:
        fades.at(0.7)
        found = evaluated.measure()["kl"]
    kept = torch.zeros(60, 8, dtype=torch.bool)
    kept[:, :-1] = True  # the last position predicts nothing
    expected, same = kl_divergence(before, before * 0.3, kept)
    assert found.total == pytest.approx(expected.sum(dim=1).numpy(), abs=1e-9) and (found.n == 7).all()
    assert found.n_right.sum() == same.sum() == 420, "scaling logits changes no first choice"


def test_kl_on_a_sample_is_near_that_of_all_and_always_of_the_same_positions():
    made = subject(400)
    some, every = evaluation(made, kl_positions=800), evaluation(made, kl_positions=10**6)
    for evaluated in (some, every):
        evaluated.dense()
    with held(made.model) as fades:
        fades.at(0.7)
        one, again, whole = some.measure()["kl"], some.measure()["kl"], every.measure()["kl"]
    assert (one.total == again.total).all() and 500 < one.n.sum() < 900
    assert mean_loss(one).value == pytest.approx(mean_loss(whole).value, rel=0.1)


def test_the_size_of_batches_changes_no_number():
    made = subject(50)
    found = []
    for size in (50, 7):
        evaluated = Evaluation(made.model, choose_task(made, "causal-lm"), size, kl_positions=100, shown=4)
        evaluated.dense()
        with held(made.model) as fades:
            fades.at(0.7)
            found.append(evaluated.measure())
    for metric in ("loss", "kl"):
        assert (
            found[0][metric].total == pytest.approx(found[1][metric].total, abs=1e-9) and (found[0][metric].n == found[1][metric].n).all()
        )
    assert sorted(found[0].tokens) == sorted(found[1].tokens)


def test_a_divergence_is_the_same_from_kept_outputs_and_from_a_copy(monkeypatch):
    torch.manual_seed(0)
    x = list(torch.randn(40, 6).split(10))
    found = []
    for kept in (2**30, 0):
        monkeypatch.setattr("analysis.interventions.measuring.KEPT_BYTES", kept)
        torch.manual_seed(1)
        made = subject_from(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)), data=GivenBatches(x))
        evaluated = Evaluation(made.model, choose_task(made), 10)
        assert evaluated.dense()["loss"].total.sum() == 0
        made.model[0].weight.data *= 0.5
        found.append(evaluated.measure()["loss"].total)
    assert (found[0] == found[1]).all() and found[0].min() > 0


def test_nothing_is_measured_against_a_dense_model_that_was_not_seen():
    with pytest.raises(ValueError, match="call dense first"):
        evaluation(subject(), kl_positions=10).measure()


def test_a_logit_difference_is_read_at_the_last_position():
    made = subject()
    found = evaluation(made, metrics=(LogitDifference(4, 7),)).dense()["logit difference"]
    logits = made.model(torch.from_numpy(made.data.token_ids))[:, -1].detach()
    assert found.total == pytest.approx((logits[:, 4] - logits[:, 7]).double().numpy(), abs=1e-6)
    with pytest.raises(UserError, match="below 30"):
        evaluation(made, metrics=(LogitDifference(4, 30),)).dense()


def test_the_loss_of_a_shown_example_position_by_position_adds_up_to_its_sum():
    made = subject()
    found = evaluation(made, shown=4).dense()
    assert sorted(found.tokens) == [0, 19, 39, 59]
    for place, tokens in found.tokens.items():
        assert tokens.loss.sum() == pytest.approx(found["loss"].total[place], abs=1e-9)
        assert tokens.token.tolist() == made.data.token_ids[place, 1:].tolist() and tokens.position.tolist() == list(range(7))
    back = Point.of_arrays(Point(0.0, found).arrays()).measured
    assert back.tokens[19].loss.tolist() == found.tokens[19].loss.tolist() and list(back) == list(found)
