"""Thresholds by layer, by channel, by matrix; top-k: the values METHODS B1, B4, B5, B6 give."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis.interventions.activations.base import Setting
from analysis.interventions.activations.cats import Cats, GateAbove
from analysis.interventions.activations.chess import ChannelAbove, Chess, channel_means
from analysis.interventions.activations.sketch import Magnitudes
from analysis.interventions.activations.teal import Teal
from analysis.interventions.activations.threshold import Above, Threshold
from analysis.interventions.activations.topk import Largest, TopK
from analysis.interventions.calibration import calibrate
from analysis.interventions.scope import weight_scope
from analysis.spec import IncompatibleSubject, UserError
from tests.interventions.activations.places import Gated, answer, calibrated, plain, seen, site_of, subject_of


def test_half_of_one_to_a_hundred_lies_at_or_below_fifty():
    values = torch.arange(1.0, 101.0)
    t = Magnitudes.of(torch.where(values % 3 == 0, -values, values)).threshold(0.5)
    assert t == 50.0
    assert (values <= t).float().mean() == 0.5


@pytest.mark.parametrize(("share", "expected"), [(0.4, 0.524401), (0.5, 0.674490)])
def test_teal_thresholds_of_a_normal_distribution(share, expected):
    from scipy.stats import norm

    values = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    assert Magnitudes.of(torch.tensor(values)).threshold(share) == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize(("share", "expected"), [(0.4, 0.510826), (0.5, 0.693147)])
def test_teal_thresholds_of_a_laplace_distribution(share, expected):
    values = -np.log(1 - (np.arange(200_000) + 0.5) / 200_000)
    assert Magnitudes.of(torch.tensor(values)).threshold(share) == pytest.approx(expected, rel=2e-4)


def test_a_threshold_beyond_two_is_found():
    assert Magnitudes.of(torch.tensor([1.0, 2.0, 64.0, 128.0])).threshold(0.75) == 64.0


def test_share_1_removes_everything_and_share_0_only_zeros():
    sketch = Magnitudes.of(torch.tensor([0.0, 1e-12, 3e7]))
    assert sketch.threshold(1.0) == math.inf
    assert sketch.threshold(0.0) == 0.0
    kept = Above({"a": 0.0}).change(seen([[0.0, 1e-12, 3e7]])).kept
    assert kept.tolist() == [[False, True, True]]


def test_what_lies_on_a_threshold_goes_and_what_lies_on_a_limit_of_its_channel_stays():
    assert Above({"a": 1.0}).change(seen([[1.0, 1.5]])).kept.tolist() == [[False, True]]
    kept = ChannelAbove({"a": torch.tensor([2.0, 2.0])}, {"a": 0.5}).change(seen([[1.0, 1.0]], [[0.25, 0.125]])).kept
    assert kept.tolist() == [[True, False]]


def test_batches_are_kept_where_values_are_asked_for_and_inputs_are_still_measured():
    subject = _gated()
    scope = weight_scope(subject.model)
    made = calibrate(subject.model, scope, iter([subject.batch]), {"values", "inputs"})
    assert len(made.batches) == 1 and len(made.matrices) == 3
    with Threshold().on(subject, made) as held:
        held.at(0.5)
        answer(subject)
        assert held.measured_share() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(UserError, match="values"), Threshold().on(subject, calibrate(subject.model, scope, [subject.batch], {"inputs"})):
        pass


def test_top_k_keeps_exactly_k_and_of_a_relu_fewer():
    values = [[3.0, -5.0, 1.0, 4.0], [0.0, 0.0, 2.0, 0.0]]
    changed = Largest(0.5).change(seen(values))
    assert changed.values.tolist() == [[0, -5, 0, 4], [0, 0, 2, 0]]
    assert changed.kept.sum(1).tolist() == [2, 1]


def test_top_k_ties_go_to_the_lower_index():
    assert Largest(0.5).change(seen([[1.0, 1.0, 1.0, 1.0]])).kept.tolist() == [[True, True, False, False]]


def test_cats_looks_at_the_gate_alone():
    changed = GateAbove({"a": 0.3}).change(seen([[10.0, 0.01]], gate=[[0.3, -0.31]]))
    assert changed.kept.tolist() == [[False, True]]


def test_chess_of_the_worked_example():
    gate, up = [[0.1, 0.5], [-0.4, 0.2]], [[1.0, 2.0], [3.0, 2.0]]
    means = {"a": torch.tensor(up).abs().mean(0)}
    assert means["a"].tolist() == [2, 2]
    t = Magnitudes.of(torch.tensor(gate) * means["a"]).threshold(0.5)
    assert t == pytest.approx(0.4, rel=1 / 128)
    kept = ChannelAbove(means, {"a": t}).change(seen(torch.tensor(gate) * torch.tensor(up), gate, up)).kept
    assert kept.tolist() == [[False, True], [True, True]], "the tie at .2 is kept"


def test_chess_always_prunes_a_channel_whose_up_is_zero():
    kept = ChannelAbove({"a": torch.tensor([0.0, 1.0])}, {"a": 0.1}).change(seen([[1.0, 1.0]], [[9.0, 0.2]])).kept
    assert kept.tolist() == [[False, True]]


def _gated(width=32, d=16, rows=200):
    torch.manual_seed(1)
    up = torch.randn(width, d) * torch.logspace(-1.5, 1.5, width)[:, None]
    return subject_of((Gated(torch.randn(width, d), up, torch.randn(d, width)), (torch.randn(rows, d),)))


@pytest.mark.parametrize("method", [Threshold(), TopK(), Cats(), Chess(), Teal()], ids=lambda m: m.slug)
def test_the_share_asked_for_is_the_share_removed(method):
    subject = _gated()
    with method.on(subject, calibrated(subject.batch)) as held:
        assert held.at(0.5).achieved == 0.5
        answer(subject)
        assert held.measured_share() == pytest.approx(0.5, abs=0.01)


def test_chess_errs_less_than_cats_where_channels_differ():
    subject = _gated()
    dense, error = answer(subject), {}
    for method in (Cats(), Chess()):
        with method.on(subject, calibrated(subject.batch)) as held:
            held.at(0.5)
            error[method.slug] = (answer(subject) - dense).norm().item()
    assert error["chess"] < 0.7 * error["cats"]


def test_channel_means_are_those_of_up():
    subject = _gated()
    site = site_of(subject.model, subject.batch)
    up = subject.model.block[0].up(subject.batch[0]).abs().mean(0)
    found = channel_means(Setting(subject.model, [site], calibrated(subject.batch), subject.batch))[site.name]
    torch.testing.assert_close(found, up.detach())


@pytest.mark.parametrize(
    ("method", "matrices"), [(Threshold(), {"down"}), (TopK(), {"down"}), (Cats(), {"up", "down"}), (Chess(), {"up", "down"})]
)
def test_only_matrices_that_the_choice_does_not_need_are_spared(method, matrices):
    subject = _gated()
    with method.on(subject, calibrated(subject.batch)) as held:
        held.at(0.75)
        answer(subject)
        shares = held.cost(0.75).shares
        assert set(shares.products) == {f"block.0.{name}.weight" for name in matrices}
        assert all(share == pytest.approx(1 - held.measured_share()) for share in shares.products.values())
        assert shares.touched == shares.products and not shares.static and shares.overhead_flops > 0


def test_of_a_fused_gate_and_up_matrix_only_the_half_of_up_is_spared():
    from tests import zoo

    subject = subject_of(zoo.phi3())
    with Cats().on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        answer(subject)
        products = held.cost(1.0).shares.products
    assert products["model.layers.0.mlp.gate_up_proj.weight"] == pytest.approx(0.5)
    assert products["model.layers.0.mlp.down_proj.weight"] == 0.0


def test_cats_refuses_a_model_without_gates():
    subject = subject_of((plain(torch.randn(8, 4), torch.randn(4, 8), nn.GELU()), (torch.randn(5, 4),)))
    with pytest.raises(IncompatibleSubject, match="gated"), Cats().on(subject, calibrated(subject.batch)):
        pass


def test_a_removed_input_is_as_good_as_a_removed_column():
    subject = _gated()
    down = subject.model.block[0].down
    with TopK().on(subject) as held:
        held.at(0.5)
        found = answer(subject)
    one = subject.model.block[0]
    a = one.act(one.gate(subject.batch[0])) * one.up(subject.batch[0])
    few = torch.zeros_like(a)
    for t, row in enumerate(a):
        top = row.abs().topk(16).indices
        few[t, top] = row[top]
    torch.testing.assert_close(found, down(few).detach())
