"""Pruning live models: what is applied, and that every bit comes back."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from analysis.interventions.holding import SavedWeights, saved
from analysis.interventions.matrix_inputs import MatrixInputs
from analysis.interventions.pruning import WeightPruning
from analysis.interventions.scope import weight_scope
from analysis.interventions.spec import RestoreError
from analysis.interventions.structures import ROWS, blocks, conformance, n_of_m, removed_of
from analysis.interventions.weights import METHODS
from analysis.interventions.weights.dsnot import DSnoT
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Method
from analysis.interventions.weights.obert import OBertUpdate
from analysis.interventions.weights.random_scores import Random
from analysis.interventions.weights.sparsegpt import SparseGPT
from analysis.interventions.weights.wanda import WandaCumulative
from analysis.models.fingerprints import module_fingerprint
from analysis.spec import UserError
from tests import zoo
from tests.interventions.held import output_of, subject_of

LEVELS = (0.0, 0.1, 0.29, 0.5, 0.9, 1.0)
FAMILIES = {"llama": zoo.llama, "gpt2": zoo.gpt2, "mixtral": zoo.mixtral, "resnet": zoo.resnet, "mlp": zoo.mlp, "albert": zoo.albert}


def _subject(make=zoo.llama):
    return subject_of(make)


WAYS = {
    "global": WeightPruning(),
    "per matrix": WeightPruning(scope="per_matrix"),
    "per row": WeightPruning(scope="per_row"),
    "random": WeightPruning(Random()),
    "2 of 4": WeightPruning(structure=n_of_m(2, 4)),
    "blocks": WeightPruning(structure=blocks(4)),
    "rows": WeightPruning(structure=ROWS, scope="per_matrix"),
    "code": WeightPruning(scope="per_matrix", variant="code"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_every_bit_comes_back_and_the_model_answers_as_before(family, way):
    subject = _subject(FAMILIES[family])
    before, answer = module_fingerprint(subject.model), output_of(subject)
    with WAYS[way].on(subject) as held:
        assert held.at(0.0).added == 0 and torch.equal(output_of(subject), answer)
        for level in held.levels or LEVELS:
            held.at(level)
        assert module_fingerprint(subject.model) != before and not torch.equal(output_of(subject), answer)
        held.at(0.0)
        assert module_fingerprint(subject.model) == before
        held.at(0.5)
    assert module_fingerprint(subject.model) == before
    assert torch.equal(output_of(subject), answer)


def test_every_bit_comes_back_when_the_evaluation_throws():
    subject = _subject()
    before = module_fingerprint(subject.model)
    with pytest.raises(ZeroDivisionError), WeightPruning().apply(subject, 0.5):
        raise ZeroDivisionError
    assert module_fingerprint(subject.model) == before
    with WeightPruning().apply(subject, 0.5):  # and it can be held again
        assert module_fingerprint(subject.model) != before


def test_negative_zeros_and_the_largest_numbers_come_back():
    subject = _subject(zoo.mlp)
    with torch.no_grad():
        subject.model[0].weight[0, 0], subject.model[0].weight[0, 1] = -0.0, 3e38
    before = module_fingerprint(subject.model)
    with WeightPruning().apply(subject, 0.9):
        pass
    assert module_fingerprint(subject.model) == before


def test_a_model_that_cannot_be_restored_is_reported():
    subject = _subject(zoo.mlp)
    with pytest.raises(RestoreError, match="shape and type"), WeightPruning().on(subject):
        subject.model.double()
    subject = _subject(zoo.mlp)
    with pytest.raises(RestoreError, match="bit for bit"), saved(subject.model, weight_scope(subject.model).members) as weights:
        weights.dense(weights.members[0]).add_(1)


def test_a_second_intervention_on_the_same_weights_is_refused():
    subject = _subject(zoo.mlp)
    with WeightPruning().on(subject), pytest.raises(UserError, match="only one"), WeightPruning(Random()).on(subject):
        pass
    with WeightPruning().on(subject):
        pass


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_wanted_number_goes_over_the_scope(family):
    subject = _subject(FAMILIES[family])
    scope = weight_scope(subject.model)
    with WeightPruning().on(subject) as held:
        for level in LEVELS:
            applied = held.at(level)
            zeros = {m.name: int((m.parameter == 0).sum()) for m in scope.members}
            assert sum(zeros.values()) == removed_of(scope.n, level)  # SENSITIVITY 9.1, 9.2
            assert {count.name: count.n_zero for count in applied.counts} == zeros
            assert applied.achieved == sum(zeros.values()) / scope.n
            assert held.cost(level).counts == applied.counts


@pytest.mark.parametrize("family", FAMILIES)
def test_each_matrix_loses_its_share(family):
    subject = _subject(FAMILIES[family])
    with WeightPruning(scope="per_matrix").on(subject) as held:
        for level in LEVELS:
            for member, count in zip(held.scope.members, held.at(level).counts):
                matrices = member.matrix(member.parameter.detach())
                assert [int((m == 0).sum()) for m in matrices] == [removed_of(m.numel(), level) for m in matrices]
                assert count.n_zero == int((member.parameter == 0).sum())


@pytest.mark.parametrize("way", ["global", "per matrix", "per row", "random", "blocks", "rows", "code"])
def test_masks_of_rising_levels_are_nested(way):
    subject = _subject(zoo.gpt2)
    masks = []
    with WAYS[way].on(subject) as held:
        for level in LEVELS:
            held.at(level)
            masks.append(torch.cat([m.parameter.detach().reshape(-1) != 0 for m in held.scope.members]))
    assert WAYS[way].nested
    for lower, higher in itertools.pairwise(masks):
        assert not (~lower & higher).any() and (lower & ~higher).any()


def test_levels_can_be_asked_for_in_any_order():
    subject = _subject()
    with WeightPruning().on(subject) as held:
        held.at(0.3)
        first = [m.parameter.detach().clone() for m in held.scope.members]
        held.at(0.9)
        held.at(0.3)
        assert all(torch.equal(m.parameter, values) for m, values in zip(held.scope.members, first))


def test_what_stays_keeps_its_value_and_is_larger_than_what_went():
    subject = _subject()
    dense = {m.name: m.parameter.detach().clone() for m in weight_scope(subject.model).members}
    with WeightPruning().on(subject) as held:
        applied = held.at(0.4)
        for member in held.scope.members:
            live, was = member.parameter.detach(), dense[member.name]
            assert torch.equal(live[live != 0], was[live != 0])
            assert applied.native_value is not None and (was[live == 0].abs() <= applied.native_value).all()
            assert (live[live != 0].abs() > applied.native_value).all()
        assert applied.native_unit == "largest |w| removed"


def test_gpt2_is_grouped_along_its_inputs():
    """SENSITIVITY 9.7: its matrices are stored [in, out]."""
    subject = _subject(zoo.gpt2)
    with WeightPruning(structure=n_of_m(2, 4)).on(subject) as held:
        applied = held.at(0.5)
        stored = subject.model.transformer.h[0].mlp.c_fc.weight.detach()
        assert conformance(stored.t(), 2, 4) == 1.0 and conformance(stored, 2, 4) < 1.0
        assert applied.achieved == 0.5 and (applied.native_value, applied.native_unit) == (2.0, "kept of 4")
    assert WAYS["2 of 4"].kind == "point" and held.levels == (0.0, 0.5)


def test_a_point_has_no_other_levels():
    with WAYS["2 of 4"].on(_subject()) as held, pytest.raises(UserError, match="0 or 0.5"):
        held.at(0.25)


def test_columns_that_fill_no_group_are_told():
    with WeightPruning(structure=n_of_m(2, 4)).on(_subject(zoo.mlp)) as held:
        applied = held.at(0.5)
        assert applied.notes == ("24 weights lie in columns that fill no group of 4 and stay dense.",)  # 12 x 2 of [12, 6]
        assert applied.achieved == (24 + 48) / 168


def test_existing_zeros_are_told_apart_and_never_count_as_prunable():
    """SENSITIVITY 9.9."""
    subject = _subject(zoo.mlp)
    with torch.no_grad():
        subject.model[0].weight[:6] = 0  # 36 of 168
    answer = output_of(subject)
    with WeightPruning().on(subject) as held:
        assert held.facts["n_already_zero"] == 36
        for level in (0.0, 0.1, 0.2):
            applied = held.at(level)
            assert applied.achieved == 36 / 168 and applied.added == 0 and applied.n_already_zero == 36
            assert torch.equal(output_of(subject), answer)
        applied = held.at(0.5)
        assert applied.achieved == 0.5 and applied.added == pytest.approx(0.5 - 36 / 168)


def test_random_depends_on_the_seed_and_on_nothing_else():
    def masks(seed):
        subject = _subject()
        with WeightPruning(Random(), seed=seed).on(subject) as held:
            held.at(0.5)
            return torch.cat([m.parameter.detach().reshape(-1) != 0 for m in held.scope.members])

    assert torch.equal(masks(0), masks(0))
    n, kept = len(masks(0)), int((masks(0) & masks(1)).sum())
    assert kept / (n - int((~masks(0) & ~masks(1)).sum())) == pytest.approx(1 / 3, abs=0.02)  # METHODS A0: density / (2 - density)


def test_half_precision_is_pruned_and_restored():
    subject = _subject()
    subject.model.to(torch.bfloat16)
    before = module_fingerprint(subject.model)
    with WeightPruning().on(subject) as held:
        assert sum(count.n_zero for count in held.at(0.5).counts) == removed_of(held.scope.n, 0.5)  # ties abound, and yet
    assert module_fingerprint(subject.model) == before


@pytest.mark.parametrize("scope", ["global", "per_matrix", "per_row"])
def test_weights_that_only_double_precision_tells_apart_go_in_the_wanted_number(scope):
    subject = _subject()
    subject.model.double()
    with torch.no_grad():
        for member in weight_scope(subject.model).members:
            member.parameter.copy_(0.5 * (1 + 1e-9 * torch.rand(member.parameter.shape, dtype=torch.float64)))
    with WeightPruning(scope=scope).on(subject) as held:
        assert sum(count.n_zero for count in held.at(0.5).counts) == removed_of(held.scope.n, 0.5)
        assert held.at(1.0).achieved == 1.0


def test_an_interrupt_while_the_weights_are_being_restored_leaves_none_behind(monkeypatch):
    subject = _subject()
    before, dense, asked = module_fingerprint(subject.model), SavedWeights.dense, []

    def interrupted(self, member):
        asked.append(member)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return dense(self, member)

    with pytest.raises(KeyboardInterrupt), WeightPruning().on(subject) as held:
        held.at(0.9)
        monkeypatch.setattr(SavedWeights, "dense", interrupted)
    assert module_fingerprint(subject.model) == before


def test_tied_members_are_pruned_together():
    subject = _subject(zoo.albert)
    with WeightPruning().on(subject) as held:
        assert len({m.parameter.data_ptr() for m in held.scope.members}) == len(held.scope.members)
        assert sum(c.n_zero for c in held.at(0.5).counts) == held.scope.n // 2


def test_what_is_skipped_is_told_with_every_curve():
    """SENSITIVITY 9.11."""
    with WeightPruning().on(_subject()) as held:
        reasons = {entry["tensor"]: entry["reason"] for entry in held.facts["skipped"]}
    assert reasons["lm_head.weight"] == "the output head" and reasons["model.embed_tokens.weight"] == "an embedding"


def test_weights_at_a_level_leave_the_live_model_alone():
    subject = _subject(zoo.gpt2)
    name = "transformer.h.1.mlp.c_proj.weight"
    with WeightPruning().on(subject) as held:
        before = module_fingerprint(subject.model)
        made = held.weights(name, 0.5)
        assert module_fingerprint(subject.model) == before
        held.at(0.5)
        assert torch.equal(made, subject.model.get_parameter(name))


class _Halving(Method):
    """Keeps the first of each row and halves it."""

    slug, title, evidence, updates, comparable = "halving", "Halving", "O", True, False

    def prune(self, w, inputs, asked):
        new = torch.zeros_like(w)
        new[:, 0] = w[:, 0] / 2
        return new


def test_a_method_that_updates_weights_writes_them_and_they_come_back():
    subject = _subject(zoo.gpt2)
    before, c_fc = module_fingerprint(subject.model), subject.model.transformer.h[0].mlp.c_fc.weight
    was = c_fc.detach().clone()
    with WeightPruning(_Halving(), scope="per_matrix").on(subject) as held:
        held.at(0.5)
        assert torch.equal(c_fc.detach()[0], was[0] / 2) and not c_fc.detach()[1:].any()
        held.at(0.0)
        assert torch.equal(c_fc.detach(), was)
    assert module_fingerprint(subject.model) == before
    with pytest.raises(UserError, match="do not compare"):
        WeightPruning(_Halving())


@pytest.mark.parametrize("method", [m for m in METHODS if m.updates], ids=lambda m: m.slug)
def test_what_is_found_in_each_matrix_is_never_called_global(method):
    with pytest.raises(UserError, match="per_matrix"):
        WeightPruning(method())


class _NeedsInputs(Magnitude):
    slug, needs = "needs_inputs", frozenset({"inputs"})


def test_matrices_without_data_stay_dense_and_are_told():
    subject = _subject(zoo.mixtral)
    pruning = WeightPruning(_NeedsInputs(), scope="per_matrix")
    with pytest.raises(UserError, match="must be given a calibration"), pruning.on(subject):
        pass
    missing = {("model.layers.0.mlp.experts.gate_up_proj", 2): "it lies inside an opaque call."}
    read = MatrixInputs(square_sum=torch.ones(1))
    some = SimpleNamespace(of=lambda name, index: None if "experts" in name and index == 2 else read, missing=missing)
    with pruning.on(subject, some) as held:
        applied = held.at(0.5)
        stack = subject.model.model.layers[0].mlp.experts.down_proj
        assert [float((stack[e] == 0).double().mean()) for e in range(4)] == [0.5, 0.5, 0.0, 0.5]
        first = "model.layers.0.mlp.experts.gate_up_proj[2]"
        assert applied.notes[0] == f"stay dense: {first}: it lies inside an opaque call." and first in held.facts["left_dense"]
        assert applied.notes[1].endswith("[2] and 2 like it: nothing was measured of it.")
    nothing = SimpleNamespace(of=lambda name, index: None, missing={})
    with pytest.raises(UserError, match="data for at least one"), pruning.on(subject, nothing):
        pass


def test_nan_among_the_weights_is_refused_by_name():
    subject = _subject(zoo.mlp)
    with torch.no_grad():
        subject.model[2].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"2\.weight"), WeightPruning().on(subject):
        pass


def test_an_infinite_weight_is_refused_before_a_mask_makes_it_no_number():
    for method in (Magnitude(), Random()):
        subject = _subject(zoo.mlp)
        with torch.no_grad():
            subject.model[2].weight[0, 0] = float("-inf")
        with pytest.raises(UserError, match=r"weights of 2\.weight must be finite"), WeightPruning(method).on(subject):
            pass


def test_counting_as_the_code_does_is_named_only_where_it_counts_otherwise():
    for way in ({}, {"scope": "per_matrix"}, {"method": SparseGPT(), "scope": "per_matrix"}):
        assert WeightPruning(**way, variant="code").slug == WeightPruning(**way).slug + "/code"
    for way in ({"scope": "per_row"}, {"structure": n_of_m(2, 4)}, {"method": DSnoT(), "scope": "per_matrix"}):
        assert WeightPruning(**way, variant="code").slug == WeightPruning(**way).slug, way
        assert WeightPruning(**way, variant="code").counts_as == "text"


def test_what_chooses_in_rows_is_called_so_and_what_does_not_refuses_to_be():
    assert WeightPruning(DSnoT(), scope="per_matrix").group == "per_row" == WeightPruning(DSnoT(), scope="per_row").group
    assert (
        "/per_row" in WeightPruning(DSnoT(), scope="per_matrix").slug and "in each row" in WeightPruning(DSnoT(), scope="per_matrix").title
    )
    for method in (SparseGPT(), OBertUpdate(), WandaCumulative()):
        with pytest.raises(UserError, match="per_matrix, got per_row"):
            WeightPruning(method, scope="per_row")
        assert WeightPruning(method, scope="per_matrix").group == "per_matrix"


def test_levels_outside_0_to_1_are_refused():
    with WeightPruning().on(_subject(zoo.mlp)) as held:
        for level in (-0.1, 1.1, float("nan")):
            with pytest.raises(UserError, match="between 0 and 1"):
                held.at(level)


def test_different_ways_have_different_slugs():
    assert len({way.slug for way in WAYS.values()}) == len(WAYS)
    assert WAYS["global"].slug == "magnitude/unstructured/global"


def test_weights_can_be_read_again_instead_of_copied():
    from analysis.models.tensors import tensors_of_module

    subject = _subject()
    stored = {info.name: info.read().clone() for info in tensors_of_module(subject.model)}
    subject.tensors = lambda: (SimpleNamespace(name=n, read=lambda n=n: stored[n]) for n in stored)
    before = module_fingerprint(subject.model)
    with WeightPruning(reread=True).on(subject) as held:
        assert held.at(0.5).achieved == 0.5
    assert module_fingerprint(subject.model) == before
    stored["model.layers.0.mlp.up_proj.weight"][0, 0] += 1
    with pytest.raises(UserError, match="what the model has in memory"), WeightPruning(reread=True).on(subject):
        pass
