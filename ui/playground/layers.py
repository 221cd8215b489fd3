"""Sparsity on this one text, layer by layer: the share of neurons that are active, and how few keys hold the attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis.live import Play
from analysis.live.played import LayerShare
from analysis.quality.prompt_figures import KEYS as ATTENTION
from analysis.quality.prompt_figures import KEYS_NOTE, active_note
from analysis.quality.prompt_figures import NEURONS as FFN
from figures.spec import Axis, FigureSpec, Series
from ui.charts import show_spec
from ui.playground.states import State

NEURONS, KEYS = "neurons", "attention"


def show_layers(states: Sequence[State], play: Play, provenance: Mapping[str, Any]) -> None:
    """Both figures, and the numbers with their difference."""
    for what in (NEURONS, KEYS):
        spec = layers_spec(states, what, play)
        if spec is None:
            st.caption(
                "No FFN whose neurons could be counted was seen." if what == NEURONS else "No attention was seen, or the text is one token."
            )
            continue
        show_spec(spec, provenance, name=f"playground-{what}", key=f"playground-{what}")
        if len(states) == 2:
            with st.expander("The numbers, with their difference"):
                st.dataframe(_with_difference(spec.data, states), hide_index=True)


def layers_spec(states: Sequence[State], what: str, play: Play) -> FigureSpec | None:
    """The figure of one measure; None where no state has it."""
    import pandas as pd

    rows = [row for state in states for row in _rows(state, getattr(state.arm, what))]
    if not rows:
        return None
    n = ", ".join(dict.fromkeys(_size(state) for state in states))
    models = ", ".join(dict.fromkeys(state.played.label for state in states))
    words = FFN if what == NEURONS else ATTENTION
    if what == NEURONS:
        sentence, note = f"{words.what} in each layer of {models}; {n}.", active_note(play.active, play.magnitude)
    else:
        sentence, note = f"{words.what}; {models}, {n}.", KEYS_NOTE
    return FigureSpec(
        kind="line",
        data=pd.DataFrame(rows),
        x=Axis("layer", "Layer", scale="linear" if all(isinstance(row["layer"], int) for row in rows) else "category"),
        y=Axis("share", words.label, words.unit, bounds=(0.0, 1.0) if max(row["share"] for row in rows) > 0.5 else None),
        series=Series("state", "State", order=tuple(state.name for state in states)) if len(states) > 1 else None,
        title=words.title,
        sentence=sentence,
        hover=("place",),
        notes=(note, "One input says little of a model: see neuron_activity and head_sparsity for numbers over many documents."),
    )


def _size(state: State) -> str:
    return state.played.tokens[0] if state.played.is_row else f"mean over the {len(state.played.tokens):,} tokens of the prompt"


def _rows(state: State, shares: Sequence[LayerShare]) -> list[dict[str, Any]]:
    """By layer number; by the name of the place where a layer has several."""
    layers = [layer for layer, _, _ in shares]
    plainly = len(set(layers)) == len(layers)
    return [{"layer": layer if plainly else name, "share": share, "state": state.name, "place": name} for layer, name, share in shares]


def _with_difference(rows: Any, states: Sequence[State]) -> Any:
    one, other = (state.name for state in states)
    wide = rows.pivot_table(index="layer", columns="state", values="share", sort=False).reset_index()
    if one in wide and other in wide:
        wide = wide[["layer", one, other]]
        wide["difference"] = wide[other] - wide[one]
    return wide
