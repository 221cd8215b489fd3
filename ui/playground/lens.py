"""The logit lens of a prompt: layers by tokens, in each cell what the model would say next if its blocks ended there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis.live.played import LensRows
from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.screen_layout import plain as escaped
from figures.spec import Axis, FigureSpec
from ui.charts import export_menu
from ui.playground.states import State, glyphs
from ui.words import plain

WIDE = 12
"""Tokens shown at once: as many as can be read in their cells."""
_LONGEST = 9


def show_lens(states: Sequence[State], at: Sequence[int], provenance: Mapping[str, Any]) -> None:
    """The heat map of one state, or the sentence why there is none; nothing for a row of data."""
    if any(state.played.is_row for state in states):
        return
    st.markdown("## Logit lens")
    having = {state.name: (state, t) for state, t in zip(states, at, strict=True) if state.arm.lens is not None}
    for words in dict.fromkeys(state.arm.no_lens for state in states if state.arm.no_lens):
        st.caption(plain(words))
    if not having:
        return
    names = list(having)
    first = names[-1]
    chosen = first
    if len(names) > 1:
        chosen = st.segmented_control("Of", names, default=first, required=True, key="lens", bind="query-params") or first
    state, token = having[chosen]
    assert state.arm.lens is not None
    spec = lens_spec(state, state.arm.lens, token)
    with st.container(horizontal=True, horizontal_alignment="right"):
        export_menu(spec, provenance, name="playground-lens", key="playground-lens")
    figure = _with_tokens(to_plotly(spec), spec)
    # Where cells are too narrow for words, colour and the table below tell them.
    st.html("<style>@media (max-width: 900px) {.st-key-playground-lens-chart .heatmaplayer text {display: none}}</style>")
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key="playground-lens-chart")
    st.markdown(plain(spec.sentence))
    for note in spec.notes:
        st.caption(plain(note))
    with st.expander("As a table"):
        wide = spec.data.assign(said=[f"{said} ({p:.2f})" for said, p in zip(spec.data["says"], spec.data["p"])])
        st.dataframe(wide.pivot(index="layer", columns="token", values="said").loc[list(state.arm.lens.names)[::-1]])


def lens_spec(state: State, lens: LensRows, token: int) -> FigureSpec:
    """The cells of the `WIDE` tokens up to the chosen one."""
    import pandas as pd

    n = len(lens.ids[0])
    stop = min(n, max(token - lens.first + 1, min(WIDE, n)))
    columns = range(max(0, stop - WIDE), stop)
    heads = {c: f"{lens.first + c} {glyphs(state.played.tokens[lens.first + c])}" for c in columns}
    rows = [
        {"layer": name, "token": heads[c], "p": ps[c], "says": glyphs(state.piece(ids[c]))}
        for name, ids, ps in zip(lens.names, lens.ids, lens.p, strict=True)
        for c in columns
    ]
    left = "" if lens.first == 0 else f" The first {lens.first:,} tokens are left out of the lens."
    return FigureSpec(
        kind="heatmap",
        data=pd.DataFrame(rows),
        x=Axis("token", "Token, by its place", scale="category"),
        y=Axis("layer", "Block", scale="category"),
        colour=Axis("p", "Probability", bounds=(0.0, 1.0)),
        title="Logit lens",
        sentence=f"The most probable next token and its probability if {state.played.label} ended after each block: the stream there "
        f"through the model's own final norm and unembedding, {state.name}; tokens {lens.first + columns.start} to "
        f"{lens.first + stop - 1} of {len(state.played.tokens)}.",
        hover=("says",),
        notes=(f"The last row is the model's own answer; early rows mean little, since no block was trained to be the last.{left}",),
    )


def _with_tokens(figure: Any, spec: FigureSpec) -> Any:
    """The same with each cell's token written into it."""
    [heat] = figure.data
    says = list(spec.data["says"])
    short = [one if len(one) <= _LONGEST else one[: _LONGEST - 1] + "…" for one in says]
    heat.text = [[escaped(short[row[0]]) if row[0] >= 0 else "" for row in rows] for rows in heat.customdata]
    heat.texttemplate, heat.textfont = "%{text}", {"size": 11}
    figure.update_layout(height=max(300, 110 + 22 * len(set(spec.data["layer"]))), margin={"t": 10})
    return figure
