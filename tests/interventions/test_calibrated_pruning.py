"""Calibrated methods and ratios on whole tiny models: what is asked for goes, patterns hold, everything comes back."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.calibration import calibrate
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.ratios.grasp import Grasp
from analysis.interventions.ratios.owl import Owl
from analysis.interventions.ratios.snip import Snip
from analysis.interventions.scope import weight_scope
from analysis.interventions.structures import UNSTRUCTURED, conformance, n_of_m
from analysis.interventions.weights import METHODS
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.obert import OBert
from analysis.interventions.weights.sparsegpt import SparseGPT
from analysis.interventions.weights.taylor import Taylor, TaylorSquared
from analysis.interventions.weights.wanda import Wanda
from analysis.models import TextWindows, subject_from
from analysis.tasks import choose_task
from tests import zoo

CALIBRATED = [method for method in METHODS if method().needs]


def studied(family):
    model, _ = zoo.ZOO[family]()
    ids = torch.randint(3, 60, (8, 12), generator=torch.Generator().manual_seed(0))
    subject = subject_from(model, data=TextWindows.from_ids(ids))
    return subject, choose_task(subject, "causal-lm")


def measured(subject, task, needs):
    batches = [batch.inputs for batch in task.batches(4)]
    return calibrate(subject.model, weight_scope(subject.model), batches, needs, task=task, block=10, damp=1e-4)


def same(model, before):
    return all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("method", CALIBRATED, ids=lambda m: m.slug)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_calibrated_method_removes_what_is_asked_and_gives_everything_back(method, family):
    subject, task = studied(family)
    before = {name: p.detach().clone() for name, p in subject.model.named_parameters()}
    pruning = WeightPruning(method(), scope="per_matrix")
    with pruning.on(subject, measured(subject, task, pruning.needs)) as held:
        half, none = held.at(0.5), None
        assert half.achieved == pytest.approx(0.5, abs=0.03)
        assert not same(subject.model, before)
        none = held.at(0.0)
        assert none.achieved == 0 and same(subject.model, before), "level 0 is the identity, bit for bit"
        assert held.at(1.0).achieved > 0.75
    assert same(subject.model, before)


@pytest.mark.parametrize("method", [m for m in CALIBRATED if m.slug != "wanda-cumulative"], ids=lambda m: m.slug)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_two_of_four_holds_along_the_inputs_of_every_matrix(method, family):
    subject, task = studied(family)
    pruning = WeightPruning(method(), n_of_m(2, 4), "per_matrix")
    scope = weight_scope(subject.model)
    with pruning.on(subject, measured(subject, task, pruning.needs)) as held:
        assert held.at(0.5).achieved == 0.5
        for member in scope.members:
            assert conformance(member.matrix(member.parameter.detach()), 2, 4) == 1.0


@pytest.mark.parametrize("ratio", [Owl(factor=2.0), Snip(), Grasp()], ids=lambda r: r.slug)
def test_ratios_share_the_level_out_unevenly_and_keep_it(ratio):
    subject, task = studied("llama")
    pruning = WeightPruning(Magnitude(), scope="per_matrix", ratio=ratio)
    with pruning.on(subject, measured(subject, task, pruning.needs)) as held:
        applied = held.at(0.5)
        shares = {round(count.n_zero / count.n, 3) for count in applied.counts}
        assert applied.achieved == pytest.approx(0.5, abs=0.005) and len(shares) > 1
        assert held.at(0.0).achieved == 0


@pytest.mark.parametrize("method", [Wanda(), Taylor(), OBert()], ids=lambda m: m.slug)
def test_scored_methods_are_nested(method):
    subject, task = studied("llama")
    pruning = WeightPruning(method, UNSTRUCTURED, "per_row")
    with pruning.on(subject, measured(subject, task, pruning.needs)) as held:
        gone = []
        for level in (0.2, 0.5, 0.8):
            held.at(level)
            gone.append(torch.cat([m.parameter.detach().reshape(-1) == 0 for m in weight_scope(subject.model).members]))
    assert (gone[1] | ~gone[0]).all() and (gone[2] | ~gone[1]).all()


def test_on_the_calibration_inputs_sparsegpt_changes_outputs_less_than_wanda_and_wanda_less_than_magnitude():
    """At 2 of 4, by the relative output error of METHODS A0 on correlated inputs; pooled over matrices."""
    subject, task = studied("llama")
    made = measured(subject, task, {"inputs", "gram"})
    errors = []
    for method in (SparseGPT(), Wanda(), Magnitude()):
        total = 0.0
        for member in weight_scope(subject.model).members:
            dense = member.parameter.detach().double()
            with WeightPruning(method, n_of_m(2, 4), "per_matrix", only=member.name).on(subject, made) as held:
                held.at(0.5)
                d = member.parameter.detach().double() - dense
            gram = made.of(member.name).gram
            total += float(torch.trace(d @ gram @ d.T) / torch.trace(dense @ gram @ dense.T))
        errors.append(total)
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("pruning", [WeightPruning(Wanda(), scope="per_row"), WeightPruning(Taylor(), scope="per_row", ratio=Owl())])
def test_an_expert_that_no_token_reached_stays_dense_whatever_else_was_measured(pruning):
    """Calibrated for two methods at once: its gradient is there, what it reads is not."""
    subject, task = studied("listed_experts")
    with pruning.on(subject, measured(subject, task, {"inputs", "gradients"})) as held:
        shares = {count.name: count.n_zero / count.n for count in held.at(0.5).counts}
        assert {share for name, share in shares.items() if ".experts.2." in name} == {0.0}
        assert max(shares.values()) > 0.3 and "no row of the calibration data" in held.at(0.5).notes[0]


@pytest.mark.parametrize(
    "pruning",
    [WeightPruning(Taylor()), WeightPruning(TaylorSquared()), WeightPruning(OBert()), WeightPruning(scope="per_matrix", ratio=Snip())],
    ids=lambda p: p.slug,
)
def test_a_gradient_of_0_everywhere_is_no_measurement(pruning):
    """The last expert of each list is sent no token: its scores would all be 0, and it would be the first to go."""
    subject, task = studied("listed_experts")
    made = measured(subject, task, pruning.needs)
    with pruning.on(subject, made) as held:
        shares = {count.name: count.n_zero / count.n for count in held.at(0.5).counts}
        assert {share for name, share in shares.items() if ".experts.2." in name} == {0.0}
        assert max(shares.values()) > 0.3 and "gradient is 0 everywhere" in held.at(0.5).notes[0]
        assert sum(".experts.2." in name for name in held.facts["left_dense"]) == 6


def test_one_expert_of_a_stack_that_nothing_depends_on_is_left_out_alone():
    model, _ = zoo.mixtral()
    name = "model.layers.0.mlp.experts.gate_up_proj"
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj[3] = 0  # what expert 3 makes is thrown away
    ids = torch.randint(3, 60, (8, 12), generator=torch.Generator().manual_seed(0))
    subject = subject_from(model, data=TextWindows.from_ids(ids))
    made = measured(subject, choose_task(subject, "causal-lm"), {"gradients"})
    assert {key for key in made.missing if key[0] == name} == {(name, 3)}
    with WeightPruning(Taylor()).on(subject, made) as held:
        held.at(0.5)
        stack = subject.model.get_parameter(name)
        assert [bool((stack[e] == 0).any()) for e in range(4)] == [True, True, True, False]


def test_counting_as_the_code_does_reaches_a_method_that_updates_weights():
    """The published SparseGPT removes one more weight of every block of columns."""
    subject, task = studied("gpt2")
    calibration = measured(subject, task, SparseGPT.needs)
    zeros = []
    for variant in ("text", "code"):
        with WeightPruning(SparseGPT(), scope="per_matrix", variant=variant).on(subject, calibration) as held:
            zeros.append({count.name: count.n_zero for count in held.at(0.5).counts})
    blocks = {m.name: -(-m.matrix_shape[2] // 128) for m in weight_scope(subject.model).members}
    assert {name: zeros[1][name] - zeros[0][name] for name in blocks} == blocks
