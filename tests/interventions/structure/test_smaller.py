"""A model that is really smaller computes what the ablated one does."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.capture.running import observable, run
from analysis.interventions.calibration import calibrate
from analysis.interventions.scope import weight_scope
from analysis.interventions.structure.base import Ablation, ablated
from analysis.interventions.structure.factored import factored
from analysis.interventions.structure.finding import block_plan, head_plan, neuron_plan
from analysis.interventions.structure.heads import HeadPrefixes
from analysis.interventions.structure.layers import EarlyExit
from analysis.interventions.structure.neurons import Prefixes
from analysis.interventions.structure.rank import MatrixRank
from analysis.interventions.structure.sliced_model import sliced
from analysis.interventions.structure.slicing import SlicedDimensions
from analysis.interventions.structure.smaller import smaller
from analysis.spec import IncompatibleSubject
from tests import zoo
from tests.interventions.structure.planted import answer, calibrated, language_subject, llama


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def logits(model, batch):
    """Of real tokens."""
    with observable(model):
        found = run(model, batch)
    mask = batch.get("attention_mask") if isinstance(batch, dict) else None
    return found.logits if mask is None else found.logits[mask.bool()]


@pytest.fixture(scope="module")
def subject():
    return language_subject(llama(layers=3))


@pytest.fixture(scope="module")
def precise():
    """In 64 bits: in 32 the order of sums, which differs between processors, shows in what is nearly zero."""
    return language_subject(llama(layers=3).double())


@pytest.fixture(scope="module")
def example(subject):
    return next(iter(subject.data.batches(2, "cpu")))[0]


@pytest.mark.parametrize(
    ("method", "plan_of", "shuffles"),
    [(Prefixes, neuron_plan, True), (EarlyExit, block_plan, True), (HeadPrefixes, head_plan, False)],
)
def test_the_smaller_model_answers_as_the_ablated_one_and_has_as_many_weights_as_counted(precise, example, method, plan_of, shuffles):
    subject, dense = precise, answer(precise)
    level = 0.4 if shuffles else 0.5
    with method().on(subject) as held:
        if shuffles:
            held.order = held.order[np.random.default_rng(0).permutation(len(held.order))]
        held.at(level)
        ablated_answer, gone, products = answer(subject), held.gone.copy(), held.cost(level).shares.products
    made = smaller(subject.model, plan_of(subject.model, example), gone)
    torch.testing.assert_close(answer(language_subject(made)), ablated_answer, rtol=1e-9, atol=1e-9)
    counted = sum(subject.model.get_parameter(name).numel() * (1 - share) for name, share in products.items())
    norms = 2 * 16 * gone.sum() if method is EarlyExit else 0
    assert size(subject.model) - size(made) == pytest.approx(counted + norms)
    assert torch.equal(answer(subject), dense)


@pytest.mark.parametrize("level", [0.3, 0.5, 0.8])
def test_two_factors_answer_as_the_matrix_of_that_rank_and_are_as_large_as_counted(subject, level):
    dense = answer(subject)
    with MatrixRank().on(subject) as held:
        held.at(level)
        truncated, products = answer(subject), held.cost(level).shares.products
    made = factored(subject.model, weight_scope(subject.model), held.directions_of, level)
    torch.testing.assert_close(answer(language_subject(made)), truncated, rtol=1e-4, atol=2e-5)
    counted = sum(subject.model.get_parameter(name).numel() * (1 - share) for name, share in products.items())
    assert size(subject.model) - size(made) == pytest.approx(counted)
    assert torch.equal(answer(subject), dense)


@pytest.mark.parametrize("level", [0.25, 0.5])
def test_a_sliced_model_answers_as_one_whose_stream_is_projected(subject, example, level):
    dense = answer(subject)
    with SlicedDimensions().on(subject, calibrated(subject)) as held:
        held.at(level)
        projected, products = answer(subject), held.cost(level).shares.products
    made = sliced(subject.model, example, held.stream, held.bases, held.kept)
    torch.testing.assert_close(answer(language_subject(made)), projected, rtol=1e-4, atol=1e-4)
    counted = sum(subject.model.get_parameter(name).numel() * (1 - share) for name, share in products.items())
    assert size(subject.model) - size(made) == pytest.approx(counted + 6 * 16), "norms' gains lie in the matrices"
    assert torch.equal(answer(subject), dense)


@pytest.mark.parametrize("name", ["opt", "vit", "phi3"])
def test_other_families_can_be_sliced_with_their_biases_and_norms_that_subtract_the_mean(name):
    torch.manual_seed(0)
    model, batch = getattr(zoo, name)()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases are 0 and gains 1 in a model that is new
                parameter.add_(torch.randn_like(parameter) * 0.3)
    given = SimpleNamespace(model=model)
    with SlicedDimensions().on(given, calibrate(model, weight_scope(model), [batch], ("values",))) as held:
        held.at(0.6)
        projected = logits(model, batch)
    made = sliced(model, batch, held.stream, held.bases, held.kept)
    assert not torch.allclose(projected, logits(model, batch), atol=1e-4)
    torch.testing.assert_close(logits(made, batch), projected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["opt", "vit", "bert"])
def test_heads_of_other_families_can_be_cut(name):
    torch.manual_seed(0)
    model, batch = getattr(zoo, name)()
    plan = head_plan(model, batch)
    ablation = Ablation(plan)
    for spot in plan.spots:
        ablation.gone[spot.first] = True
    with ablated(model, plan, ablation):
        expected = logits(model, batch)
    assert not torch.equal(expected, logits(model, batch))
    torch.testing.assert_close(logits(smaller(model, plan, ablation.gone), batch), expected, rtol=1e-5, atol=1e-7)


def test_units_that_cannot_be_cut_are_refused():
    model, batch = zoo.gpt2()
    plan = neuron_plan(model, batch)
    with pytest.raises(IncompatibleSubject, match="Conv1D"):
        smaller(model, plan, np.ones(plan.n, bool))
    model, batch = zoo.gpt_neox()
    plan = head_plan(model, batch)
    with pytest.raises(IncompatibleSubject, match="one of several"):
        smaller(model, plan, np.arange(plan.n) % plan.spots[0].n == 0)
    for name, why in (("gpt_neox", "beside it"), ("gpt2", "Conv1D")):
        model, batch = getattr(zoo, name)()
        with SlicedDimensions().on(SimpleNamespace(model=model), calibrate(model, weight_scope(model), [batch], ("values",))) as held:
            pass
        with pytest.raises(IncompatibleSubject, match=why):
            sliced(model, batch, held.stream, held.bases, 8)


def test_the_first_heads_of_every_layer_stay_and_those_that_share_keys_go_together(subject):
    with HeadPrefixes().on(subject) as held:
        held.at(0.5)
        assert held.gone.reshape(3, 4).tolist() == [[False, False, True, True]] * 3


def test_heads_go_with_all_that_share_their_keys_and_never_all_of_a_layer(subject, example):
    plan = head_plan(subject.model, example)
    for gone in ([0], range(4)):
        chosen = np.zeros(plan.n, bool)
        chosen[list(gone)] = True
        with pytest.raises(IncompatibleSubject, match="all that share their keys"):
            smaller(subject.model, plan, chosen)
