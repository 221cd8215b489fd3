"""TEAL's greedy allocation: METHODS B6."""

import pytest
import torch
from torch import nn

from analysis.interventions.activations.greedy import STEP, grown
from analysis.interventions.activations.teal import Teal
from analysis.spec import IncompatibleSubject
from tests import zoo
from tests.interventions.activations.places import Gated, answer, calibrated, subject_of


def test_what_costs_nothing_goes_first_and_everything_in_the_end():
    path = grown({"a": 0.5, "b": 0.25, "c": 0.25}, lambda shares: 4 * shares["a"] ** 2 + 1 * shares["c"])
    assert path.at(0.25) == {"a": 0.0, "b": pytest.approx(1.0), "c": 0.0}
    assert path.at(1.0) == {"a": 1.0, "b": 1.0, "c": 1.0}
    for level in (0.1, 0.4, 0.6, 0.9):
        found = path.at(level)
        assert 0.5 * found["a"] + 0.25 * found["b"] + 0.25 * found["c"] == pytest.approx(level, abs=1e-9)
    # beyond b: a at marginal cost 16 a per weight, c at 4: a up to a quarter, then c
    assert path.at(0.25 + STEP)["a"] == pytest.approx(2 * STEP)
    assert path.at(0.625 + 0.0)["c"] > 0.8


def test_errors_are_compared_by_weight_where_a_matrix_is_smaller_than_a_step():
    weights = {"large": 0.96, "small": 0.04}
    path = grown(weights, lambda shares: 0.96 * shares["large"] + 1.1 * 0.04 * shares["small"])
    assert path.at(0.9)["small"] == 0.0, "it costs a tenth more by weight, though less by step"
    path = grown(weights, lambda shares: 0.96 * shares["large"] ** 2 + 0.9 * 0.04 * shares["small"])
    assert path.at(0.3)["small"] == 0.0 and path.at(0.65)["small"] == 1.0, "what counts is the extra error"


def _uneven():
    """A block whose up matrix hardly matters."""
    g = torch.Generator().manual_seed(4)
    model = Gated(torch.randn(32, 8, generator=g), torch.randn(32, 8, generator=g), torch.randn(8, 32, generator=g))
    model.block[0] = _Block(model.block[0])
    return subject_of((_Whole(model.block), (torch.randn(100, 8, generator=g),)))


class _Block(nn.Module):
    def __init__(self, one):
        super().__init__()
        self.gate, self.up, self.down, self.act = one.gate, one.up, one.down, one.act
        self.up.weight.data *= 1e-3
        self.up.bias = nn.Parameter(torch.ones(32))

    def forward(self, x):
        return self.down(self.act(self.gate(x)) * self.up(x))


class _Whole(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block[0](x)


def test_greedy_removes_the_inputs_of_the_matrix_that_hardly_matters():
    subject, error = _uneven(), {}
    dense = answer(subject)
    for method in (Teal(), Teal(greedy=True)):
        with method.on(subject, calibrated(subject.batch)) as held:
            held.at(0.3)
            error[method.slug] = (answer(subject) - dense).norm().item()
            products = held.cost(0.3).shares.products
            assert held.measured_share() == pytest.approx(0.3, abs=0.02)
    assert products["block.0.up.weight"] < 0.2
    assert error["teal-greedy"] < 0.3 * error["teal"]


def test_blocks_that_are_not_themselves_alone_are_refused():

    class Random(_Block):
        def forward(self, x):
            return super().forward(x) + 1e3 * torch.randn(8)

    subject = _uneven()
    subject.model.block[0] = Random(subject.model.block[0])
    with pytest.raises(IncompatibleSubject, match="by itself"), Teal(greedy=True).on(subject, calibrated(subject.batch)):
        pass


@pytest.mark.parametrize("made", [zoo.llama, zoo.gpt2, zoo.bert])
def test_blocks_of_language_models_run_by_themselves(made):
    subject = subject_of(made())
    before = answer(subject)
    with Teal(greedy=True).on(subject, calibrated(subject.batch)) as held:
        held.at(0.5)
        answer(subject)
        assert held.measured_share() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(answer(subject), before)
