"""The playground page with the live model as a puppet: what is asked, what the address says, and every state the page can be in."""

from __future__ import annotations

import re
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from analysis.gallery import cited
from analysis.live import LiveError, LiveGone, LiveStatus, Play, Played, Step, UnitRef
from analysis.live.playing import MOST_CHARACTERS
from figures.captions import origin
from ui.playground import asking, choices
from ui.playground.address import packed, unpacked
from ui.playground.layers import layers_spec
from ui.playground.lens import lens_spec
from ui.playground.next_tokens import chip_labels
from ui.playground.recorded import _call, provenance_of
from ui.playground.states import State, change, glyphs, states_of

PAGE = "pages/playground.py"
ABSENT = LiveStatus("absent", "The live model is not running.")
STARTING = LiveStatus("starting", "The live model is starting (loading weights).", 0.25)
READY = LiveStatus("ready", "The live model is ready.", memory=580_000_000)
TOKENS = ["The", " cat", "\n", " <img src=x>"]
PIECES = {str(i): piece for i, piece in enumerate([*TOKENS, " sat", " mat"])}


def arm(**more):
    looks = [[[0, 1.0]], [[0, 0.75], [1, 0.25]], [[1, 0.5]], [[3, 0.9]]]
    lens = {"first": 0, "names": ["embedding", "0"], "ids": [[4, 4, 5, 5], [4, 5, 4, 5]], "p": [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]}
    made = {
        "neurons": [[0, "blocks.0.mlp.hook_post", 0.25], [1, "blocks.1.mlp.hook_post", 0.5]],
        "attention": [[0, "blocks.0.attn", 0.75], [1, "blocks.1.attn", 0.6]],
        "next": [[[4, 0.5], [5, 0.25]]] * 4, "loss": [None, 1.0, 2.0, 3.0], "mean_loss": 2.0, "n_scored": 3,
        "values": None, "norms": None, "looks": None, "text": None, "lens": lens, "no_lens": None,
    }  # fmt: skip
    return (
        made
        | ({"values": [0.5, 0.25, 0.125, 0.0], "norms": [1.0, 2.0, 3.0, 4.0], "looks": looks} if more.pop("head", False) else {})
        | more
    )


def answer(play, label="toy"):
    """What a worker would say."""
    head = play.colour is not None
    sparse = None
    if play.changes:
        sparse = arm(
            head=head, next=[[[5, 0.75], [3, 0.125]]] * 4, mean_loss=2.5, text={"ids": [5, 5], "ended": False} if play.new else None
        )
    applied = {"achieved": 0.5, "denominator": "10 weights", "native_value": None, "native_unit": None, "notes": []}
    return Played.from_json({
        "tokens": TOKENS, "ids": [0, 1, 2, 3], "special": [False] * 4, "pieces": PIECES, "seconds": 0.2,
        "dense": arm(head=head, text={"ids": [4, 5], "ended": True} if play.new else None), "sparse": sparse,
        "kl": [0.0, 0.5, 0.25, 0.25] if play.changes else None, "same": [True, True, False, True] if play.changes else None,
        "applied": [{"slug": step.slug, "level": step.level} | applied for step in play.steps],
        "about": {"text": True, "causal": True, "task": "causal-lm", "row": play.row is not None, "label": label},
        "units": {"neurons": [[0, 8]], "heads": [[0, 2]]},
    })  # fmt: skip


class Puppet:
    """A live model that does as it is told; all of one name are one."""

    known: dict = {}

    def __new__(cls, _store, model, data="python-docs"):
        return cls.known.setdefault(model, super().__new__(cls))

    def __init__(self, store, model, data="python-docs"):
        self.data = data
        if not hasattr(self, "model"):
            self.store, self.model, self.state, self.asked, self.started, self.reply, self.slow = store, model, ABSENT, [], 0, None, False

    def status(self):
        return self.state

    def start(self):
        self.started += 1
        self.state = STARTING

    def stop(self):
        self.state = LiveStatus("ended", "The live model was asked to leave.")

    def begin_play(self, play):
        self.asked.append(play)
        return SimpleNamespace(poll=lambda _: self._answer(play), cancel=lambda: self.asked.append("cancel"), close=lambda: None)

    def _answer(self, play):
        if isinstance(self.reply, Exception):
            raise self.reply
        return None if self.slow else answer(play, self.model)

    @property
    def plays(self):
        return [one for one in self.asked if isinstance(one, Play)]


@pytest.fixture
def puppet(monkeypatch, store):
    Puppet.known = {}
    monkeypatch.setattr(choices, "LiveModel", Puppet)
    return lambda name="smollm2": Puppet(None, name)


@pytest.fixture
def show(puppet, open_page):
    def draw(state=READY, **query):
        puppet().state = state
        return open_page(PAGE, **query)

    return draw


def words_of(at):
    kinds = (at.title, at.header, at.subheader, at.markdown, at.caption, at.info, at.warning, at.error, at.code)
    return re.sub(r"[\\⁠]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def run(at, text):
    at.text_area[0].set_value(text)
    next(one for one in at.button if one.label == "Run").click()
    at.run()
    assert not at.exception, at.exception
    return at


# ---------------------------------------------------------------------------------------------------------------------


def test_opening_the_page_asks_nothing_and_says_its_limits(show, puppet):
    at = show(ABSENT)
    assert puppet().asked == [] and puppet().started == 0
    assert "At most 2,000 characters and 256 tokens" in words_of(at)


def test_an_address_with_a_prompt_starts_no_model_but_asks_one_that_runs(show, puppet):
    at = show(ABSENT, text="The cat")
    assert puppet().started == 0 and "Run starts it" in words_of(at)
    at = show(READY, text="The cat")
    assert puppet().plays == [Play("The cat")]
    assert "4 tokens" in words_of(at) and "Logit lens" in words_of(at)


def test_run_puts_the_prompt_into_the_address_starts_the_model_once_and_asks(show, puppet):
    at = run(show(ABSENT), "The cat")
    assert (at.query_params["text"], at.query_params["model"]) == ("The cat", "smollm2")
    assert puppet().started == 1 and puppet().asked == []
    assert any("loading weights" in one.label for one in at.status)
    puppet().state = READY
    at.run()
    assert puppet().plays == [Play("The cat")] and "4 tokens" in words_of(at)
    at.run()
    assert len(puppet().asked) == 1  # what has been answered is kept


def test_a_prompt_becomes_a_job_with_the_form_filled_in_even_where_it_is_too_long_here(show, puppet, open_page):
    query = {"text": "The cat\nsat, and", "step1": "ffn-topk", "level1": "30.0", "without": "head 1:2", "new": "2"}
    puppet().reply = LiveError("the prompt must have at most 256 tokens here, got 300; shorten it.")
    at = show(READY, **query)
    assert "at most 256 tokens here" in words_of(at)
    [link] = [one.proto for one in at.get("page_link") if one.proto.label == "As a job"]
    assert link.page == "start"
    form = open_page("pages/start.py", **dict(parse_qsl(link.query_string)))
    assert next(one for one in form.selectbox if one.label == "Question").value == "prompt_effect"
    assert next(one for one in form.text_area if one.label == "prompt").value == "The cat\nsat, and"
    filled = {one.label: one.value for one in form.text_input}
    assert (filled["interventions"], filled["without"], filled["new (tokens)"]) == ("ffn-topk:0.3", "head 1:2", "2")
    assert not any(one.proto.label == "As a job" for one in show(READY, reads="a row of data").get("page_link"))


def test_a_start_that_fails_is_said_and_not_tried_again_by_itself(show, puppet):
    at = run(show(ABSENT), "The cat")
    puppet().state = LiveStatus("failed", "The memory for the live model must be about 9 GB, got 1 GB free.")
    at.run()
    at.run()
    assert puppet().started == 1 and "must be about 9 GB" in words_of(at)
    run(at, "The cat")
    assert puppet().started == 2


def test_everything_that_is_chosen_is_asked_and_stands_in_the_address(show, puppet):
    query = {"text": "The cat", "step1": "ffn-topk", "level1": "30.0", "without": "head 1:2", "unit": "head 0:1", "new": "2"}
    at = show(READY, **query)
    expected = Play("The cat", (Step("ffn-topk", 0.3),), (UnitRef("head", 1, 2),), UnitRef("head", 0, 1), 2)
    assert puppet().plays == [expected]
    words = words_of(at)
    assert "KL divergence from the dense model: 0.25 nats in the mean" in words and "stayed on 3 of 4" in words
    assert "2 → **2.5** nats per token" in words and "50.0 % of 10 weights" in words and "without `head 1:2`" in words
    assert "The cat⟦ sat mat⟧" in words and "The cat⟦ mat mat⟧" in words and "came to the end of the text" in words
    assert "They part at the new token 1" in words


def test_another_prompt_keeps_everything_else_of_the_address_but_the_chosen_token(show, puppet):
    at = run(show(READY, text="The cat", unit="head 0:1", step1="ffn-topk", level1="30.0", new="2", at="1"), "The dog")
    assert [play.text for play in puppet().plays] == ["The cat", "The dog"]
    assert puppet().plays[1].steps == (Step("ffn-topk", 0.3),) and puppet().plays[1].colour == UnitRef("head", 0, 1)
    assert at.query_params["text"] == "The dog" and at.query_params["unit"] == "head 0:1" and "at" not in at.query_params
    long = run(at, "x " * 900)
    assert "text" not in long.query_params and puppet().plays[-1].text == "x " * 900
    assert unpacked("text", {"ztext": long.query_params["ztext"]}) == "x " * 900


def test_next_tokens_stand_side_by_side_with_their_difference_at_the_chosen_token(show):
    at = show(READY, text="The cat", step1="magnitude", at="1")
    table = at.dataframe[0].value
    assert list(table.columns) == ["token", "id", "p0", "p1", "difference"]
    assert table.to_dict("list")["token"] == ["␣sat", "␣mat", "␣<img␣src=x>"]
    assert table["difference"].tolist()[1] == pytest.approx(0.5) and table["difference"].isna().tolist() == [True, False, True]
    assert "at `␣cat`" in words_of(at)


def test_two_prompts_are_two_questions_with_a_difference(show, puppet):
    at = show(READY, text="The cat", other="The dog", beside="another prompt", step1="ffn-topk")
    assert [play.text for play in puppet().plays] == ["The cat", "The dog"]
    assert "Loss in nats per token: 2.5 (first prompt, 3 tokens scored) and 2.5 (second prompt, 3); difference **+0**" in words_of(at)


def test_two_models_are_asked_one_after_the_other_and_compared_by_the_text_of_tokens(show, puppet):
    puppet("minilm").state = READY
    at = show(READY, text="The cat", beside="another model", model="smollm2", model2="minilm")
    assert puppet().plays == puppet("minilm").plays == [Play("The cat")]
    assert "difference **+0**" in words_of(at) and list(at.dataframe[0].value["difference"]) == [0.0, 0.0]


def test_a_row_of_data_is_asked_without_a_prompt(show, puppet):
    at = show(READY, reads="a row of data", data="digits", row="3", step1="magnitude", level1="70.0")
    assert Puppet.known["smollm2"].data == "digits"
    assert puppet().plays == [Play("", (Step("magnitude", 0.7),), row=3, lens=False)]
    words = words_of(at)
    assert "Most probable classes" in words and "the first choice stayed" in words
    assert "Logit lens" not in words and "Token by token" not in words


def test_a_question_that_takes_long_can_be_cancelled_and_is_not_asked_again_by_itself(show, puppet):
    puppet().slow = True
    at = show(READY, text="The cat")
    next(one for one in at.button if one.label == "Cancel").click()
    at.run()
    at.run()
    assert puppet().asked.count("cancel") == 1 and len(puppet().plays) == 1
    assert "was cancelled; Run asks it again" in words_of(at)
    puppet().slow = False
    run(at, "The cat")
    assert len(puppet().plays) == 2 and "4 tokens" in words_of(at)


def test_a_refusal_and_a_worker_that_dies_are_sentences(show, puppet):
    puppet().reply = LiveGone("The live model went away while it was at work on this text.")
    assert "went away while it was at work" in words_of(show(READY, text="The cat"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"without": "neuron five"}, "written as neuron 5:17"),
        ({"unit": "head 1:1, head 1:2"}, "1 coloured by, got 0 and 2"),
        ({"ztext": "eJx", "text": ""}, ""),
        ({"ztext": "!!!"}, "prompt of this address cannot be read"),
    ],
)
def test_what_is_mistyped_is_said_and_nothing_is_asked(show, puppet, query, words):
    at = show(READY, **({"text": "The cat"} if "ztext" not in query else {}) | query)
    assert words in words_of(at) and puppet().asked == []


def test_an_intervention_that_is_not_offered_is_not_asked(show, puppet):
    show(READY, text="The cat", step1="sparsegpt")
    assert all(not play.steps for play in puppet().plays)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a cat", "x" * MOST_CHARACTERS, "日本語のテキスト " * 200, "a&b=c#d ?%\n~\t\u2028" * 40, "🐕" * 500])
def test_a_prompt_comes_back_from_the_address_as_it_was_and_the_address_stays_short(text):
    query = packed("text", text)
    assert unpacked("text", query) == text
    assert len("".join(query.values())) <= max(len(text.encode()), 400)


def test_an_address_that_was_cut_short_or_unpacks_to_too_much_is_none():
    [small] = packed("text", "The cat sat on the mat. " * 60).values()
    assert unpacked("text", {"ztext": small}) is not None
    assert unpacked("text", {"ztext": small[:-8]}) is None
    [bomb] = packed("text", "x" * 100_000).values()
    assert unpacked("text", {"ztext": bomb}) is None


def test_glyphs_show_spaces_and_never_nothing():
    assert [glyphs(one) for one in (" cat", "\n", "\t", "", "a\u202eb")] == ["␣cat", "↵", "⇥", "∅", "a\\u202eb"]


def test_chips_of_equal_tokens_can_be_told_apart():
    played = answer(Play("x"))
    labels = chip_labels(Played(**(vars(played) | {"tokens": ("a", "b", "a", "a"), "ids": (1, 2, 1, 1)})))
    assert len(set(labels)) == 4 and {one.rstrip("\u2060") for one in labels} == {"a :small[1]", "b :small[2]"}


def test_nothing_changed_is_said_as_such():
    played = answer(Play("x", (Step("ffn-topk", 0.0),)))
    same = Played(**(vars(played) | {"kl": (0.0, 0.0)}))
    assert "Nothing changed" in (change(same) or "")
    assert change(answer(Play("x"))) is None


def test_figures_hold_what_was_answered():
    play = Play("x", (Step("ffn-topk", 0.5),))
    states = states_of([SimpleNamespace(name="toy", play=play)], [answer(play)])  # pyright: ignore[reportArgumentType]
    neurons = layers_spec(states, "neurons", play)
    assert neurons is not None and neurons.data["share"].tolist() == [0.25, 0.5] * 2 and neurons.data["layer"].tolist() == [0, 1] * 2
    state = State("as it is", states[0].played, states[0].arm)
    lens = lens_spec(state, state.arm.lens, 3)
    assert lens.data["p"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert lens.data["says"].tolist()[:2] == ["␣sat", "␣sat"] and lens.data["token"].tolist()[:2] == ["0 The", "1 ␣cat"]


def test_the_lines_of_python_ask_the_same_question():
    play = Play("it's", (Step("wanda", 0.5),), (UnitRef("neuron", 1, 2),), UnitRef("latent", 0, 3, "abc-1"), 4)
    assert eval(_call(play), {"Play": Play, "Step": Step, "UnitRef": UnitRef}) == play  # noqa: S307 - our own lines


def test_the_page_never_waits_for_a_model(show, puppet):
    assert asking._PATIENCE_S <= 1.0


def test_an_exported_figure_says_the_prompt_the_model_and_what_was_taken_away():
    play = Play("The cat", (Step("wanda", 0.5),), without=(UnitRef.of_text("neuron 0:3"),))
    side = choices.Side("the model", SimpleNamespace(model="tiny", data="text"), play)
    told = cited(provenance_of([side]))
    words = " ".join(origin(told))
    assert words.startswith("Model: tiny. Input: “The cat”. Taken away: ") and ", at 0.5; without " in words
    assert any("Wanda" in source["title"] or "Simple and Effective" in source["title"] for source in told["sources"])
    assert "Nothing was taken away." in " ".join(origin(provenance_of([choices.Side("m", side.live, Play("x"))])))
