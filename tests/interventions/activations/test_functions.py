"""Statistical top-k and ReLU in place of other functions: METHODS B7, B1."""

from statistics import NormalDist

import pytest
import torch
from torch import nn

from analysis.interventions.activations.relu import ReluSubstitution
from analysis.interventions.activations.statistical import StatisticalTopK, statistical_top_k
from analysis.spec import IncompatibleSubject
from tests import zoo
from tests.interventions.activations.places import Gated, answer, plain, subject_of


def test_the_normal_quantiles_are_those_of_the_source():
    assert NormalDist().inv_cdf(0.92) == pytest.approx(1.405072, abs=1e-6)
    assert NormalDist().inv_cdf(0.95) == pytest.approx(1.644854, abs=1e-6)


@pytest.mark.parametrize("soft", [True, False])
def test_of_normal_numbers_the_share_asked_for_is_left(soft):
    x = torch.randn(200, 13824, generator=torch.Generator().manual_seed(0))
    assert (statistical_top_k(x, 0.92, soft) > 0).float().mean().item() == pytest.approx(0.08, abs=2e-4)


def test_the_soft_form_ignores_a_constant_and_scales_with_a_factor():
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(1))
    once = statistical_top_k(x, 0.8)
    torch.testing.assert_close(statistical_top_k(x + 3, 0.8), once, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(statistical_top_k(2 * x, 0.8), 2 * once)


def test_the_hard_form_keeps_values_as_they_are():
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(1))
    found = statistical_top_k(x, 0.8, soft=False)
    assert torch.equal(found[found != 0], x[found != 0])


def test_the_deviation_is_that_of_the_population():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    theta = 2.5 + 1.25**0.5 * NormalDist().inv_cdf(0.8)
    torch.testing.assert_close(statistical_top_k(x, 0.8), torch.tensor([[0, 0, 0, 4 - theta]]))


@pytest.mark.parametrize("soft", [True, False])
def test_equal_numbers_give_zeros(soft):
    assert not statistical_top_k(torch.ones(2, 8), 0.5, soft).any()


def _gated(act):
    torch.manual_seed(2)
    return subject_of((Gated(torch.randn(24, 8), torch.randn(24, 8), torch.randn(8, 24), act), (torch.randn(50, 8),)))


@pytest.mark.parametrize("act", [nn.SiLU(), nn.GELU(), nn.GELU(approximate="tanh")])
def test_relu_takes_the_place_of_the_function(act):
    subject, other = _gated(act), _gated(nn.ReLU())
    with ReluSubstitution().on(subject) as held:
        held.at(1.0)
        assert torch.equal(answer(subject), answer(other))
        assert held.measured_share() == pytest.approx(0.5, abs=0.05)
        assert set(held.cost(1.0).shares.products) == {"block.0.up.weight", "block.0.down.weight"}
    assert not torch.equal(answer(subject), answer(other))


@pytest.mark.parametrize("method", [ReluSubstitution(), StatisticalTopK()], ids=lambda m: m.slug)
@pytest.mark.parametrize("made", [zoo.phi3, zoo.bert, zoo.mixtral, zoo.gpt2])
def test_functions_inside_modules_are_found(made, method):
    subject = subject_of(made())
    with method.on(subject) as held:
        held.at(1.0)
        answer(subject)
        assert held.measured_share() > (0.3 if method.point else 0.999)


def test_a_model_with_relu_is_left_as_it_is():
    subject = subject_of(zoo.opt())
    before = answer(subject)
    with ReluSubstitution().on(subject) as held:
        held.at(1.0)
        assert torch.equal(answer(subject), before)


def test_relu_is_refused_where_the_function_is_not_zero_at_zero():
    subject = subject_of((plain(torch.randn(6, 4), torch.randn(3, 6), nn.Sigmoid()), (torch.randn(5, 4),)))
    with pytest.raises(IncompatibleSubject, match="sigmoid"), ReluSubstitution().on(subject):
        pass


def test_an_activation_function_elsewhere_is_left_alone():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.ffn, self.act = plain(torch.ones(2, 2), torch.eye(2), nn.GELU()), nn.GELU()

        def forward(self, x):
            return self.act(self.ffn(x))

    subject = subject_of((Pooled(), (torch.tensor([[-1.0, -0.5]]),)))
    with ReluSubstitution().on(subject) as held:
        held.at(1.0)
        a = nn.functional.gelu(torch.zeros(1, 2))
        torch.testing.assert_close(answer(subject), a)
    subject = subject_of((Pooled(), (torch.tensor([[-1.0, 2.0]]),)))
    with ReluSubstitution().on(subject) as held:
        held.at(1.0)
        torch.testing.assert_close(answer(subject), nn.functional.gelu(torch.ones(1, 2)))
