"""prompt_effect seals what the model does with a prompt: numbers by hand, identities, longer prompts than a page's, and refusals."""

from __future__ import annotations

import pytest
import torch

from analysis.live.playing import JOB_TOKENS, Play, Step, UnitRef
from analysis.quality.prompt_effect import PROMPT_EFFECT, PromptEffectConfig, play_of, typed
from analysis.quality.prompt_figures import draw_attention, draw_change, draw_neurons, draw_surprise
from analysis.quality.prompt_tables import CHANGED, DENSE
from analysis.runner import run
from analysis.spec import IncompatibleSubject, UserError, make_config
from figures.captions import origin
from figures.spec import NothingToDraw
from store import Store
from tests import zoo
from tests.characters import subject_of

PROMPT = "the seas"


@pytest.fixture(scope="module")
def subject():
    return subject_of(zoo.llama)


def sealed(tmp_path, subject, **settings):
    store = Store(tmp_path)
    return store, run(PROMPT_EFFECT, {"model": subject}, PromptEffectConfig(**({"prompt": PROMPT} | settings)), store)


def table(tmp_path, subject, name, **settings):
    store, info = sealed(tmp_path, subject, **settings)
    return store.read(info, name)


def direct(subject, text):
    ids = torch.tensor([subject.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return ids[0], subject.model(input_ids=ids).logits[0].double()


def test_losses_and_next_tokens_are_those_of_the_model_itself(tmp_path, subject):
    ids, logits = direct(subject, PROMPT)
    expected = -logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    store, info = sealed(tmp_path, subject)
    rows, states = store.read(info, "prompt_tokens"), store.read(info, "prompt_states")
    assert "".join(rows["token"]) == PROMPT and rows["token_id"].tolist() == ids.tolist()
    assert rows["loss"].isna().tolist() == [True] + [False] * 7 and rows["loss"][1:].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert rows["next_token"].tolist() == [subject.tokenizer.decode([i]) for i in logits.argmax(-1).tolist()]
    assert rows["next_share"].tolist() == pytest.approx(logits.softmax(-1).amax(-1).tolist())
    assert rows[["loss_changed", "change", "next_token_changed", "unit"]].isna().all(axis=None), "nothing was taken away"
    assert states["state"].tolist() == [DENSE] and states["loss"][0] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert (states["n_tokens"][0], states["n_scored"][0]) == (8, 7)


def test_a_head_taken_away_gives_the_kl_of_a_model_whose_output_matrix_reads_nothing_of_it(tmp_path, subject):
    _, before = direct(subject, PROMPT)
    weight = subject.model.model.layers[1].self_attn.o_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 8:12] = 0  # head 2 of 4, each 4 wide
    _, after = direct(subject, PROMPT)
    with torch.no_grad():
        weight.copy_(kept)
    rows = table(tmp_path, subject, "prompt_tokens", without="head 1:2", unit="neuron 0:3")
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    assert rows["change"].tolist() == pytest.approx((p.exp() * (p - q)).sum(-1).tolist(), rel=1e-3, abs=1e-9)
    assert rows["change"].max() > 1e-4 and torch.equal(weight, kept)
    ids = torch.tensor(rows["token_id"].tolist())
    assert rows["loss_changed"][1:].tolist() == pytest.approx((-q[:-1].gather(1, ids[1:, None])[:, 0]).tolist(), rel=1e-4)
    assert rows["next_share_changed"].tolist() == pytest.approx(q.exp().amax(-1).tolist(), rel=1e-4)
    assert rows["unit"].notna().all() and rows["unit"].tolist() == rows["unit_changed"].tolist(), "layer 0 lies before the head"


def test_level_zero_changes_nothing_and_slow_methods_are_not_left_out(tmp_path, subject):
    before = {name: one.clone() for name, one in subject.model.state_dict().items()}
    rows = table(tmp_path / "zero", subject, "prompt_tokens", interventions="magnitude:0")
    assert rows["change"].tolist() == [0.0] * 8 and rows["loss"].equals(rows["loss_changed"])
    for slug in ("sparsegpt", "taylor"):
        store, info = sealed(tmp_path / slug, subject, interventions=f"{slug}:0.5, attention-topk:0.25", n_tokens=96)
        assert store.read(info, "prompt_tokens")["change"].max() > 0
        steps = store.read(info, "prompt_steps")
        assert steps["intervention"].tolist() == [slug, "attention-topk"] and steps["level"].tolist() == [0.5, 0.25]
    assert all(torch.equal(before[name], one) for name, one in subject.model.state_dict().items()), "every weight is back"


def test_a_prompt_longer_than_the_playground_takes_is_read_and_continued_in_both_states(tmp_path, subject):
    store, info = sealed(tmp_path, subject, prompt="e" * 300, interventions="ffn-topk:0.5", new=3)
    assert len(store.read(info, "prompt_tokens")) == 300
    states = store.read(info, "prompt_states")
    assert states["state"].tolist() == [DENSE, CHANGED] and states["continued"].str.len().tolist() == [3, 3]
    layers = store.read(info, "prompt_layers")
    assert layers.groupby("state").size().tolist() == [4, 4], "two FFNs and two places with attention in each"
    assert (layers["active_neurons"].notna() != layers["keys_90"].notna()).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interventions": "ffn-topk:2"}, "level of ffn-topk must be a share from 0 to 1, got '2'"),
        ({"interventions": "ffn-topk:half"}, "level of ffn-topk must be a share from 0 to 1, got 'half'"),
        ({"interventions": "nonsense:0.5"}, "got 'nonsense'"),
        ({"interventions": "griffin:0.5"}, "ones that act on a prompt, got griffin: it needs a prompt apart"),
        ({"interventions": "relu, relu"}, "must differ"),
        ({"without": "latent abc:1"}, "neurons and heads in prompt_effect, got a latent"),
        ({"without": "neuron 9:0"}, "layer of a neuron must be from 0 to 1, got 9"),
        ({"unit": "head 0:1, head 1:1"}, "one neuron or head, got 2"),
        ({"prompt": ""}, "at least 1 token"),
        ({"prompt": "e" * (JOB_TOKENS + 1)}, "at most 2,048 tokens, got 2,049"),
        ({"prompt": "e" * JOB_TOKENS, "new": 1}, "at most 2,047 tokens here, got 2,048"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(tmp_path, subject, settings, words):
    with pytest.raises(UserError, match=words):
        sealed(tmp_path, subject, **settings)


def test_a_model_that_reads_no_text_is_told_where_to_go(tmp_path):
    from analysis.models import GivenBatches, subject_from

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    subject = subject_from(model, data=GivenBatches([torch.zeros(2, 3)]))
    with pytest.raises(IncompatibleSubject, match="reads no text"):
        sealed(tmp_path, subject)


def test_the_form_that_the_playground_fills_asks_the_same(subject):
    asked = Play(
        "two\nlines, and a comma", (Step("ffn-topk", 0.5), Step("relu", 1.0)), (UnitRef("neuron", 1, 2), UnitRef("latent", 0, 3, "sae")),
        UnitRef("head", 0, 1), 4, 0.5, 7, lens=False,
    )  # fmt: skip
    again = play_of(make_config(PromptEffectConfig, typed(asked)))
    assert again == Play(asked.text, asked.steps, asked.without[:1], asked.colour, 4, 0.5, 7, lens=False)


def test_figures_say_what_was_taken_away_and_do_without_where_nothing_was(tmp_path, subject):
    store, info = sealed(tmp_path / "a", subject, interventions="ffn-topk:0.5")
    tokens, layers = store.read(info, "prompt_tokens"), store.read(info, "prompt_layers")
    assert (
        "8 tokens" in draw_change(tokens, info.provenance).sentence and "ffn-topk at 0.5" in draw_change(tokens, info.provenance).sentence
    )
    assert set(draw_surprise(tokens, info.provenance).data["state"]) == {DENSE, CHANGED}
    assert draw_neurons(layers, info.provenance).data["active_neurons"].between(0, 1).all()
    assert len(draw_attention(layers, info.provenance).data) == 4
    store, info = sealed(tmp_path / "b", subject, prompt="e" * 200)
    data, method = origin(info.provenance)[1:3]
    assert data.startswith("Calibration data: "), "the figure is not of the data"
    assert f"prompt {'e' * 119}…, " in method and "e" * 120 not in method
    with pytest.raises(NothingToDraw, match="nothing was taken away"):
        draw_change(store.read(info, "prompt_tokens"), info.provenance)
