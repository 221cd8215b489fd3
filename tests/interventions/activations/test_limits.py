"""Where everything goes: FFNs add nothing (behind a first token, or a prompt), or no matrix of the blocks reads anything new."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.catalogue import find_intervention
from tests import zoo
from tests.interventions.activations.places import answer, calibrated, subject_of


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    return subject_of(zoo.llama())


def without(subject, *parts):
    """The answer where these parts of each block add zeros."""
    silent = lambda _, __, output: torch.zeros_like(output) if torch.is_tensor(output) else (torch.zeros_like(output[0]), *output[1:])  # noqa: E731
    handles = [getattr(layer, part).register_forward_hook(silent) for layer in subject.model.model.layers for part in parts]
    try:
        return answer(subject)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    "slug", ["ffn-threshold", "ffn-topk", "cats", "chess", "statistical-top-k", "cett", "contextual-oracle", "contextual-predicted"]
)
def test_at_level_1_ffns_add_nothing(subject, slug):
    real = subject.batch["attention_mask"].bool()
    with find_intervention(slug).make(0).on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        found = answer(subject)
    expected = without(subject, "mlp")
    assert not torch.allclose(expected[real], answer(subject)[real], atol=1e-5)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slug", ["teal", "teal-greedy", "hidden-dimensions"])
def test_at_level_1_the_head_reads_the_embedding(subject, slug):
    real = subject.batch["attention_mask"].bool()
    with find_intervention(slug).make(0).on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        found = answer(subject)
    torch.testing.assert_close(found[real], without(subject, "self_attn", "mlp")[real], rtol=1e-5, atol=1e-6)


def later(subject, prompt):
    """bool [batch, pos]: real tokens behind the first ``prompt`` (of a sequence's length) of their sequence."""
    mask = subject.batch["attention_mask"]
    return (mask.cumsum(1) - 1 >= prompt(mask.sum(1, keepdim=True))) & mask.bool()


@pytest.mark.parametrize(
    ("slug", "prompt"), [("contextual-previous", lambda _: 1), ("griffin", lambda n: (n + 1) // 2)], ids=["contextual-previous", "griffin"]
)
def test_at_level_1_ffns_add_nothing_behind_what_runs_in_full(subject, slug, prompt):
    real, silent = subject.batch["attention_mask"].bool(), later(subject, prompt)
    assert silent.any() and (real & ~silent).any()
    hook = lambda _, __, output: output.masked_fill(silent[..., None], 0.0)  # noqa: E731
    handles = [layer.mlp.register_forward_hook(hook) for layer in subject.model.model.layers]
    expected = answer(subject)
    for handle in handles:
        handle.remove()
    with find_intervention(slug).make(0).on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        found = answer(subject)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-6)


def test_at_level_1_delta_reads_the_first_token_everywhere(subject):
    real = subject.batch["attention_mask"].bool()
    first = real.int().argmax(1)

    def hook(_, given):
        x = given[0]
        return (x[torch.arange(len(x)), first][:, None].expand_as(x).contiguous(),)

    matrices = [one for one in subject.model.model.layers.modules() if isinstance(one, torch.nn.Linear)]
    handles = [matrix.register_forward_pre_hook(hook) for matrix in matrices]
    expected = answer(subject)
    for handle in handles:
        handle.remove()
    with find_intervention("delta").make(0).on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        found = answer(subject)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-6)


def test_at_level_1_a_convolution_gives_its_bias():
    from torch import nn

    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.Flatten(1), nn.Linear(5 * 16, 4)).eval()
    given = subject_of((model, (torch.randn(6, 3, 6, 6),)))
    with find_intervention("conv-channels").make(0).on(given, calibrated(given.batch)) as held:
        held.at(1.0)
        found = answer(given)
    expected = model[4](model[2].bias.repeat_interleave(16)[None]).detach()
    assert not torch.allclose(answer(given), expected.expand(6, 4), atol=1e-2)
    torch.testing.assert_close(found, expected.expand(6, 4), rtol=1e-5, atol=1e-6)
