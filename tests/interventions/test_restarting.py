"""Restarting from stored inputs and stacking versions: the losses of full passes, or a full pass and a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.interventions.pruning import WeightPruning
from analysis.interventions.restarting import Restarting
from analysis.interventions.scope import weight_scope
from analysis.interventions.skipping import block_of, blocks_around
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.tasks import choose_task
from tests import zoo
from tests.tasks.test_tasks import FakeTokenizer

LEVELS = (0.3, 0.5, 0.7, 0.9)


def text(n=8, length=7):
    """Two batches: the first is looked at beside full passes, the second is trusted."""
    ids = torch.randint(3, 60, (n, length), generator=torch.Generator().manual_seed(1))
    return TextWindows.from_ids(ids, document=np.arange(n))


def subject(make):
    model, batch = make()
    torch.manual_seed(3)
    for p in model.parameters():  # larger than at initialisation, so that every matrix matters
        p.data.mul_(4.0 if p.dim() > 1 else 1.0)
    if isinstance(batch, dict) and "input_ids" in batch:
        return subject_from(model, data=text(), tokenizer=FakeTokenizer())
    return subject_from(model, data=GivenBatches([batch, batch]))


def compared(one, *, stack=3, batch=4, task="auto"):
    """Of every matrix at every level: losses restarted and stacked beside losses of full passes, and the dense ones."""
    scope, task = weight_scope(one.model), choose_task(one, task)
    blocks = blocks_around(one.model, scope.members)
    fast = Restarting(one.model, task, batch * stack, blocks, stack=stack)
    naive = Restarting(one.model, task, batch, (), stack=1, restart=False)
    dense = fast.dense()
    naive.dense()
    found, expected = [], []
    with WeightPruning(scope="per_matrix").on(one) as held:
        for member in scope.members:
            changes = [{member.name: held.weights(member.name, level)} for level in LEVELS]
            found += [x.total for x in fast.measure(changes, block_of(member))]
            expected += [x.total for x in naive.measure(changes)]
    return np.array(found), np.array(expected), dense.total, fast, naive


@pytest.mark.parametrize("make", [zoo.llama, zoo.gpt2, zoo.bert, zoo.t5, zoo.opt, zoo.gpt_neox, zoo.phi3], ids=lambda m: m.__name__)
def test_restart_and_stacking_give_the_losses_of_full_passes(make):
    found, expected, dense, fast, naive = compared(subject(make))
    assert np.abs(expected - dense).max() > 1e-2, "the changes must matter, or nothing is tested"
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)
    assert fast.facts["fallbacks"] == [] and len(fast.blocks) >= 2
    assert fast.passes < naive.passes


def switch():
    """With three experts, the fewest at which versions of one cannot be stacked on the second batch and run one by one there."""
    return zoo.switch(experts=3)


@pytest.mark.parametrize("make", [zoo.mixtral, zoo.mamba, zoo.vit, switch, zoo.encoder, zoo.resnet, zoo.albert], ids=lambda m: m.__name__)
def test_other_families_give_them_too_or_say_why_they_take_full_passes(make):
    found, expected, _, fast, _ = compared(subject(make))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)
    assert fast.blocks or fast.facts["fallbacks"]


def test_a_layer_that_runs_twice_is_not_restarted_and_that_is_said():
    one = subject(zoo.albert)
    _, _, _, fast, _ = compared(one)
    assert fast.blocks == () and "ran 2 times" in fast.facts["fallbacks"][0]


def test_a_model_without_blocks_is_measured_by_full_passes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    found, expected, _, fast, _ = compared(subject_from(model, data=GivenBatches([torch.randn(5, 6), torch.randn(3, 6)])))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert fast.blocks == ()


class Around(nn.Module):
    """The head reads what every block gave: blocks before the restart cannot be skipped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)])
        self.head = nn.Linear(18, 4)

    def forward(self, x):
        seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return self.head(torch.cat(seen, -1))


def test_a_model_whose_head_reads_all_blocks_falls_back_and_says_so():
    found, expected, _, fast, _ = compared(subject_from(Around(), data=GivenBatches([torch.randn(5, 6), torch.randn(3, 6)])))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert any("does not give the dense loss" in words for words in fast.facts["fallbacks"])


class Mixes(nn.Module):
    """Subtracts the mean over the batch: examples see each other, so versions must not lie in one batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            x = x - x.mean(0)
        return x


def test_a_model_whose_examples_see_each_other_runs_versions_one_by_one_and_says_so():
    found, expected, _, fast, _ = compared(subject_from(Mixes(), data=GivenBatches([torch.randn(5, 6), torch.randn(5, 6)])))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert any("stacked, the loss is not that of full passes" in words for words in fast.facts["fallbacks"])


def test_the_model_is_as_it_was_also_after_an_error():
    one = subject(zoo.llama)
    before = {name: (p.data_ptr(), p.clone()) for name, p in one.model.named_parameters()}
    _, _, _, fast, _ = compared(one)
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(RuntimeError):
        fast.measure([{name: torch.zeros(3, 3)}] * 2, "model.layers.1")
    assert all(p.data_ptr() == before[n][0] and torch.equal(p, before[n][1]) for n, p in one.model.named_parameters())
    assert not any("forward" in module.__dict__ or module._forward_pre_hooks for module in one.model.modules())
