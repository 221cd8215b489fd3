"""Two interventions at once: neither sees the other when it is made, costs multiply, both are put back."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.calibration import calibrate
from analysis.interventions.catalogue import find_intervention
from analysis.interventions.combined import Combined
from analysis.interventions.cost import dense_cost
from analysis.interventions.scope import weight_scope
from analysis.interventions.spec import Cost, Shares
from analysis.spec import UserError
from tests import zoo
from tests.interventions.held import output_of, subject_of


def made(at=0.5, first="magnitude", other="attention-topk"):
    return Combined(find_intervention(first).make(0), find_intervention(other).make(0), at)


def calibrated(subject):
    """What the attention half looks at."""
    return calibrate(subject.model, weight_scope(subject.model), [subject.batch], {"values"})


def test_both_at_level_0_are_the_dense_model_and_both_are_put_back():
    subject = subject_of(zoo.llama)
    dense, state = output_of(subject), {name: value.clone() for name, value in subject.model.state_dict().items()}
    with made(at=0.0).on(subject, calibrated(subject)) as held:
        held.at(0.0)
        assert torch.equal(output_of(subject), dense)
        held.at(0.6)
        assert not torch.equal(output_of(subject), dense)
    assert torch.equal(output_of(subject), dense)
    assert all(torch.equal(value, state[name]) for name, value in subject.model.state_dict().items())


def test_the_first_at_level_0_is_the_other_alone():
    subject = subject_of(zoo.llama)
    with find_intervention("attention-topk").make(0).apply(subject, 0.5, calibrated(subject)):
        alone = output_of(subject)
    with made().on(subject, calibrated(subject)) as held:
        held.at(0.0)
        assert torch.equal(output_of(subject), alone)


def test_what_is_left_of_both_is_multiplied():
    subject = subject_of(zoo.llama)
    members = {member.name: member.parameter for member in weight_scope(subject.model).members}
    dense = dense_cost(subject.model, {"input_ids": subject.batch["input_ids"][:1]}, 7, members, causal=True)
    half = Shares(products=dict.fromkeys(members, 0.5), pairs=0.5, static=True, touched=dict.fromkeys(members, 0.5))
    blocks = sum(dense.flops_of.values())
    both = dense.at(Cost(0.5, shares=half, more=(half,)))
    assert dense.flops - both.flops == pytest.approx(0.75 * (blocks + dense.attention_flops))
    assert dense.at(Cost(0.0)).parameters - both.parameters == 0.75 * sum(dense.sizes.values())
    dynamic = Shares(touched=dict.fromkeys(members, 0.5))
    found = dense.at(Cost(0.5, shares=half, more=(dynamic,))).decode_bytes
    whole = dense.at(Cost(0.0)).decode_bytes
    assert found is not None and whole is not None
    size = sum(dense.bytes_of.values())
    assert whole[1] - found[1] == pytest.approx(0.75 * size), "a quarter of the weights for one token"
    assert whole[32] - found[32] == pytest.approx(size / 32 * (1 - 0.5 * (1 - 0.5**32))), "of many, all that the static half leaves"


def test_the_cost_of_two_that_leave_shares_holds_both():
    subject = subject_of(zoo.llama)
    with made(first="ffn-topk").on(subject, calibrated(subject)) as held:
        held.at(0.5)
        output_of(subject)
        cost = held.cost(0.5)
    assert cost.shares is not None and min(cost.shares.products.values()) < 1 and cost.shares.pairs == 1
    assert [part.pairs < 1 for part in cost.more] == [True]


def test_two_on_the_same_weights_are_refused_in_a_sentence_and_nothing_stays_held():
    subject = subject_of(zoo.llama)
    with pytest.raises(UserError, match="the only one on its weights"), made(other="random").on(subject):
        pass
    with made().on(subject, calibrated(subject)) as held:
        assert held.at(0.5).notes[-1].startswith("beside 0.5 of")
