"""Structure: what was planted is found, what is gone really is, and numbers are those of METHODS."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis.interventions.activations.base import Setting
from analysis.interventions.structure.base import Ablation, Part, Plan, Spot, ablated
from analysis.interventions.structure.finding import attentions, head_plan
from analysis.interventions.structure.heads import HeadMeans, Heads, importance, normalised
from analysis.interventions.structure.layers import (
    AttentionSublayers,
    Blocks,
    BlocksByGate,
    BlocksByLoss,
    EarlyExit,
    FfnSublayers,
    cosine,
    gate_importances,
    losses_alone,
)
from analysis.interventions.structure.neurons import Neurons, Prefixes
from analysis.spec import IncompatibleSubject
from analysis.tasks import choose_task
from tests import zoo
from tests.interventions.structure.planted import HEADS, answer, calibrated, language_subject, llama, loss, planted

EVERY = (Heads, HeadMeans, Neurons, Prefixes, AttentionSublayers, FfnSublayers, Blocks, BlocksByGate, BlocksByLoss, EarlyExit)


@pytest.fixture(scope="module")
def subject():
    return language_subject(planted())


@pytest.fixture(scope="module")
def calibration(subject):
    return calibrated(subject)


@pytest.fixture(scope="module")
def lively():
    """No structure of it is idle."""
    return language_subject(llama())


# ---------------------------------------------------------------------------------------------------------------------
# Planted truths


@pytest.mark.parametrize(
    ("method", "idle", "n"),
    [(Heads, 2 + 4, 12), (Neurons, 12 + 12 + 24, 72), (Blocks, 1, 3), (BlocksByGate, 1, 3),
     (BlocksByLoss, 1, 3), (EarlyExit, 1, 3), (FfnSublayers, 1, 3),
     (AttentionSublayers, 1, 3)],
)  # fmt: skip
def test_what_was_planted_costs_nothing_and_one_unit_more_costs_something(subject, calibration, method, idle, n):
    dense = answer(subject)
    with method().on(subject, calibration) as held:
        applied = held.at(idle / n)
        assert applied.native_value == idle and applied.achieved == idle / n
        assert torch.equal(answer(subject), dense), "bit for bit"
        held.at((idle + 1) / n)
        assert not torch.allclose(answer(subject), dense, atol=1e-4)
    assert torch.equal(answer(subject), dense)


def test_the_two_useless_heads_and_those_of_the_idle_block_are_the_first_to_go(subject, calibration):
    with Heads().on(subject, calibration) as held:
        assert set(held.order[:6].tolist()) == {4 * layer + head for layer, head in HEADS} | {8, 9, 10, 11}


def test_the_importance_of_a_block_is_the_slope_of_the_loss_to_a_gate_on_what_it_adds(lively):
    """By central differences of each example's mean loss, the gate in a hook of the test's own."""
    task, model = choose_task(lively, "causal-lm", split="calibration", seed=0), lively.model
    setting = Setting(model, [], calibrated(lively), lively.probe_batch())
    found = gate_importances(setting, BlocksByGate().plan(model, lively.probe_batch()), task)

    def losses(block, gate):
        def scaled(module, args, kwargs, output):
            return args[0] + gate * (output - args[0])

        handle = model.model.layers[block].register_forward_hook(scaled, with_kwargs=True)
        each = task.losses(model, 1)
        handle.remove()
        return each.total / each.n

    for block in range(2):
        slope = (losses(block, 1.01) - losses(block, 0.99)) / 0.02
        assert found[block] == pytest.approx(np.abs(slope).mean(), rel=0.02) and found[block] > 0


def test_the_mean_of_a_useless_head_is_as_useless(subject, calibration):
    dense = answer(subject)
    with HeadMeans().on(subject, calibration) as held:
        held.at(0.5)
        assert torch.equal(answer(subject), dense)


# ---------------------------------------------------------------------------------------------------------------------
# What is gone really is


def test_removing_a_head_is_what_zero_columns_of_the_output_matrix_do(lively):
    calibration = calibrated(lively)
    with Heads().on(lively, calibration) as held:
        held.at(1 / 8)
        (gone,) = np.flatnonzero(held.gone)
        removed = answer(lively)
    weight = lively.model.model.layers[gone // 4].self_attn.o_proj.weight
    before, head = weight.detach().clone(), gone % 4
    with torch.no_grad():
        weight[:, 4 * head : 4 * head + 4] = 0
    torch.testing.assert_close(removed, answer(lively), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        weight.copy_(before)


def test_without_all_blocks_the_head_reads_the_embedding(lively):
    with EarlyExit().on(lively) as held:
        held.at(1.0)
        bare = answer(lively)
    model = lively.model
    ids = torch.cat([inputs["input_ids"] for inputs, _ in lively.data.batches(4, "cpu")])
    with torch.no_grad():
        torch.testing.assert_close(bare, model.lm_head(model.model.norm(model.model.embed_tokens(ids))))


def test_without_all_sublayers_of_both_kinds_nothing_is_left_of_the_blocks(lively):
    calibration = calibrated(lively)
    with EarlyExit().on(lively) as held:
        held.at(1.0)
        bare = answer(lively)
    with AttentionSublayers().on(lively, calibration) as one:
        one.at(1.0)
        with FfnSublayers().on(lively, calibration) as other:
            other.at(1.0)
            torch.testing.assert_close(answer(lively), bare)


def test_a_prefix_keeps_the_first_neurons_of_every_layer(lively):
    with Prefixes().on(lively) as held:
        applied = held.at(0.5)
        assert applied.achieved == 0.5
        assert held.gone.reshape(2, 24)[:, 12:].all() and not held.gone.reshape(2, 24)[:, :12].any()


def test_the_last_block_is_the_first_that_an_early_exit_leaves_out(lively):
    with EarlyExit().on(lively) as held:
        held.at(0.5)
        assert held.gone.tolist() == [False, True]


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.name)
def test_levels_are_nested_and_every_pass_is_dense_again_after_an_error(lively, method):
    dense, calibration = answer(lively), calibrated(lively)
    with pytest.raises(ZeroDivisionError), method().on(lively, calibration) as held:
        gone = []
        for level in (0.9, 0.3, 0.6):
            held.at(level)
            gone.append(held.gone.copy())
        assert not (gone[1] & ~gone[2]).any() and not (gone[2] & ~gone[0]).any()
        answer(lively)
        raise ZeroDivisionError
    assert torch.equal(answer(lively), dense)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lively.model.modules())
    assert "forward" not in vars(lively.model)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gpt_neox", "mixtral", "t5", "opt", "vit"])
def test_each_kind_of_unit_is_found_in_other_families(name):
    from types import SimpleNamespace

    torch.manual_seed(0)
    model, batch = getattr(zoo, name)()
    subject = SimpleNamespace(model=model, probe_batch=lambda: batch)
    for method in (Prefixes, EarlyExit):
        with method().on(subject) as held:
            held.at(0.5)
            model(**batch) if isinstance(batch, dict) else model(*batch)
            assert held.cost(0.5).shares.static
    assert head_plan(model, batch).n and all(part.saves for part in head_plan(model, batch).parts if not part.together)


# ---------------------------------------------------------------------------------------------------------------------
# What would be saved


def test_keys_and_values_go_only_with_all_heads_that_share_them(lively):
    names = [f"model.layers.0.self_attn.{name}_proj.weight" for name in "qkvo"]
    with Heads().on(lively, calibrated(lively)) as held:
        held.order = np.array([0, 2, 1, 3, 4, 5, 6, 7])
        shares = [held.cost(n / 8).shares for n in (1, 2, 3, 4)]
    found = [[share.products.get(name, 1.0) for name in names] for share in shares]
    assert found == [[0.75, 1, 1, 0.75], [0.5, 1, 1, 0.5], [0.25, 0.5, 0.5, 0.25], [0, 0, 0, 0]]
    assert [share.keys_held for share in shares] == [1, 1, 0.75, 0.5] and [share.pairs for share in shares] == [0.875, 0.75, 0.625, 0.5]


def test_at_level_1_nothing_is_left_of_what_the_units_stand_for(lively):
    calibration = calibrated(lively)
    left = {}
    for method in EVERY:
        with method().on(lively, calibration) as held:
            shares = held.cost(1.0).shares
            assert set(shares.products.values()) == {0.0} and shares.static
            left[method.name] = (len(shares.products), shares.pairs, shares.keys_held)
    assert left["ffn-neurons"] == left["ffn-sublayers"] == (6, 1.0, 1.0)
    assert left["heads"] == left["attention-sublayers"] == (8, 0.0, 0.0)
    assert left["blocks"] == (14, 0.0, 0.0)


def test_a_fused_matrix_is_split_by_its_rows():
    model, batch = zoo.gpt2()
    (one, *_) = attentions(model, batch)
    plan = head_plan(model, batch)
    name = next(member.name for member in one.others)
    saves = sum(part.saves.get(name, 0.0) for part in plan.parts)
    assert saves == pytest.approx(1.0) and plan.parts[0].saves[name] == pytest.approx(1 / 3)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of METHODS


def test_michel_importance_of_one_head_and_two_tokens():
    paper, code = importance(torch.tensor([[1.0], [-1.0]]) * torch.tensor([[0.5], [0.5]]))
    assert (paper.item(), code.item()) == (0.0, 0.5)
    assert normalised(np.array([3.0, 4.0])) == pytest.approx([0.6, 0.8])


def test_michel_importance_is_the_central_difference_to_a_gate_on_the_head(lively):
    calibration = calibrated(lively)
    task = calibration.task
    plan = head_plan(lively.model, calibration.batches[0])
    setting = Setting(lively.model, [spot.site for spot in plan.spots], calibration, calibration.batches[0])
    found = Heads().scores(setting, plan)

    class Gate(Ablation):
        pass

    def slopes(unit):
        parts = []
        for sign in (1, -1):
            gate = Gate(plan, factor=1 + sign * 1e-3)
            gate.gone[unit] = True
            with ablated(lively.model, plan, gate):
                one = task.losses(lively.model, 1)
                parts.append(one.total / one.n)
        return np.abs(parts[0] - parts[1]).mean() / 2e-3

    expected = normalised(np.array([slopes(unit) for unit in range(4)]))
    assert found[:4] == pytest.approx(expected, rel=2e-2)


def test_the_influence_of_the_identity_is_0_and_of_a_turn_by_a_right_angle_1():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert cosine(x, x).tolist() == [1.0, 1.0]
    assert cosine(x[:1], torch.tensor([[0.0, 2.0]])).tolist() == [0.0] and cosine(x[:1], -x[:1]).tolist() == [-1.0]


def test_block_influence_by_hand(subject, calibration):
    with Blocks().on(subject, calibration) as held:
        assert held.order[0] == 2, "the identity turns nothing"


def test_the_loss_of_a_neuron_alone_in_a_linear_model_has_a_closed_form():
    """y = sum of w_u x_u with squared loss: without u the error is w_u x_u."""
    from types import SimpleNamespace

    from analysis.capture import find_sites
    from analysis.tasks import Losses

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).eval()
    x = torch.randn(5, 3)
    with torch.no_grad():
        hidden, dense = torch.relu(model[0](x)), model(x)
    site = next(site for site in find_sites(model, (x,)) if site.kind in ("ffn", "conv"))
    plan = Plan((Spot(0, 4, "0", site),), (Part(0, 4, {}),), "neurons")

    def losses(model, _):
        with torch.no_grad():
            total = ((model(x) - dense) ** 2).sum(1).double().numpy()
        zeros = np.zeros(5, np.int64)
        return Losses(np.arange(5), np.arange(5), zeros + 1, total, zeros, zeros)

    task = SimpleNamespace(losses=losses, batch_size=lambda tokens: 1)
    found = losses_alone(Setting(model, [site], None, (x,)), plan, task)
    assert found == pytest.approx(((hidden * model[2].weight[0]) ** 2).mean(0).detach().numpy(), rel=1e-5)


def test_a_neuron_contributes_its_mean_magnitude_times_the_norm_of_its_output_weights(lively):
    calibration = calibrated(lively)
    seen, layer = [], lively.model.model.layers[1].mlp.down_proj
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        for batch in calibration.batches:
            lively.model(**batch)
    handle.remove()
    expected = (torch.cat(seen).abs().mean(0) * layer.weight.norm(dim=0)).detach().numpy()
    with Neurons().on(lively, calibration) as held:
        order = [unit - 24 for unit in held.order if unit >= 24]
    assert order == np.argsort(expected, kind="stable").tolist()


def test_orders_by_the_loss_must_have_answers(lively):
    from dataclasses import replace

    nothing = replace(calibrated(lively), task=None)
    for method in (Heads, AttentionSublayers, BlocksByLoss):
        with pytest.raises(IncompatibleSubject, match="a task with answers"), method().on(lively, nothing):
            pass


def test_the_loss_rises_when_everything_is_gone(lively):
    before = loss(lively)
    with Neurons().on(lively, calibrated(lively)) as held:
        held.at(1.0)
        assert loss(lively) != before
