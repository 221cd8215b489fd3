"""Test your own text: what one neuron, or a latent of an SAE, does on a text that the reader types, answered by the live model.

Nothing here loads a model: `analysis.live` talks to a process of its own, which only the reader's click starts. While it starts
or is at work, this part of the page looks again by itself; everything else stays as quick as ever. The last text stays asked, so that
stepping to the next neuron shows what that one does on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.live import Answer, LiveCancelled, LiveError, LiveGone, LiveModel, LiveStatus, Pending, Unit, needed_by
from analysis.models import BUNDLED
from store import Filter, RunInfo
from store.errors import size_words
from ui import data
from ui.neurons.live_texts import example_texts
from ui.neurons.live_words import COUNTED, verdict
from ui.strips import Group, Strip, show_strips
from ui.words import count, percent, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT_KEY = "live_text"
"""What stands in the text box."""
_ASKED, _START, _PENDING, _ANSWERS, _EXAMPLE = "live_asked", "live_start", "live_pending", "live_answers", "live_example"
_LOOK_S = 0.5
_PATIENCE_S = 1.5
"""How long a question is waited for before the page says that it takes longer."""
_KEPT = 64


def put_text(text: str) -> None:
    """Put a text into the box: the ``on_click`` of a button beside an example."""
    st.session_state[TEXT_KEY] = text


def live_panel(info: RunInfo, layer: int, hook_name: str, neuron: int) -> None:
    """Box, button, and the text coloured by what the neuron does on it."""
    show_live(Tested(info, layer, hook_name, neuron))


def show_live(place: Tested) -> None:
    """The same for any kind of unit."""
    st.subheader("A text of your own", anchor=False)
    live = live_model(place.info)
    if isinstance(live, str):
        st.info(plain(live), icon=":material/info:")
        return
    moving = st.session_state.get(_PENDING) is not None or live.status().state == "starting" or _START in st.session_state
    st.fragment(_panel, run_every=_LOOK_S if moving else None)(live, place, moving)


class Tested:
    """One neuron of one run; other kinds of units say otherwise."""

    noun = "neuron"
    counted = COUNTED

    def __init__(self, info: RunInfo, layer: int, hook_name: str, neuron: int) -> None:
        self.info, self.layer, self.hook_name, self.neuron = info, layer, hook_name, neuron

    def key(self, text: str) -> tuple[str, str, int, str]:
        """What an answer is kept under."""
        return (self.info.id, self.hook_name, self.neuron, text)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The thresholds of the run, so that active means the same."""
        return {name: self.info.config[name] for name in ("active", "magnitude") if name in self.info.config}

    def texts(self) -> Mapping[str, str]:
        """Its examples, to begin with."""
        return example_texts(self.info, self.layer, self.hook_name, self.neuron)

    def recorded(self) -> Mapping[str, Any]:
        """Its row in the run; empty where it has none."""
        return _recorded(self)


def live_model(info: RunInfo) -> LiveModel | str:
    """The live model of the very model this run measured; or the sentence why there is none."""
    source, prints = info.provenance.get("model_source"), info.provenance.get("fingerprints", {}).get("model", {})
    bundled = BUNDLED.get(info.model)
    reference = info.model if bundled is not None and source == f"{bundled.package}/{bundled.path}" else source
    if not isinstance(reference, str) or not prints.get("weights") or reference == "a module in memory":
        return "A text can be tested on models that are opened from a file or a name; this run measured one that was only in memory."
    return LiveModel(data.store_folder(), reference, fingerprints=prints)


# ---------------------------------------------------------------------------------------------------------------------
# One look


def _panel(live: LiveModel, place: Tested, was_moving: bool) -> None:
    status = live.status()
    _form(status, place)
    asked = st.session_state.get(_ASKED)
    moving = _advance(live, status, place, asked) or live.status().state == "starting"
    if moving != was_moving:
        st.rerun()  # the clock of this part of the page is set where the whole page is drawn
    _say(live, status if not moving else live.status(), waiting=moving)
    found = _answers().get(place.key(asked)) if asked else None
    if isinstance(found, Answer):
        _show(place, found)
    elif found:
        st.warning(plain(found), icon=":material/warning:")


def _form(status: LiveStatus, place: Tested) -> None:
    texts = place.texts()
    if texts:
        # Pills rather than a list that opens: this part of the page is drawn anew by itself, which would close the list.
        st.pills(f"Begin with an example of this {place.noun}", list(texts), key=_EXAMPLE, on_change=_take, args=(texts,))
    with st.form("live_form", border=False):
        st.text_area(
            "Your text",
            key=TEXT_KEY,
            height=110,
            placeholder="Type or paste a text.",
            help="It is read as it stands, with the special tokens the model expects; nothing is stored. Ctrl+Enter runs it.",
        )
        label = "Run" if status.state in ("ready", "busy", "starting") else f"Start the live model ({_memory(place.info)}) and run"
        st.form_submit_button(label, key="live_run", type="primary", on_click=_ask)


def _take(texts: Mapping[str, str]) -> None:
    chosen = st.session_state[_EXAMPLE]  # None where a pill was let go
    if chosen is not None and chosen in texts:
        put_text(texts[chosen])


def _memory(info: RunInfo) -> str:
    need = needed_by(info.provenance.get("model_facts") or {}, str(info.provenance.get("dtype")))
    return f"about {size_words(need)} of memory" if need is not None else "it needs memory for a copy of the model"


def _ask() -> None:
    text = st.session_state.get(TEXT_KEY) or ""
    _drop()
    for key in [key for key, found in _answers().items() if key[3] == text and not isinstance(found, Answer)]:
        del _answers()[key]  # what went wrong is tried again
    st.session_state[_ASKED] = text
    st.session_state[_START] = True


def _answers() -> dict[tuple[str, str, int, str], Answer | str]:
    """What has been answered in this session: an answer, or the sentence why there is none."""
    return st.session_state.setdefault(_ANSWERS, {})


def _keep(key: tuple[str, str, int, str], found: Answer | str) -> None:
    answers = _answers()
    answers[key] = found
    while len(answers) > _KEPT:
        del answers[next(iter(answers))]


def _drop() -> None:
    """Give up what is under way."""
    kept: tuple[Any, Pending] | None = st.session_state.pop(_PENDING, None)
    if kept is not None:
        kept[1].close()


def _advance(live: LiveModel, status: LiveStatus, place: Tested, asked: str | None) -> bool:
    """Do what can be done now for the text that was asked; whether something is still to come."""
    may_start = st.session_state.pop(_START, False)
    if asked is None or place.key(asked) in _answers():
        return False
    key = place.key(asked)
    pending = st.session_state.get(_PENDING)
    if pending is not None and pending[0] != key:
        _drop()
        pending = None
    if pending is None and not asked.strip():
        _keep(key, "The text must not be empty; give some words.")
        return False
    try:
        if pending is None and not status.answers:
            if may_start and status.state != "starting":
                status = live.start()
            return status.state == "starting"
        if pending is None:
            pending = (key, live.begin(asked, [place.hook_name], [place.neuron], **place.settings))
            st.session_state[_PENDING] = pending
        answer = pending[1].poll(_PATIENCE_S)
    except LiveCancelled:
        answer = "The question was cancelled."
    except (LiveGone, LiveError) as error:
        answer = str(error)
    if answer is None:
        return True
    _drop()
    _keep(key, answer)
    return False


def _say(live: LiveModel, status: LiveStatus, *, waiting: bool) -> None:
    """Where the live model stands, and how to stop it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if status.state == "starting":
            done = f" {percent(status.share)}" if status.share is not None else ""
            st.status(plain(status.words + done))
            st.button("Stop", key="live_stop", on_click=_stop, args=(live,))
        elif waiting:
            st.caption(f"{plain(status.words)} This text takes longer than usual.")
            st.button("Cancel", key="live_cancel", on_click=_cancel)
        elif status.state in ("failed", "other"):
            st.warning(plain(status.words), icon=":material/warning:")
        else:
            holds = f" It holds {size_words(status.memory)}." if status.memory else ""
            st.caption(plain(status.words + holds))
            if status.answers:
                st.button("Stop it", key="live_stop", type="tertiary", on_click=_stop, args=(live,))


def _stop(live: LiveModel) -> None:
    _drop()
    st.session_state.pop(_ASKED, None)
    live.stop()


def _cancel() -> None:
    kept: tuple[Any, Pending] | None = st.session_state.get(_PENDING)
    if kept is not None:
        kept[1].cancel()
    _drop()
    st.session_state.pop(_ASKED, None)


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _show(place: Tested, answer: Answer) -> None:
    unit = answer.units[0]
    recorded = place.recorded()
    st.markdown(verdict(answer, unit, recorded, place.noun, place.counted))
    if unit.peak is None or unit.max is None:
        return
    strip = Strip(
        tokens=tuple(answer.tokens),
        values=tuple(unit.activations),
        unit=1.0,
        peak=unit.peak,
        value=unit.max,
        where="your text",
        words=f"Your text, {count(len(answer.tokens), 'token')}",
        rough=False,
    )
    known = [abs(a) for a in (*unit.activations, recorded.get("max"), recorded.get("min")) if a is not None]
    group = Group("Your text", f"Coloured by the activation of {place.noun} {place.neuron}", (strip,))
    show_strips([group], None, scale=max(known), key="live_strip", breaks=True)
    with st.expander("Every token"):
        _table(answer, unit)
    with st.expander("The same in Python"):
        st.code(_python(place, st.session_state[_ASKED]), language="python", wrap_lines=True)


def _recorded(place: Tested) -> dict[str, Any]:
    """The neuron's row in the run; empty where it has none."""
    where = [Filter("layer", "=", place.layer), Filter("hook_name", "=", place.hook_name), Filter("neuron", "=", place.neuron)]
    found = data.rows(place.info, "neurons", where=where, limit=1).to_dict("records")
    return {str(k): v for k, v in found[0].items()} if found else {}


def _table(answer: Answer, unit: Unit) -> None:
    columns: dict[str, Any] = {"token": answer.tokens, "special": answer.special, "activation": unit.activations, "active": unit.active}
    if unit.contributions is not None:
        columns["share of the FFN's output norm"] = unit.contributions
    st.dataframe(columns, height=300)


def _python(place: Tested, text: str) -> str:
    live = live_model(place.info)
    assert isinstance(live, LiveModel)
    more = f", sae={place.settings['sae']!r}" if "sae" in place.settings else ""
    return (
        "from analysis.live import LiveModel\n"
        f"live = LiveModel({live.store!r}, {live.model!r})\n"
        "live.start(), live.wait()\n"
        f"answer = live.forward({text!r}, [{place.hook_name!r}], [{place.neuron}]{more})\n"
        "answer.units[0].activations"
    )
