"""Every intervention of the catalogue: its line and sources, level 0 changes nothing bit for bit, and everything is put back.

A new entry is tested by being listed: on the first of the small models below that suits it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis import ANALYSES
from analysis.interventions.catalogue import INTERVENTIONS, choose, describe, find_intervention, lines
from analysis.interventions.cost import dense_cost
from analysis.interventions.entry import RUNS_ON, TARGETS
from analysis.interventions.scope import weight_scope
from analysis.interventions.spec import Cost
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.spec import EVIDENCE_WORDS, UnknownName, UserError
from analysis.tasks import choose_task
from tests import zoo

MODELS = ("llama", "opt", "gpt2", "bert", "vit", "resnet", "mlp")
"""The first that suits is taken."""
CAUSAL, IMAGES = ("llama", "opt", "gpt2"), {"vit": (3, 8, 8), "resnet": (3, 16, 16), "mlp": (6,)}
WINDOWS, LENGTH, V = 12, 16, 60
every = pytest.mark.parametrize("entry", INTERVENTIONS, ids=lambda entry: entry.slug)


@functools.cache
def subject_named(name):
    """A subject of random windows or images, each a document."""
    model, _ = getattr(zoo, name)()
    made = torch.Generator().manual_seed(2)
    if name in IMAGES:
        images = torch.randn(WINDOWS, *IMAGES[name], generator=made).split(3)
        return subject_from(model, name=name, data=GivenBatches(list(images), labels=np.arange(WINDOWS) % 3))
    ids = torch.randint(3, V, (WINDOWS, LENGTH), generator=made)
    return subject_from(model, name=name, data=TextWindows.from_ids(ids, document=np.arange(WINDOWS)))


def is_causal(name):
    return name in CAUSAL


def calibration_of(subject, needs):
    from analysis.interventions.calibration import calibrate

    if not needs:
        return None
    task = choose_task(subject, "causal-lm" if subject.task == "causal-lm" else "divergence", split="calibration", seed=0)
    batches = [batch.inputs for batch in task.batches(4)]
    return calibrate(subject.model, weight_scope(subject.model), batches, needs, task=None if task.is_divergence else task)


def suiting(entry):
    """The first model that the entry suits, and what it needs there."""
    reasons = []
    for name in MODELS:
        if entry.unsuited(is_causal(name)) is not None:
            continue
        try:
            subject = subject_named(name)
            made = entry.make(0)
            calibration = calibration_of(subject, made.needs)
            with made.on(subject, calibration):
                return name, subject, made, calibration
        except UserError as error:
            reasons.append(f"{name}: {error}")
    raise AssertionError(f"{entry.slug} suits none of the small models: {'; '.join(reasons)}")


def output_of(subject):
    from analysis.capture.running import observable, run

    task = choose_task(subject, "divergence", seed=0)
    batch = next(iter(task.batches(3)))
    with torch.no_grad(), observable(subject.model):
        answer = run(subject.model, batch.inputs)
    return answer.logits if hasattr(answer, "logits") else answer


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def hooks_of(model):
    """Everything hung onto modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def methods_of(model):
    """Attributes set on module instances that shadow their class."""
    return sorted(
        (path, name) for path, module in model.named_modules() for name in vars(module) if callable(getattr(type(module), name, None))
    )


@every
def test_an_entry_says_in_a_line_what_it_does_and_where_it_comes_from(entry):
    assert entry.slug == entry.slug.lower() and not set(entry.slug) & set(" ,@+")
    assert entry.target in TARGETS and entry.runs_on in RUNS_ON
    assert entry.line.endswith(".") and entry.line[0].isupper() and "\n" not in entry.line and len(entry.line) <= 140
    assert entry.sources and all(source.evidence in EVIDENCE_WORDS for source in entry.sources)
    made = entry.make(0)
    assert made.target == entry.target and made.title and made.kind in ("curve", "point")
    text = describe(entry)
    assert entry.line in text and entry.sources[0].title in text and EVIDENCE_WORDS[entry.sources[0].evidence] in text


TAGS = {
    "attention-threshold": "O",  # one size for all rows: ALISA's is relative to the row
    "zipvl": "K",  # METHODS C1: numbers read, formulas not
    "attention-random": "O3",  # C18: the measurement is ours, the idea SSA's
    "attention-blocks": "CC",
    "hidden-dimensions": "O3",  # B8: nothing routes here
}


@pytest.mark.parametrize("slug", TAGS)
def test_evidence_is_that_of_what_is_really_done(slug):
    entry = find_intervention(slug)
    assert "".join(source.evidence for source in entry.sources) == TAGS[slug] and entry.sources == entry.make(0).sources
    assert slug != "attention-blocks" or entry.sources[0].title.startswith("MInference"), "mean logits of tiles are its"


@pytest.mark.parametrize(
    ("slug", "n"),
    [("attention-random", 8), ("keyformer", 5), ("low-rank-attention", 5), ("scatterbrain", 5), ("token-random", 8), ("branch-scaling", 5)],
)
def test_what_hangs_on_the_seed_says_that_it_is_one_draw(slug, n):
    entry = find_intervention(slug)
    assert f"Note: One draw, from the seed: how much the numbers vary is seen only in further runs with other seeds, {n}" in describe(entry)
    assert not any("One draw" in note for note in find_intervention("attention-topk").make(0).notes)


def test_a_description_says_whether_levels_are_nested():
    assert "stays gone at higher ones\n" in describe(find_intervention("heads"))
    assert "stays gone at higher ones, of the same inputs\n" in describe(find_intervention("attention-topk"))
    assert "levels are not nested\n" in describe(find_intervention("h2o"))


def test_a_description_says_which_policy_of_several_it_is():
    assert "Note: The local policy" in describe(find_intervention("h2o"))
    assert "unverified definition" in describe(find_intervention("zipvl"))


def test_one_command_runs_fifteen_interventions_or_more():
    chosen = choose(["default"], causal=True).entries
    assert len(chosen) >= 15 and {entry.target for entry in chosen} >= {"weights", "activations", "attention", "structure"}


def test_names_are_unique_and_none_is_that_of_an_analysis():
    slugs = [entry.slug for entry in INTERVENTIONS]
    assert len(set(slugs)) == len(slugs) and not set(slugs) & {analysis.slug for analysis in ANALYSES}
    assert len({entry.make(0).slug for entry in INTERVENTIONS}) == len(slugs), "two values share a name in the store"
    assert len(lines().splitlines()) == len(slugs)


@every
def test_level_0_changes_no_bit_and_everything_is_put_back_also_on_error(entry):
    _, subject, made, calibration = suiting(entry)
    model = subject.model
    dense, state, hooks, methods = output_of(subject), state_of(model), hooks_of(model), methods_of(model)
    with made.on(subject, calibration) as held:
        applied = held.at(0.0)
        assert torch.equal(output_of(subject), dense) and applied.level == 0.0
        high = held.levels[-1] if held.levels else 0.6
        held.at(high)
        changed = output_of(subject)
        assert changed.shape == dense.shape
        held.at(0.0)
        assert torch.equal(output_of(subject), dense), "level 0 after another level"
    with pytest.raises(ZeroDivisionError), made.on(subject, calibration) as held:
        held.at(high)
        output_of(subject)
        raise ZeroDivisionError
    assert torch.equal(output_of(subject), dense)
    after = state_of(model)
    assert list(after) == list(state) and all(torch.equal(after[name], state[name]) for name in state)
    assert (hooks_of(model), methods_of(model)) == (hooks, methods)


@every
def test_a_level_removes_its_share_and_its_cost_is_at_most_that_of_the_dense_model(entry):
    name, subject, made, calibration = suiting(entry)
    members = {member.name: member.parameter for member in weight_scope(subject.model).members}
    example = {"input_ids": torch.ones(1, LENGTH, dtype=torch.long)}
    if name in IMAGES:
        example = torch.zeros(1, *IMAGES[name])
    dense = dense_cost(subject.model, example, 1 if name in IMAGES else LENGTH, members, causal=is_causal(name))
    whole = dense.at(Cost(0.0))
    with made.on(subject, calibration) as held:
        held.at(0.0)
        assert dense.at(held.cost(0.0)).flops == pytest.approx(whole.flops), "nothing is saved where nothing is removed"
        for level in held.levels or (0.3, 0.6):
            applied = held.at(level)
            output_of(subject)
            share = held.measured_share()
            achieved = applied.achieved if share is None else share
            assert 0 <= achieved <= 1 and applied.denominator
            cost = held.cost(level)
            assert Cost.of_text(cost.as_text()) == cost, "facts and shares must survive being stored"
            found = dense.at(cost)
            shares = cost.shares
            own = 0.0 if shares is None else shares.overhead_bytes
            assert np.isfinite(found.flops) and found.resident_bytes <= whole.resident_bytes * 1.001 + own, "weights of its own beside"
            if shares is not None:
                each = [
                    *shares.products.values(),
                    *shares.touched.values(),
                    shares.pairs,
                    shares.keys_read,
                    shares.keys_held,
                    shares.positions,
                ]
                assert all(0 <= one <= 1 + 1e-9 for one in each)
            assert level == 0 or cost.counts or shares is not None, "a cost must say what is left"


@pytest.mark.parametrize(
    ("name", "slug"), [("vit", "contextual-predicted"), ("vit", "ffn-topk"), ("vit", "stream-dimensions"), ("resnet", "conv-channels")]
)
def test_selecting_in_an_image_costs_what_it_costs_for_all_its_rows(name, slug):
    """By hand: of every place, rows of one image (from the shape that flows there) times what one row's choice takes."""
    subject, made = subject_named(name), find_intervention(slug).make(0)
    members = {member.name: member.parameter for member in weight_scope(subject.model).members}
    dense = dense_cost(subject.model, torch.zeros(1, *IMAGES[name]), 1, members, causal=False)
    with made.on(subject, calibration_of(subject, made.needs)) as held:
        held.at(0.5)
        output_of(subject)
        cost = held.cost(0.5)
        if slug == "stream-dimensions":  # two blocks turn 8 of 16 directions, of four patches and a class token
            expected = 5 * 2 * 2 * 8 * 8
        else:
            expected = sum(rows_in(subject, site) * made.overhead(subject.model, site) for site in held._sites)
    free = replace(cost, shares=replace(cost.shares, overhead_flops=0.0))
    assert expected > 0 and dense.at(cost).flops - dense.at(free).flops == pytest.approx(expected)


def rows_in(subject, site):
    """Rows of one image that the module of a site reads."""
    found, module = [], subject.model.get_submodule(site.module)
    handle = module.register_forward_pre_hook(lambda _, given: found.append(given[0].shape))
    images = output_of(subject).shape[0]
    handle.remove()
    shape = found[0]
    return math.prod(shape[2:]) if isinstance(module, torch.nn.Conv2d) else math.prod(shape[:-1]) // images


def test_names_are_chosen_in_the_order_of_the_catalogue_and_what_does_not_suit_says_why():
    found = choose(["wanda", "magnitude"], causal=True)
    assert [entry.slug for entry in found.entries] == ["magnitude", "wanda"] and not found.refused
    usual = {entry.slug for entry in INTERVENTIONS if entry.default}
    for causal in (True, False):
        chosen = choose(["default"], causal)
        assert {entry.slug for entry in chosen.entries} | set(chosen.refused) == usual
        everything = choose(["all"], causal)
        assert len(everything.entries) + len(everything.refused) == len(INTERVENTIONS)
    with pytest.raises(UnknownName, match="'magic'"):
        find_intervention("magic")


def test_the_command_line_lists_and_describes_interventions(capsys):
    from analysis.__main__ import main

    assert main(["list", "--interventions"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(INTERVENTIONS) and printed[0].startswith("magnitude ")
    assert main(["describe", "wanda-2-of-4"]) == 0
    text = capsys.readouterr().out
    assert "Sun et al." in text and "official code" in text and "sparse tensor cores" in text
