"""Token pruning and merging: against blocks run on sequences that really are shorter."""

from __future__ import annotations

import pytest
import torch

from analysis.interventions.tokens import METHODS
from analysis.interventions.tokens.merging import Merging, closest
from analysis.interventions.tokens.random_tokens import RandomTokens
from analysis.interventions.tokens.received import ClassAttention, ReceivedAttention
from analysis.interventions.tokens.state import Tokens
from analysis.interventions.tokens.zero_tprune import ZeroTPrune, ZeroTPruneSimilar, likeness
from analysis.spec import IncompatibleSubject
from analysis.stats.page_rank import over_heads, page_rank
from tests.interventions.attention.tiny import calibrated, run, subject
from tests.interventions.tokens.shortened import BLOCKS, LEVEL, MODELS, parts, pruned, targets
from tests.zoo import ZOO

SLUGS = [entry.slug for entry in METHODS]
PRUNING = [slug for slug in SLUGS if slug != "token-merging"]


def made(slug):
    return next(entry for entry in METHODS if entry.slug == slug).make(0)


def answers(out, batch):
    """Of each example's real tokens."""
    return [out[i][batch["attention_mask"][i].bool()] if "attention_mask" in batch else out[i] for i in range(2)]


def by_rank(weights, _, left, turn):
    del left
    ranks = page_rank(weights, (50, 10, 1)[turn])
    scores, counted = over_heads(ranks)
    return scores if bool(counted.any()) else (ranks**2).mean(0).sqrt()


def by_likeness(weights, keys, left, turn):
    """Written out token by token."""
    important = by_rank(weights, keys, left, turn).tolist()
    mean = keys.double().mean(0)
    order = sorted(range(len(important)), key=lambda i: -important[i])
    upper, lower = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    worth = [2 + one / max(important) for one in important]
    for i in lower:
        worth[i] = -max(float(torch.cosine_similarity(mean[i], mean[j], 0)) for j in upper)
    return torch.tensor(worth, dtype=torch.float64)


RULES = [
    (ReceivedAttention(), lambda weights, *_: weights.sum((0, 1))),
    (ClassAttention(), lambda weights, *_: weights[:, 0].sum(0)),
    (ZeroTPrune(), by_rank),
    (ZeroTPruneSimilar(), by_likeness),
]


@pytest.mark.parametrize("slug", SLUGS)
def test_an_entry_and_its_method_say_the_same(slug):
    entry, method = next(e for e in METHODS if e.slug == slug), made(slug)
    assert (method.slug, method.target, method.sources, entry.needs_causal) == (slug, "tokens", entry.sources, False)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize(("method", "score"), RULES)
def test_tokens_that_are_gone_might_as_well_be_cut_out(name, method, score):
    model, batch = MODELS[name]()
    expected, _, rows, pairs = pruned(model, batch, score)
    with method.on(subject(model), calibrated(batch)) as held:
        held.at(LEVEL)
        found = answers(run(model, batch), batch)
        shares, share = held.cost(LEVEL).shares, held.measured_share()
    for got, wanted in zip(found, expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-4)
    n = [len(a) for a in answers(torch.zeros(2, 17 if name == "vit" else 13, 1), batch)]
    assert shares.positions == pytest.approx(
        sum(r * m for r, m in zip(rows, [m for m in n for _ in range(BLOCKS)], strict=True)) / sum(n) / BLOCKS
    )
    assert shares.pairs == pytest.approx(sum(p for p, _ in pairs) / sum(q for _, q in pairs))
    assert share == pytest.approx(sum(targets(m)[-1] for m in n) / sum(m - 1 for m in n))


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("name", list(MODELS))
def test_level_0_is_the_model_itself_bit_for_bit_and_so_is_what_is_left_after(slug, name):
    model, batch = MODELS[name]()
    dense = run(model, batch)
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.6)
        assert not torch.equal(run(model, batch), dense)
        held.at(0.0)
        assert torch.equal(run(model, batch), dense)
        assert held.measured_share() is None
        assert held.cost(0.0).shares.positions == 1.0
        held.at(0.9)
        run(model, batch)
    assert torch.equal(run(model, batch), dense)


@pytest.mark.parametrize("slug", SLUGS)
def test_an_error_inside_a_pass_leaves_the_dense_model(slug):
    model, batch = MODELS["bert"]()
    dense = run(model, batch)

    def fail(*_):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.5)
        handle = model.bert.encoder.layer[2].attention.register_forward_pre_hook(fail)
        try:
            run(model, batch)
        finally:
            handle.remove()
    assert torch.equal(run(model, batch), dense)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("slug", PRUNING)
def test_at_level_1_the_first_token_is_left_alone_in_the_last_block(slug):
    model, batch = MODELS["vit"]()
    last = []
    handle = model.vit.layers[-1].register_forward_hook(lambda _, args, out: last.append((args[0], out)))
    with made(slug).on(subject(model), calibrated(batch)) as held:
        last.clear()
        held.at(1.0)
        found = run(model, batch)
        assert held.measured_share() == 1.0
    handle.remove()
    given = last[0][0][:, :1]
    expected = model.classifier(model.vit.layernorm(model.vit.layers[-1](given))[:, 0])
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("slug", PRUNING)
def test_a_token_that_is_gone_is_frozen_and_padding_is_left_as_it_was(slug):
    model, batch = MODELS["bert"]()
    rows = []
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(LEVEL)
        handles = [layer.register_forward_pre_hook(lambda _, args: rows.append(args[0].clone())) for layer in model.bert.encoder.layer]
        run(model, batch)
        for handle in handles:
            handle.remove()
    still = (rows[3] == rows[2]).all(-1)
    assert still.sum(-1).tolist() == [targets(13)[1], targets(9)[1]]
    assert not still[:, 0].any()
    assert not still[1, 9:].any()


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_planned_is_what_many_tokens_measure(slug):
    model, batch = MODELS["vit"]()
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.75)  # 4, 8 and 12 of 16 patches
        planned = held.cost(0.75).shares
        run(model, batch)
        measured = held.cost(0.75).shares
    assert planned.positions == pytest.approx(1 - 0.75 / 2)
    assert measured.positions == pytest.approx((17 + 13 + 9 + 5) / 68)
    assert measured.pairs == pytest.approx((17**2 + 13**2 + 9**2 + 5**2) / (4 * 17**2))


@pytest.mark.parametrize(("slug", "products"), [("token-random", 0.0), ("token-class-attention", 2 * (17 + 13 + 9) / 2 / 8)])
def test_choosing_costs_what_it_adds_up(slug, products):
    model, batch = MODELS["vit"]()
    with made(slug).on(subject(model), calibrated(batch)) as held:
        held.at(0.75)
        run(model, batch)
        assert held.cost(0.75).shares.overhead_pairs == pytest.approx(products / (4 * 2 * 17**2) / 2)


@pytest.mark.parametrize("name", ["llama", "gpt2", "resnet", "albert", "swin"])
def test_models_without_a_stream_of_tokens_that_see_all_are_refused(name):
    if name not in ZOO:
        pytest.skip(f"no {name}")
    model, batch = ZOO[name]()
    with pytest.raises(IncompatibleSubject), ReceivedAttention().on(subject(model), calibrated(batch)):
        pass


def test_importance_of_a_token_is_the_page_rank_of_methods():
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
    tokens = Tokens(torch.arange(3), 0)
    tokens.weights = torch.stack([weights, torch.full((3, 3), 1 / 3)])
    assert ZeroTPrune().scores(tokens).tolist() == pytest.approx([0.25, 0.5, 0.25]), "the flat head is not counted"
    tokens.weights = torch.full((2, 3, 3), 1 / 3)
    assert ZeroTPrune().scores(tokens).tolist() == pytest.approx([1 / 3] * 3, abs=1e-5), "all heads where each is flat"


def test_a_token_looked_at_by_important_ones_outlives_one_looked_at_by_many():
    weights = torch.tensor([[0.1, 0.8, 0.0, 0.1], [0.4, 0.1, 0.5, 0.0], [0.1, 0.9, 0.0, 0.0], [0.0, 0.3, 0.0, 0.7]])[None]
    tokens = Tokens(torch.arange(4), 0)
    tokens.weights = weights
    received, ranked = ReceivedAttention().scores(tokens), ZeroTPrune().scores(tokens)
    assert received[2] < received[3]
    assert ranked[2] > ranked[3]


def test_of_the_less_important_half_what_is_like_the_other_goes_first():
    tokens = Tokens(torch.arange(4), 0)
    row = torch.tensor([0.4, 0.1, 0.2, 0.3])
    tokens.weights = row.expand(1, 4, 4)
    tokens.key = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [-1.0, 1.0], [0.0, 1.0]]])
    worth = ZeroTPruneSimilar().scores(tokens)
    assert worth.argsort().tolist() == [1, 2, 3, 0], "1 is nearly 0; 2 is half like 3; then by importance"
    assert worth[[1, 2]].tolist() == pytest.approx([-1 / 1.01**0.5, -(0.5**0.5)], abs=1e-6)
    assert likeness(torch.zeros(1, 2), torch.ones(1, 2)).tolist() == [0.0]


def test_the_closest_pairs_come_first():
    pairs = closest(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]), 2)
    assert pairs.tolist() == [[1, 1], [0, 0]]


def test_merged_rows_are_means_weighed_by_what_they_stand_for():
    tokens = Tokens(torch.arange(5), 0)
    rows = torch.tensor([[9.0], [1.0], [3.0], [8.0], [5.0]])
    rows = tokens.merge(rows, torch.tensor([2]), torch.tensor([1]))
    assert rows[:, 0].tolist() == [9, 2, 2, 8, 5]
    rows = tokens.merge(rows, torch.tensor([1, 4]), torch.tensor([3, 3]))
    assert rows[:, 0].tolist() == pytest.approx([9, 4.25, 4.25, 4.25, 4.25]), "17 / 4"
    assert tokens.left.tolist() == [0, 3]
    assert tokens.size[[0, 3]].tolist() == [1, 4]


@torch.no_grad()
def merged(model, batch, level):
    """Answers where groups of tokens really become one, whose size weighs in attention."""
    embed, layers, read, look = parts(model)
    found = []
    for example in range(2):
        whole = embed({"pixel_values": batch["pixel_values"][example : example + 1]})
        n = whole.shape[1]
        groups, x = [[i] for i in range(n)], whole
        for index, layer in enumerate(layers):
            _, keys = look(layer, x)
            sizes = torch.tensor([float(len(group)) for group in groups])
            x = layer(x, attention_mask=sizes.log()[None, None, None].expand(1, 1, len(sizes), -1))
            x = x[0] if isinstance(x, tuple) else x
            go = targets(n, level)[index] - (n - len(groups)) if index < BLOCKS - 1 else 0
            mean = keys.mean(0)
            ours, others = range(2, len(groups), 2), range(1, len(groups), 2)
            best = {s: max((float(torch.cosine_similarity(mean[s], mean[t], 0)), -t) for t in others) for s in ours}
            gone = sorted(ours, key=lambda s, b=best: -b[s][0])[:go]
            into = {t: [s for s in gone if -best[s][1] == t] for t in others}
            rows, kept = [], []
            for i in range(len(groups)):
                if i in gone:
                    continue
                parts_of = [i, *into.get(i, [])]
                total = sum(len(groups[p]) for p in parts_of)
                rows.append(sum(x[0, p] * len(groups[p]) for p in parts_of) / total)
                kept.append([token for p in parts_of for token in groups[p]])
            groups, x = kept, torch.stack(rows)[None]
        found.append(read(x)[0])
    return found


def test_merged_tokens_might_as_well_be_one():
    model, batch = MODELS["vit"]()
    with Merging().on(subject(model), calibrated(batch)) as held:
        held.at(LEVEL)
        found = run(model, batch)
        assert held.measured_share() == pytest.approx(targets(17)[-1] / 16)
    for got, wanted in zip(found, merged(model, batch, LEVEL), strict=True):
        assert torch.allclose(got, wanted, atol=1e-4)


def test_at_level_1_two_tokens_are_left_of_merging():
    model, batch = MODELS["vit"]()
    with Merging().on(subject(model), calibrated(batch)) as held:
        held.at(1.0)
        run(model, batch)
        assert held.measured_share() == 15 / 16


def test_random_tokens_are_nested_and_differ_by_example_and_seed():
    def order(seed, number):
        return RandomTokens(seed).scores(Tokens(torch.arange(30), number))

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    assert not torch.equal(order(0, 1), order(1, 1))
    shorter = Tokens(torch.arange(30), 1)
    shorter.remove(torch.tensor([3]))
    assert torch.equal(RandomTokens(0).scores(shorter), order(0, 1)[shorter.left]), "an order that what is gone does not change"


def test_batches_say_nothing_about_who_goes():
    model, batch = MODELS["bert"]()
    single = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(2)]
    for method in (RandomTokens(), Merging(), ZeroTPrune()):
        with method.on(subject(model), calibrated(batch)) as held:
            held.at(LEVEL)
            together = answers(run(model, batch), batch)
            held.at(LEVEL)
            apart = [run(model, one)[0] for one in single]
        assert torch.allclose(together[0], apart[0], atol=1e-4)
        assert torch.allclose(together[1], apart[1][:9], atol=1e-4)
