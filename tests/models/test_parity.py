"""The bridge against the model it is built around: what is said when they agree, when they do not, and when there is none."""

from __future__ import annotations

import copy

import pytest
import torch

from analysis.models import parity, subject_from
from analysis.models.parity import bridge_parity, compared
from tests import zoo


@pytest.mark.parametrize("make", [zoo.llama, zoo.gpt2, zoo.bert], ids=lambda f: f.__name__)
def test_the_bridge_agrees_and_the_model_is_left_as_it_was(make):
    model, _ = make()
    modules, state = [id(m) for m in model.modules()], copy.deepcopy(model.state_dict())
    found = bridge_parity(subject_from(model))
    assert found.verdict == "agrees"
    assert (found.n_positions, found.same_top) == (16, 1.0)
    assert found.words.startswith("TransformerLens' bridge agrees with the model: on 16 probe positions the logits differ by at most")
    assert "the tolerance 0.0001 of it" in found.words
    assert [id(m) for m in model.modules()] == modules
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_bridge_around_other_weights_differs_and_says_by_how_much(monkeypatch):
    model, _ = zoo.llama()
    build = parity.bridge_around

    def around_something_else(copied):
        with torch.no_grad():
            copied.model.layers[1].mlp.down_proj.weight.mul_(1.5)
        return build(copied)

    monkeypatch.setattr(parity, "bridge_around", around_something_else)
    found = bridge_parity(subject_from(model))
    assert found.verdict == "differs"
    assert found.max_difference is not None
    assert f"differ by at most {found.max_difference:.2g}" in found.words
    assert found.words.endswith("numbers on bridge names may not match.")
    assert found.kl is not None
    assert found.kl > 0


def test_an_architecture_without_an_adapter_has_no_bridge_and_a_reason():
    found = bridge_parity(subject_from(zoo.resnet()[0]))
    assert found.verdict == "none"
    assert found.words == "TransformerLens' bridge could not be built: it does not know the architecture ResNetForImageClassification."
    assert found.max_difference is None


def test_a_module_without_a_config_has_no_bridge_and_a_reason():
    model, batch = zoo.odd()
    found = bridge_parity(subject_from(model, data=[batch]))
    assert found.words.endswith("it knows models by their Hugging Face config, and OddMLP has none.")


def test_a_bridge_that_stumbles_while_it_runs_is_said_to(monkeypatch):
    def stumble(*_):
        raise RuntimeError("shapes do not fit\nand much more")

    monkeypatch.setattr(parity, "_run_bridge", stumble)
    found = bridge_parity(subject_from(zoo.llama()[0]))
    assert found.verdict == "none"
    assert found.words == (
        "TransformerLens' bridge could be built around this LlamaForCausalLM, but stops with a fault of its own when it is run "
        "(shapes do not fit), so nothing could be compared."
    )


def test_an_encoder_without_its_head_and_an_encoder_decoder_are_told_in_one_clear_sentence():
    from transformers import BertModel

    masked, batch = zoo.bert()
    words = bridge_parity(subject_from(BertModel(masked.config).eval(), data=[batch])).words
    assert words == (
        "TransformerLens' bridge could not be built: it looks for a part 'bert', which this BertModel does not have, as it knows the "
        "architecture only in another layout."
    )
    model, batch = zoo.t5()
    words = bridge_parity(subject_from(model, data=[batch])).words
    assert words.startswith(
        "TransformerLens' bridge could be built around this T5ForConditionalGeneration, but stops with a fault of its own"
    )


@pytest.mark.parametrize("error", [ValueError("odd\nand more"), AttributeError("odd")])
def test_what_a_bridge_says_that_nobody_foresaw_stands_in_a_sentence(monkeypatch, error):
    def stumble(_):
        raise error

    monkeypatch.setattr(parity, "bridge_around", stumble)
    words = bridge_parity(subject_from(zoo.llama()[0])).words
    assert words == "TransformerLens' bridge could not be built: it stops with a fault of its own on this LlamaForCausalLM (odd)."


def test_a_copy_that_would_not_fit_is_not_made(monkeypatch):
    monkeypatch.setattr(parity, "bridge_around", lambda model: pytest.fail("was built all the same"))
    found = bridge_parity(subject_from(zoo.llama()[0]), room=1000)
    assert found.verdict == "none"
    assert "was not compared with the model: a copy of the model needs about 0.0 GB, and 0.0 GB are free" in found.words


def test_two_distributions_compared_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2 = ln(2 / sqrt 3) = 0.1438.
    own, other = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    found = compared(own, other, is_logits=True)
    assert found.kl == pytest.approx(0.143841, abs=1e-6)
    assert found.max_difference == pytest.approx(0.693147, abs=1e-6)
    assert found.largest == pytest.approx(0.693147, abs=1e-6)
    assert found.verdict == "differs"


def test_the_tolerance_is_a_share_of_the_largest_output():
    own = torch.tensor([[100.0, 0.0]])
    assert compared(own, own + 0.009, is_logits=False).verdict == "agrees"
    assert compared(own, own + 0.011, is_logits=False).verdict == "differs"
    assert compared(own, own, is_logits=False).kl is None, "outputs that are no logits have no KL"


def test_outputs_that_are_not_finite_or_of_another_shape_never_agree():
    own = torch.ones(2, 3)
    assert compared(own, torch.full((2, 3), float("nan")), is_logits=True).verdict == "differs"
    assert compared(own, torch.ones(2, 4), is_logits=True).verdict == "differs"


@pytest.mark.models
def test_smollm2_agrees_with_its_bridge(smollm2):
    found = smollm2.bridge_parity()
    assert found.verdict == "agrees"
    assert found.same_top == 1.0


@pytest.mark.models
def test_minilm_is_an_encoder_without_its_head_so_the_bridge_says_what_it_misses(minilm):
    found = minilm.bridge_parity()
    assert found.verdict == "none"
    assert "it looks for a part 'bert', which this BertModel does not have" in found.words
