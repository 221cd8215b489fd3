"""The tokens of a prompt, coloured: by surprise, by how far the sparse model's predictions are from the dense one's, or by one unit."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.live import Arm
from ui.playground.choices import Side
from ui.playground.states import State
from ui.strips import Group, Strip, show_strips
from ui.words import count

SURPRISE, KL, UNIT, NORM, LOOKS = "surprise", "change of predictions", "the unit", "length of the head's output", "where the head looks"
_ABOUT = {
    SURPRISE: "Surprise of each token given those before it, in nats; the first token and special ones are not scored.",
    KL: "At each token how far the prediction of what follows is from the dense model's: KL divergence in nats, or relative error of the "
    "output where a model predicts no tokens.",
    NORM: "Length of what the head adds to the stream at each token (|z W_O|, or |z| where its matrix cannot be told apart).",
    LOOKS: "Point at a token, or walk with the arrow keys: where it looks (its largest eight weights), and who looks at it. Of "
    "interventions on attention the pattern is shown as it was before pairs are taken away.",
}


def show_coloured(asked: Sequence[Side], states: Sequence[State]) -> None:
    """A strip for each state, coloured by what is chosen; nothing for a row of data."""
    if any(state.played.is_row for state in states):
        return
    st.markdown("## Token by token")
    known = [name for name in (KL, SURPRISE, UNIT, NORM, LOOKS) if any(_has(state, name) for state in states)]
    if not known:
        st.caption("This model predicts no next token, and nothing was taken away: choose a unit to colour tokens by.")
        return
    first = next((name for name in (LOOKS, UNIT, KL, SURPRISE) if name in known), known[0])
    chosen = st.segmented_control("Colour", known, default=first, required=True, key="colour", bind="query-params", wrap=True) or first
    shown = [state for state in states if _has(state, chosen)]
    if chosen == KL:  # one strip a question: it compares its two states
        shown = list({id(state.played): state for state in shown}.values())
    groups = [Group(state.name, "" if i else _about(chosen, asked), (_strip(state, chosen),)) for i, state in enumerate(shown)]
    scale = max(abs(v) for group in groups for strip in group.examples for v in strip.values if v is not None)
    show_strips(groups, None, scale=scale or 1.0, key=f"playground-strip-{chosen}", breaks=True)


def _about(chosen: str, asked: Sequence[Side]) -> str:
    if chosen == UNIT:
        unit = asked[0].play.colour
        return f"Mean attention weight that each token gets from {unit}." if unit and unit.kind == "head" else f"Activation of {unit}."
    return _ABOUT[chosen]


def _has(state: State, name: str) -> bool:
    return any(v is not None for v in _values(state, name) or ())


def _values(state: State, name: str) -> Sequence[float | None] | None:
    arm: Arm = state.arm
    if name == LOOKS:
        return arm.values if arm.looks is not None else None
    return {SURPRISE: arm.loss, KL: state.played.kl, UNIT: arm.values, NORM: arm.norms}[name]


def _strip(state: State, name: str) -> Strip:
    values = tuple(_values(state, name) or ())
    peak = max((i for i, v in enumerate(values) if v is not None), key=lambda i: (values[i] or 0.0, -i))
    return Strip(
        tokens=state.played.tokens,
        values=values,
        unit=1.0,
        peak=peak,
        value=values[peak] or 0.0,
        where=state.name,
        words=f"{state.name}, {name}, {count(len(values), 'token')}",
        rough=False,
        looks=state.arm.looks if name == LOOKS else None,
    )
