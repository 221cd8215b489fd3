"""What is asked: models, prompts, what is taken away, what is looked at. Every choice is a widget whose key is its name in the address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from analysis.live import LiveModel, Play, Step, UnitRef
from analysis.live.offered import CALIBRATION_TOKENS, Offer, offered, offers
from analysis.live.places import USUAL_DATA
from analysis.live.playing import (
    DRAWN,
    FIRST_TEXT,
    HOTTEST,
    JOB_TOKENS,
    LENS_TOKENS,
    MOST_CHARACTERS,
    MOST_NEW,
    MOST_STEPS,
    MOST_TOKENS,
    MOST_UNITS,
    units_of,
)
from analysis.models.inputs import DATA_WORDS
from analysis.spec import UserError
from figures.words import visible
from ui import data
from ui.latents.saes import saes
from ui.library import library, references
from ui.playground.address import OTHER, TEXT, packed, unpacked
from ui.playground.asking import want
from ui.words import code, plain

NOTHING, PROMPT, MODEL = "nothing", "another prompt", "another model"
TEXTS, ROWS = "a prompt", "a row of data"
_BOXES = "playground_boxes"


@dataclass(frozen=True)
class Side:
    """One question to one model."""

    name: str
    """Told apart by, where there are two (foreign text)."""
    live: LiveModel
    play: Play

    @property
    def key(self) -> tuple[str, str, Play]:
        """What its answer is kept under."""
        return self.live.model, self.live.data, self.play


def sides() -> list[Side]:
    """One question, or two that are compared; none where there is nothing to ask yet, which is said."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = _model("Model", "model", 0)
        reads = st.segmented_control("It reads", (TEXTS, ROWS), default=TEXTS, required=True, key="reads", bind="query-params") or TEXTS
        options = (NOTHING, PROMPT, MODEL) if reads == TEXTS else (NOTHING, MODEL)
        beside = st.segmented_control(
            "Beside it", options, default=NOTHING, required=True, key="beside", bind="query-params",
            help="Two prompts, or two models, side by side with a column for their difference.",
        )  # fmt: skip
        other = _model("Other model", "model2", 1) if beside == MODEL else None
    about, named = _row() if reads == ROWS else ({}, "")
    texts = ("", "") if reads == ROWS else _prompts(two=beside == PROMPT)
    asked = _asked(is_text=reads == TEXTS)
    if not model or asked is None or not (texts[0].strip() or about):
        return []
    side = partial(_side, asked=asked | about, named=named)
    if beside == MODEL and other:
        names = (model, other) if model != other else (f"{model} (1)", f"{other} (2)")
        return [side(names[0], model, texts[0]), side(names[1], other, texts[0])]
    if beside == PROMPT and texts[1].strip():
        return [side("first prompt", model, texts[0]), side("second prompt", model, texts[1])]
    return [side(model, model, texts[0])]


def _side(name: str, model: str, text: str, *, asked: dict[str, Any], named: str) -> Side:
    return Side(name, LiveModel(data.store_folder(), model, data=named or USUAL_DATA), Play(text, **asked))


def _row() -> tuple[dict[str, Any], str]:
    """Which row of which data; nothing where none are named."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        named = st.text_input(
            "Data", "digits", key="data", bind="query-params", width=320,
            help=f"What the model reads, as in an analysis: {DATA_WORDS} Of these {DRAWN} rows are drawn.",
        )  # fmt: skip
        row = st.number_input("Row", 0, DRAWN - 1, 0, key="row", bind="query-params", width=120, help="Of those drawn, from 0.")
        st.button("Run", key="playground_run_row", type="primary", icon=":material/play_arrow:", on_click=want)
    named = (named or "").strip()
    return ({"row": int(row or 0), "lens": False} if named else {}), named


def _model(label: str, key: str, place: int) -> str:
    """Which model, of the library or by its reference. Not bound by Streamlit, which would refuse what is no option."""
    known = references(library(data.runs(summaries=False), data.store().models()))
    asked = st.query_params.get(key)
    options = list(dict.fromkeys([*known, *filter(None, [asked])]))
    first = options.index(asked) if asked else min(place, len(options) - 1)
    chosen = st.selectbox(
        label, options, first, format_func=visible, key=f"playground_{key}", accept_new_options=True, width=260,
        help="A model of the library, or the path of a Hugging Face folder, a .gguf or .safetensors file, or a hub id: type it.",
    )  # fmt: skip
    chosen = str(chosen).strip() if chosen else ""
    if chosen and chosen != asked:
        st.query_params[key] = chosen
    return chosen


# ---------------------------------------------------------------------------------------------------------------------
# Prompts


@dataclass(frozen=True)
class _Box:
    """A text box as it stands: it is made anew, with another key, whenever the address changes otherwise than by what is typed into it."""

    seen: str | None
    """The prompt of the address."""
    turn: int
    first: str
    """What it was made with."""

    def key(self, name: str) -> str:
        """Of its widget."""
        return f"playground_{name}_{self.turn}"


def _prompts(*, two: bool) -> tuple[str, str]:
    """The prompts as the address has them; the boxes only become the address when they are run."""
    query = st.query_params.to_dict()
    found = {name: unpacked(name, query) for name in (TEXT, OTHER)}
    boxes: dict[str, _Box] = st.session_state.setdefault(_BOXES, {})
    for name, text in found.items():
        if text is None:
            st.warning("The prompt of this address cannot be read: the address was cut short.", icon=":material/link_off:")
        box = boxes.get(name)
        if box is None or box.seen != text or box.key(name) not in st.session_state:
            boxes[name] = _Box(text, box.turn + 1 if box else 0, text or (FIRST_TEXT if name == TEXT else ""))
    with st.form("playground", border=False):
        for name, label in ((TEXT, "Prompt"), (OTHER, "Second prompt"))[: 1 + two]:
            # Its first value is given here and not by the session: that would be lost where the page is drawn again at once.
            st.text_area(
                label, boxes[name].first, key=boxes[name].key(name), height=90, max_chars=MOST_CHARACTERS,
                placeholder="Type or paste a text.",
                help="It is read as it stands, with the special tokens the model expects. Ctrl+Enter runs it.",
            )  # fmt: skip
        st.form_submit_button("Run", key="playground_run", type="primary", icon=":material/play_arrow:", on_click=_run)
    _limits()
    return found[TEXT] or "", found[OTHER] or ""


def _run() -> None:
    """The boxes become the address, and a live model may be started. What belongs to widgets is left alone: Streamlit writes that."""
    boxes: dict[str, _Box] = st.session_state[_BOXES]
    for name, at in ((TEXT, "at"), (OTHER, "at2")):
        box = boxes[name]
        text = st.session_state.get(box.key(name)) or ""
        new = packed(name, text)
        for key in (name, f"z{name}", *((at,) if text != box.seen else ())):  # a chosen token is one of that text
            if key in st.query_params and key not in new:
                del st.query_params[key]
        for key, value in new.items():
            st.query_params[key] = value
        boxes[name] = replace(box, seen=text)
    want()


def _limits() -> None:
    words = (
        f"At most {MOST_CHARACTERS:,} characters and {MOST_TOKENS} tokens (fewer where the model reads fewer); the logit lens shows the "
        f"last {LENS_TOKENS}; answers that take longer than a minute are given up. "
        f"A job reads up to {JOB_TOKENS:,} tokens and takes its time."
    )
    st.caption(words)


# ---------------------------------------------------------------------------------------------------------------------
# What is taken away, and what is looked at


def _asked(*, is_text: bool) -> dict[str, Any] | None:
    """The rest of a question; None where something is mistyped, which is said."""
    with st.container(border=True):
        st.markdown("**Take away**")
        steps = _steps()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            without = st.text_input(
                "Without these units", key="without", bind="query-params", placeholder="neuron 5:17, head 3:1", width=320,
                help=f"Neurons and heads by layer and number, latents as latent RUN:12 (RUN: id of a run of sae_train); commas between, "
                f"at most {MOST_UNITS}. Neurons and heads give zero; of a latent, what it adds is taken away.",
            )  # fmt: skip
            unit = "" if not is_text else st.text_input(
                "Colour tokens by a unit", key="unit", bind="query-params", placeholder="head 3:1", width=240,
                help="A neuron, head or latent: written in the same way.",
            )  # fmt: skip
            _saes()
            _not_here()
        writing = _writing() if is_text else {}
    try:
        gone, coloured = units_of(without or ""), units_of(unit or "")
        if len(gone) > MOST_UNITS or len(coloured) > 1:
            raise UserError(
                f"at most {MOST_UNITS} units can be taken away and 1 coloured by, got {len(gone)} and {len(coloured)}; leave some out."
            )
    except UserError as error:
        st.error(plain(error), icon=":material/error:")
        return None
    colour: UnitRef | None = coloured[0] if coloured else None
    return {"steps": steps, "without": gone, "colour": colour} | writing


def _saes() -> None:
    """How latents of this store's SAEs are written; nothing where there are none."""
    known = [one for one in saes().values() if one.reference]
    if known:
        with st.popover("SAEs of this store", type="tertiary", icon=":material/hub:"):
            st.markdown("\n".join(f"- {code(f'latent {one.reference}:0')} {plain(one.name)}" for one in known))
            st.caption("An SAE belongs to one model; another one refuses it.")


def _steps() -> tuple[Step, ...]:
    """Up to two interventions, each with its level."""
    found: list[Step] = []
    for i, column in enumerate(st.columns(MOST_STEPS, gap="medium"), 1):
        with column:
            step = _step(i, {one.slug for one in found})
        if step is None:
            break
        found.append(step)
    return tuple(found)


def _step(i: int, taken: set[str]) -> Step | None:
    options = [one.slug for one in offers() if not one.not_here and one.slug not in taken]
    slug = st.selectbox(
        "Intervention" if i == 1 else "and a second one", options, None, key=f"step{i}", bind="query-params", placeholder="none",
        help="Every way of making a model sparser that can act on one input.",
    )  # fmt: skip
    if slug is None:
        return None
    offer, level = offered(slug), 100.0
    if not offer.is_point:
        level = st.slider("Share removed", 0.0, 100.0, 50.0, 1.0, format="%.0f %%", key=f"level{i}", bind="query-params")
    st.caption(plain(_about(offer)))
    return Step(slug, round(level / 100, 4))


def _about(offer: Offer) -> str:
    words = offer.line
    if offer.is_point:
        words += " It is switched on or off."
    if offer.is_calibrated:
        words += f" Calibrated on {CALIBRATION_TOKENS} tokens of the Python docs first: a small set, so it does worse than it could."
    return words


def _not_here() -> None:
    with st.popover("Not in the playground", type="tertiary", icon=":material/info:"):
        st.markdown("\n".join(f"- `{one.slug}`: {plain(one.not_here)}." for one in offers() if one.not_here))
        st.caption("“As a job” does most of them on this prompt; runs of sparsity plane measure them over many documents.")


def _writing() -> dict[str, Any]:
    """How the text is continued."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        new = st.number_input(
            "Continue by", 0, MOST_NEW, 0, key="new", bind="query-params", width=150,
            help="Tokens that the model writes, in both states. The whole text is read anew for each, so that interventions act as on a "
            "prompt; 0: none.",
        )  # fmt: skip
        if not new:
            return {}
        heat = st.number_input(
            "Temperature", 0.0, HOTTEST, 0.0, 0.1, key="temperature", bind="query-params", width=150,
            help="0: the most probable token each time.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="seed", bind="query-params", width=150) if heat else 0
    return {"new": int(new or 0), "temperature": float(heat or 0.0), "seed": int(seed or 0)}
