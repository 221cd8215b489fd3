"""What holds for every intervention on activations: level 0 is the model, level 1 its limit, everything comes back, padding is nobody's."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from analysis.interventions.activations import METHODS
from analysis.spec import IncompatibleSubject
from tests import zoo
from tests.interventions.activations.places import answer, calibrated, subject_of

MODELS = ("llama", "phi3", "gpt2", "bert", "t5", "mixtral", "resnet")


def _subject(name):
    torch.manual_seed(0)
    return subject_of(getattr(zoo, name)())


@pytest.fixture(scope="module", params=MODELS)
def subject(request):
    return _subject(request.param)


def _held(entry, subject):
    made = entry.make(0)
    try:
        return made.on(subject, calibrated(subject.batch)).__enter__, made
    except IncompatibleSubject:
        return None, made


@pytest.mark.parametrize("entry", METHODS, ids=lambda entry: entry.slug)
def test_level_0_is_the_model_and_everything_comes_back(entry, subject):
    before, forward = answer(subject), subject.model.forward
    state = {name: value.clone() for name, value in subject.model.state_dict().items()}
    made = entry.make(0)
    try:
        with made.on(subject, calibrated(subject.batch)) as held:
            levels = held.levels or (0.0, 0.5, 1.0)
            held.at(levels[-1])
            answer(subject)
            assert held.cost(levels[-1]).shares is not None
            held.at(0.0)
            assert torch.equal(answer(subject), before)
            assert held.measured_share() is None
            assert held.cost(0.0).shares is None
            held.at(levels[-1])
            raise _Stop
    except IncompatibleSubject:
        pytest.skip("does not suit the model")
    except _Stop:
        pass
    assert torch.equal(answer(subject), before)
    assert subject.model.forward == forward and "forward" not in vars(subject.model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())
    assert all(torch.equal(value, state[name]) for name, value in subject.model.state_dict().items())


class _Stop(Exception):
    pass


@pytest.mark.parametrize("entry", METHODS, ids=lambda entry: entry.slug)
def test_rows_of_padding_are_neither_changed_nor_counted(entry):
    subject = _subject("llama")
    made = entry.make(0)
    padded = {name: torch.cat([value, torch.zeros_like(value[:, :5])], 1) for name, value in subject.batch.items()}
    try:
        with made.on(subject, calibrated(subject.batch)) as held:
            held.at((held.levels or (0.0, 0.5))[1])
            plain, share, left = answer(subject), held.measured_share(), held.cost(held._level).shares
            held.at(held._level)
            more = answer(SimpleNamespace(model=subject.model, batch=padded))
    except IncompatibleSubject:
        pytest.skip("does not suit the model")
    real = subject.batch["attention_mask"].bool()
    torch.testing.assert_close(more[:, : plain.shape[1]][real], plain[real], rtol=1e-4, atol=1e-5)
    assert held.measured_share() == share and held.cost(held._level).shares == left


@pytest.mark.parametrize("entry", [e for e in METHODS if e.make(0).kind == "curve"], ids=lambda entry: entry.slug)
def test_shares_fall_from_all_to_what_the_limit_leaves(entry, subject):
    try:
        with entry.make(0).on(subject, calibrated(subject.batch)) as held:
            found = []
            for level in (0.25, 0.5, 0.75, 1.0):
                held.at(level)
                answer(subject)
                found.append((held.measured_share(), sum(held.cost(level).shares.products.values())))
    except IncompatibleSubject:
        pytest.skip("does not suit the model")
    shares, products = zip(*found)
    assert list(shares) == sorted(shares) and list(products) == sorted(products, reverse=True)
    assert shares[-1] == 1.0, "at level 1 everything the denominator names is removed"
    parameters = dict(subject.model.named_parameters())
    assert set(held.cost(1.0).shares.products) <= set(parameters)


@pytest.mark.parametrize("entry", METHODS, ids=lambda entry: entry.slug)
def test_entries_gone_at_a_level_stay_gone_at_higher_ones_where_a_method_says_so_and_only_there(entry):
    """At the first place it acts on, which is given the same at all levels."""
    subject, made, masks = _subject("resnet" if entry.slug == "conv-channels" else "llama"), entry.make(0), []
    if made.kind == "point":
        pytest.skip("one level")
    with made.on(subject, calibrated(subject.batch)) as held:
        for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            held.at(level)
            kept, change = [], held._rule.change

            def noted(seen, kept=kept, change=change):
                changed = change(seen)
                kept += [changed.kept] if changed.kept.numel() else []  # sites that are only read remove nothing
                return changed

            held._rule.change = noted
            answer(subject)
            masks.append(kept[0])
    assert (sum(int((more & ~less).sum()) for less, more in pairwise(masks)) == 0) == made.nested
