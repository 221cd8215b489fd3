"""The playground's answers, by the worker's own code on tiny seeded models: numbers that can be checked by hand, and what is refused."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.interventions.catalogue import INTERVENTIONS
from analysis.live.desk import Ask
from analysis.live.offered import CALIBRATED, NOT_HERE, POINTS, offers
from analysis.live.played import Played
from analysis.live.player_text import continued, most_probable
from analysis.live.playing import MOST_CHARACTERS, MOST_NEW, Play, Step, UnitRef, units_of
from analysis.live.reader import Reader
from analysis.live.worker import answer as worker_answer
from analysis.models import subject_from
from analysis.spec import UserError
from store import Store
from tests import zoo
from tests.characters import reader_of, tokenizer
from tests.latent_run import make_saes
from tests.latent_run import subject as sae_subject

PROMPT = "the seas"


@pytest.fixture(scope="module")
def llama():
    return reader_of(zoo.llama)


@pytest.fixture(scope="module")
def bert():
    return reader_of(zoo.bert)


def ask(reader, text=PROMPT, check=lambda: None, **more):
    return Played.from_json(reader.player.answer(Play(text, **more), check))


def direct(reader, text=PROMPT):
    ids = torch.tensor([reader.subject.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return ids[0], reader.subject.model(input_ids=ids).logits[0]


def digest(reader):
    return {name: parameter.detach().clone() for name, parameter in reader.subject.model.state_dict().items()}


def same_weights(before, reader):
    return all(torch.equal(before[name], parameter) for name, parameter in reader.subject.model.state_dict().items())


# ---------------------------------------------------------------------------------------------------------------------
# The model as it is


def test_next_tokens_and_loss_are_those_of_the_model_itself(llama):
    ids, logits = direct(llama)
    played = ask(llama)
    assert played.ids == tuple(ids.tolist()) and "".join(played.tokens) == PROMPT
    share = logits.double().softmax(-1)
    for t, row in enumerate(played.dense.next):
        assert [i for i, _ in row] == share[t].topk(10).indices.tolist()
        assert [p for _, p in row] == pytest.approx(share[t].topk(10).values.tolist())
    expected = -share.log()[:-1].gather(1, ids[1:, None])[:, 0]
    assert played.dense.loss[0] is None
    assert list(played.dense.loss[1:]) == pytest.approx(expected.tolist(), rel=1e-5)
    assert played.dense.mean_loss == pytest.approx(float(expected.mean()), rel=1e-5) and played.dense.n_scored == 7


@pytest.mark.parametrize("family", [zoo.llama, zoo.gpt2, zoo.gpt_neox, zoo.opt])
def test_the_last_row_of_the_lens_is_the_models_own_answer_and_the_first_the_embeddings(family):
    reader = reader_of(family)
    played = ask(reader)
    lens = played.dense.lens
    assert lens is not None, played.dense.no_lens
    assert lens.names == ("embedding", "0", "1") and lens.first == 0
    assert list(lens.ids[-1]) == [row[0][0] for row in played.dense.next]
    assert list(lens.p[-1]) == [row[0][1] for row in played.dense.next]
    assert lens.ids[0] != lens.ids[-1]


def test_a_row_of_the_lens_is_norm_and_unembedding_of_the_stream_there(llama):
    ids, _ = direct(llama)
    model, seen = llama.subject.model, {}
    hook = model.model.layers[0].register_forward_hook(lambda _, args, output: seen.update(h=output))
    with torch.no_grad():
        model(input_ids=ids[None])
        expected = model.lm_head(model.model.norm(seen["h"]))[0].softmax(-1)
    hook.remove()
    lens = ask(llama).dense.lens
    assert list(lens.ids[1]) == expected.argmax(-1).tolist()
    assert list(lens.p[1]) == pytest.approx(expected.max(-1).values.tolist(), rel=1e-5)


def test_a_model_that_sees_all_tokens_has_no_lens_and_no_loss_but_next_tokens(bert):
    played = ask(bert)
    assert played.dense.lens is None and "predict the next token" in played.dense.no_lens
    assert played.dense.loss is None and played.dense.mean_loss is None and not played.causal
    assert played.speaks and len(played.dense.next) == len(played.tokens)


def test_sparsity_by_layer_is_that_of_the_projects_definitions(llama):
    """Active: |a| ||w_out|| above a hundredth of the FFN's output norm; keys: the fewest that hold 90 % of a query's weights."""
    ids, _ = direct(llama)
    model, seen = llama.subject.model, {}
    mlp = model.model.layers[1].mlp.down_proj
    hook = mlp.register_forward_hook(lambda _, args, output: seen.update(a=args[0][0], out=output[0]))
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        weights = model(input_ids=ids[None], output_attentions=True).attentions[1][0]
    model.config._attn_implementation = "sdpa"
    hook.remove()
    active = seen["a"].abs() * mlp.weight.norm(dim=0) > 0.01 * seen["out"].norm(dim=1, keepdim=True)
    sizes = [
        int((row[: q + 1].sort(descending=True).values.cumsum(0) < 0.9).sum() + 1) / (q + 1)
        for head in weights
        for q, row in enumerate(head)
        if q
    ]
    dense = ask(llama).dense
    assert [share for layer, _, share in dense.neurons if layer == 1] == [pytest.approx(float(active.float().mean()))]
    assert [share for layer, _, share in dense.attention if layer == 1] == [pytest.approx(float(np.mean(sizes)))]


def test_tokens_are_coloured_by_what_a_neuron_or_a_head_does(llama):
    ids, _ = direct(llama)
    model, seen = llama.subject.model, {}
    hook = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _, args: seen.update(a=args[0][0]))
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        weights = model(input_ids=ids[None], output_attentions=True).attentions[0][0, 3]
    model.config._attn_implementation = "sdpa"
    hook.remove()
    neuron = ask(llama, colour=UnitRef("neuron", 1, 5)).dense
    assert list(neuron.values) == pytest.approx(seen["a"][:, 5].tolist(), rel=1e-4) and neuron.looks is None
    head = ask(llama, colour=UnitRef("head", 0, 3)).dense
    n = torch.arange(8, 0, -1)
    assert list(head.values) == pytest.approx((weights.sum(0) / n).tolist(), rel=1e-4)
    assert dict(head.looks[7])[int(weights[7].argmax())] == pytest.approx(float(weights[7].max()), rel=1e-4)
    assert len(head.norms) == 8 and min(head.norms) > 0


# ---------------------------------------------------------------------------------------------------------------------
# Something taken away


@pytest.mark.parametrize("slug", ["magnitude", "ffn-topk", "ffn-threshold", "attention-topk", "sink-window", "ffn-neurons", "early-exit"])
def test_level_0_changes_nothing_at_all(llama, slug):
    before = digest(llama)
    played = ask(llama, steps=(Step(slug, 0.0),))
    assert played.kl == (0.0,) * 8 and all(played.same)
    assert played.sparse == replace(played.dense)
    assert same_weights(before, llama)


@pytest.mark.parametrize(
    "slug", [one.slug for one in offers() if not one.not_here and one.needs_causal is not False and one.slug != "dead-neurons"]
)
def test_every_intervention_that_is_offered_runs_and_the_model_is_dense_again(llama, slug):
    before = digest(llama)
    played = ask(llama, steps=(Step(slug, 0.5),), lens=False)
    assert max(played.kl) > 0, slug
    assert played.applied[0].slug == slug and 0 < played.applied[0].achieved <= 1
    assert played.sparse.neurons and played.sparse.attention
    assert same_weights(before, llama)
    assert ask(llama, lens=False).dense == replace(played.dense)


@pytest.mark.parametrize("slug", ["token-attention", "token-class-attention", "zero-tprune", "token-merging", "token-random", "wanda"])
def test_those_on_tokens_run_on_a_model_that_sees_all(bert, slug):
    played = ask(bert, steps=(Step(slug, 0.5),))
    assert max(played.kl) > 0 and played.sparse.loss is None


def test_kl_of_each_token_is_that_of_two_distributions_by_hand(llama):
    """Half of all weights gone, by hand: the smaller half of every matrix of the blocks."""
    ids, logits = direct(llama)
    model = llama.subject.model
    played = ask(llama, steps=(Step("magnitude", 0.5),))
    from analysis.interventions.catalogue import find_intervention

    with find_intervention("magnitude").make(0).apply(llama.subject, 0.5), torch.no_grad():
        sparse = model(input_ids=ids[None]).logits[0]
    p, q = logits.double().softmax(-1), sparse.double().softmax(-1)
    assert list(played.kl) == pytest.approx((p * (p / q).log()).sum(-1).tolist(), rel=1e-6)
    assert list(played.same) == (p.argmax(-1) == q.argmax(-1)).tolist()


def test_two_interventions_at_once_are_more_than_either(llama):
    one, other = Step("ffn-topk", 0.5), Step("attention-topk", 0.5)
    both = ask(llama, steps=(one, other))
    assert [step.slug for step in both.applied] == ["ffn-topk", "attention-topk"]
    assert both.kl not in (ask(llama, steps=(one,)).kl, ask(llama, steps=(other,)).kl)
    with pytest.raises(UserError, match="only one on its weights"):
        ask(llama, steps=(Step("magnitude", 0.5), Step("random", 0.5)))
    assert ask(llama).dense == both.dense


def test_taking_a_neuron_away_is_zeroing_its_output_weights(llama):
    ids, logits = direct(llama)
    played = ask(llama, without=(UnitRef("neuron", 1, 5),))
    weight = llama.subject.model.model.layers[1].mlp.down_proj.weight
    column = weight[:, 5].detach().clone()
    with torch.no_grad():
        weight[:, 5] = 0
        expected = llama.subject.model(input_ids=ids[None]).logits[0]
        weight[:, 5] = column
    p, q = logits.double().softmax(-1), expected.double().softmax(-1)
    assert list(played.kl) == pytest.approx((p * (p / q).log()).sum(-1).tolist(), rel=1e-4, abs=1e-9) and max(played.kl) > 1e-6


def test_taking_a_dead_neuron_away_changes_nothing(llama):
    mlp = llama.subject.model.model.layers[0].mlp
    kept = mlp.up_proj.weight[7].detach().clone()
    with torch.no_grad():
        mlp.up_proj.weight[7] = 0
    try:
        assert ask(llama, without=(UnitRef("neuron", 0, 7),)).kl == (0.0,) * 8
        assert max(ask(llama, without=(UnitRef("neuron", 0, 8),)).kl) > 0
    finally:
        with torch.no_grad():
            mlp.up_proj.weight[7] = kept


def test_taking_a_head_away_is_zeroing_what_the_output_matrix_reads_of_it(llama):
    ids, logits = direct(llama)
    played = ask(llama, without=(UnitRef("head", 1, 2),))
    weight = llama.subject.model.model.layers[1].self_attn.o_proj.weight
    columns = weight[:, 8:12].detach().clone()
    with torch.no_grad():
        weight[:, 8:12] = 0
        expected = llama.subject.model(input_ids=ids[None]).logits[0]
        weight[:, 8:12] = columns
    p, q = logits.double().softmax(-1), expected.double().softmax(-1)
    assert list(played.kl) == pytest.approx((p * (p / q).log()).sum(-1).tolist(), rel=1e-4, abs=1e-9) and max(played.kl) > 1e-6


def test_taking_a_latent_away_takes_what_it_adds_out_of_the_stream(tmp_path):
    store = Store(tmp_path / "store")
    run = make_saes(store)[0]
    subject = sae_subject()
    subject._kept["tokenizer"] = tokenizer()
    reader = Reader(subject, str(store.folder))
    dictionary, model, seen = reader.latents.open(run.id).dictionary, subject.model, {}
    hook = model.model.layers[1].register_forward_hook(lambda _, args, output: seen.update(h=output[0]))
    ids, logits = direct(reader)
    hook.remove()
    f = dictionary.encode(seen["h"])
    latent = int((f.sum(0) * ((f == 0).any(0))).argmax())  # active, but not everywhere
    unit, on = UnitRef("latent", 0, latent, run.id), f[:, latent] != 0
    played = ask(reader, without=(unit,), colour=unit)
    assert list(played.dense.values) == pytest.approx(f[:, latent].tolist(), rel=1e-5)
    with torch.no_grad():
        expected = model.lm_head(model.model.norm(seen["h"] - f[:, latent, None] * dictionary.W_dec[latent]))
    p, q = logits.double().softmax(-1), expected.double().softmax(-1)
    assert list(played.kl) == pytest.approx((p * (p / q).log()).sum(-1).tolist(), rel=1e-2, abs=1e-7)
    assert max(played.kl) > 1e-5 and all(k == 0 for k, is_on in zip(played.kl, on.tolist(), strict=True) if not is_on)
    never = next(i for i in range(dictionary.d_sae) if not bool((f[:, i] != 0).any()))
    assert ask(reader, without=(UnitRef("latent", 0, never, run.id),)).kl == (0.0,) * len(ids)
    with pytest.raises(UserError, match="latent must be from 0 to 39, got 40"):
        ask(reader, without=(UnitRef("latent", 0, 40, run.id),))
    store.close()


# ---------------------------------------------------------------------------------------------------------------------
# Continued texts


def test_a_greedy_continuation_is_the_models_own_and_a_seed_draws_the_same_again(llama):
    ids, _ = direct(llama)
    expected = ids.tolist()
    for _ in range(5):
        with torch.no_grad():
            expected.append(int(llama.subject.model(input_ids=torch.tensor([expected])).logits[0, -1].argmax()))
    assert list(ask(llama, new=5).dense.text.ids) == expected[8:]
    drawn = [ask(llama, new=8, temperature=1.5, seed=seed).dense.text.ids for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert ask(llama, new=5, steps=(Step("ffn-topk", 0.0),)).sparse.text == ask(llama, new=5).dense.text


def test_a_continuation_ends_at_the_end_of_text():
    logits = torch.full((9,), -5.0)
    queue = [3, 4, 7, 5]
    found = continued(lambda ids: logits.scatter(0, torch.tensor(queue[len(ids) - 1]), 5.0), [1], 4, {7})
    assert found == ([3, 4], True)
    assert continued(lambda ids: logits.scatter(0, torch.tensor(2), 5.0), [1], 3, {7}) == ([2, 2, 2], False)


def test_temperature_2_draws_from_the_square_root_of_the_probabilities():
    """Logits 0 and ln 4: at temperature 2 odds of 1 to 2."""
    made, _ = continued(lambda _: torch.tensor([0.0, np.log(4.0)]), [1], 3000, set(), temperature=2.0)
    assert np.mean(made) == pytest.approx(2 / 3, abs=0.03)


def test_most_probable_are_probabilities_by_hand():
    [row] = most_probable(torch.tensor([[0.0, np.log(2.0), 0.0]]), 2)
    assert row[0] == [1, pytest.approx(0.5)] and row[1][1] == pytest.approx(0.25)


def test_an_answer_that_is_not_finite_is_none_and_no_number(llama):
    from analysis.live import wire

    weight = llama.subject.model.lm_head.weight
    kept = weight[7].detach().clone()
    with torch.no_grad():
        weight[7] = float("nan")
    try:
        given = llama.player.answer(Play(PROMPT, steps=(Step("ffn-topk", 0.5),), colour=UnitRef("head", 0, 1)), lambda: None)
        wire.pack(given)  # refuses what is no JSON
        played = Played.from_json(given)
    finally:
        with torch.no_grad():
            weight[7] = kept
    assert played.dense.next == ((),) * 8 and played.kl == (None,) * 8
    assert played.dense.lens is None and "not finite" in played.dense.no_lens and played.dense.mean_loss is None


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, given up, offered


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": "e" * 300}, "at most 256 tokens here, got 300; shorten it, or start a job of prompt_effect"),
        ({"without": (UnitRef("neuron", 9, 0),)}, "layer of a neuron must be from 0 to 1, got 9"),
        ({"without": (UnitRef("neuron", 1, 24),)}, "neuron must be from 0 to 23 in layer 1, got 24"),
        ({"colour": UnitRef("head", 1, 4)}, "head must be from 0 to 3 in layer 1, got 4"),
        ({"steps": (Step("token-merging", 0.5),)}, "in which all tokens are seen, got one whose tokens see none later"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_the_model_stays_dense(llama, change, words):
    with pytest.raises(UserError, match=words):
        ask(llama, **change)
    assert ask(llama, steps=(Step("magnitude", 0.0),)).kl == (0.0,) * 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": "x" * (MOST_CHARACTERS + 1)}, "at most 2,000 characters, got 2,001"),
        ({"text": " "}, "must not be empty"),
        ({"steps": [{"slug": "sparsegpt", "level": 0.5}]}, "one that the playground runs, got sparsegpt: it solves"),
        ({"steps": [{"slug": "nonsense", "level": 0.5}]}, "got 'nonsense'"),
        ({"steps": [{"slug": "magnitude", "level": 2}]}, "level must be between 0 and 1, got 2"),
        ({"steps": [{"slug": "magnitude", "level": 0.1}] * 2}, "must differ, got magnitude twice"),
        ({"steps": [{"slug": "magnitude", "level": 0.1}] * 3}, "list of at most 2 entries, got 3"),
        ({"without": [{"kind": "ghost"}]}, "neuron, head or latent"),
        ({"without": [{"kind": "latent", "index": 1}]}, "must name its SAE"),
        ({"new": MOST_NEW + 1}, "new must be a whole number from 0 to 32, got 33"),
        ({"temperature": "hot"}, "temperature must be between 0 and 2, got 'hot'"),
    ],
)
def test_a_question_that_is_none_is_a_sentence(change, words):
    with pytest.raises(UserError, match=words):
        Play.from_json(Play("e").as_json() | change)


def test_a_question_comes_back_from_json_as_it_was():
    asked = Play(
        "w3", (Step("wanda", 0.25),), units_of("neuron 1:5, head 0:3; latent 0123abcd-1:12"), UnitRef("head", 1, 1), 3, 0.5, 7, False
    )
    assert Play.from_json(asked.as_json()) == asked
    assert [str(unit) for unit in asked.without] == ["neuron 1:5", "head 0:3", "latent 0123abcd-1:12"]
    with pytest.raises(UserError, match="written as neuron 5:17"):
        units_of("neuron five")


@pytest.mark.parametrize("steps", [(), (Step("magnitude", 0.5),), (Step("wanda", 0.5),), (Step("attention-topk", 0.5),)])
def test_a_cancelled_question_stops_between_two_modules_and_gives_every_weight_back(steps):
    reader = reader_of(zoo.llama)
    reader.player  # noqa: B018 - made before, so that only the question is timed
    before = digest(reader)
    asked = Ask("1", Play(PROMPT, steps=steps, new=MOST_NEW))
    n = 0
    hook = reader.subject.model.model.layers[1].register_forward_pre_hook(lambda *_: after())

    def after():
        nonlocal n
        n += 1
        if n == 3 + 2 * bool(steps):
            asked.cancelled.set()

    reply = worker_answer(reader, asked, 60.0)
    hook.remove()
    assert reply["kind"] == "cancelled"
    assert n < 3 + 2 * bool(steps) + 2  # the pass that was running went no further
    assert same_weights(before, reader)
    assert ask(reader, steps=(Step("ffn-topk", 0.0),)).kl == (0.0,) * 8


def test_a_question_that_takes_too_long_is_given_up():
    reader = reader_of(zoo.llama)
    hook = reader.subject.model.model.layers[0].register_forward_pre_hook(lambda *_: time.sleep(0.02))
    reply = worker_answer(reader, Ask("1", Play(PROMPT, new=MOST_NEW)), 0.1)
    hook.remove()
    assert reply["kind"] == "slow" and "at most 0.1 seconds" in reply["words"]


def test_every_intervention_of_the_catalogue_is_offered_or_says_why_not():
    known = {entry.slug for entry in INTERVENTIONS}
    assert {one.slug for one in offers()} == known
    assert set(NOT_HERE) <= known and known >= CALIBRATED and known >= POINTS
    assert not CALIBRATED & set(NOT_HERE)
    for entry in INTERVENTIONS:
        made = entry.make(0)
        assert (made.kind == "point") == (entry.slug in POINTS), entry.slug
        if entry.slug in CALIBRATED:
            assert made.needs, entry.slug
        elif entry.slug not in NOT_HERE and entry.target not in ("attention", "tokens"):
            assert not made.needs, entry.slug


def test_one_question_is_answered_at_a_time():
    """Two threads of clients, one worker: the desk's queue, not the player, keeps them apart, and the player holds no state between."""
    reader = reader_of(zoo.llama)
    expected = ask(reader)
    found = []
    lock = threading.Lock()

    def one():
        with lock:
            found.append(ask(reader))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.dense for answer in found] == [expected.dense] * 2


# ---------------------------------------------------------------------------------------------------------------------
# Rows of data


@pytest.fixture(scope="module")
def digits():
    """A small classifier of scikit-learn's digits, which knows nothing."""
    from analysis.models.inputs import load_data

    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10))
    subject = subject_from(model.eval(), name="digits-mlp", data=None)
    subject.data = load_data(subject, "digits", n_tokens=32 * 16, window=16, seed=0)
    return Reader(subject)


def row(reader, number=5, **more):
    return Played.from_json(reader.player.answer(Play("", row=number, **more), lambda: None))


def test_a_row_gives_classes_loss_and_sparsity_by_layer(digits):
    batch, _ = next(iter(digits.subject.data.only(np.array([5])).batches(1)))
    with torch.no_grad():
        logits = digits.subject.model(batch)[0].double()
        first = digits.subject.model[:2](batch)[0]
    played = row(digits)
    assert played.is_row and len(played.tokens) == 1 and "class" in played.tokens[0]
    assert [p for _, p in played.dense.next[0]] == pytest.approx(logits.softmax(-1).sort(descending=True).values.tolist())
    label = int(digits.subject.data.labels[5])
    assert played.dense.mean_loss == pytest.approx(float(-logits.log_softmax(-1)[label]), rel=1e-5)
    weight, out = digits.subject.model[2].weight, None
    with torch.no_grad():
        out = digits.subject.model[2](first)
    active = first.abs() * weight.norm(dim=0) > 0.01 * out.norm()
    assert played.dense.neurons[0][2] == pytest.approx(float(active.float().mean()))
    assert played.dense.lens is None and played.dense.attention == ()
    assert played.pieces[played.dense.next[0][0][0]].startswith("class ")


@pytest.mark.parametrize("slug", ["magnitude", "ffn-topk", "ffn-threshold", "wanda", "ffn-neurons"])
def test_interventions_run_on_a_row_and_level_0_changes_nothing(digits, slug):
    before = digest(digits)
    assert row(digits, steps=(Step(slug, 0.0),)).kl == (0.0,)
    played = row(digits, steps=(Step(slug, 0.7),))
    assert played.kl[0] > 0 and same_weights(before, digits)


def test_a_row_and_a_prompt_are_told_apart_in_sentences(digits, llama):
    with pytest.raises(UserError, match="row must be from 0 to 31 of those drawn from digits, got 32"):
        row(digits, 32)
    with pytest.raises(UserError, match="prompt must go to a model that reads text"):
        ask(digits)
    with pytest.raises(UserError, match="data that are not text"):
        row(llama)
    assert Play.from_json(Play("", row=3).as_json()) == Play("", row=3)
