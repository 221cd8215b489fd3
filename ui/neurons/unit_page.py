"""The parts of one neuron's page: getting about, its state in words, its numbers, its values and its examples."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.neurons.thresholds import THRESHOLDS
from analysis.spec import UserError
from store import RunInfo
from ui import data
from ui.neurons import queries
from ui.neurons.examples import Choice, Chosen, choose, left_out_by_run
from ui.neurons.histogram import histogram
from ui.neurons.units import Site, Unit, jump, step
from ui.playground.ways import play_link
from ui.python import copy_as_python
from ui.strips import show_strips
from ui.words import count, percent, plain, short

Row = Mapping[str, Any]
_NUMBERS = (
    ("max", "Largest"),
    ("min", "Smallest"),
    ("mean", "Mean"),
    ("mean_active", "Mean |a| when active"),
    ("contribution", "Contribution"),
    ("kurtosis", "Excess kurtosis"),
    ("in_norm", "Input norm"),
    ("up_norm", "Up norm"),
    ("out_norm", "Output norm"),
)
"""What each means is the column's comment in the sealed file."""
_JUMP = "jump"


def getting_about(run: RunInfo, places: list[Site], unit: Unit) -> None:
    """Previous, next, random, and a box to jump; the arrow keys do the same as the buttons."""
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        st.button(
            "Previous", icon=":material/chevron_left:", on_click=_go, args=(run, step(places, unit, -1)), key="previous", shortcut="Left"
        )
        st.button("Next", icon=":material/chevron_right:", on_click=_go, args=(run, step(places, unit, 1)), key="next", shortcut="Right")
        st.button("Random", icon=":material/casino:", on_click=_go_anywhere, args=(run, places), key="random")
        st.text_input(
            "Jump to", key=_JUMP, placeholder=f"{unit.site.layer}:{unit.neuron}", on_change=_jump, args=(run, places, unit), width=130,
            label_visibility="collapsed", help="layer:neuron, for example 3:1021; a single number stays in this layer",
        )  # fmt: skip
        play_link(run, f"neuron {unit.site.layer}:{unit.neuron}")
    refused = st.session_state.pop("_refused", None)
    if refused:
        st.warning(plain(refused), icon=":material/turn_slight_right:")


def _go(run: RunInfo, unit: Unit) -> None:
    for name, value in unit.query(run).items():
        st.query_params[name] = value


def _go_anywhere(run: RunInfo, places: list[Site]) -> None:
    site = random.choices(places, [one.n_neurons for one in places])[0]
    _go(run, Unit(site, random.randrange(site.n_neurons)))


def _jump(run: RunInfo, places: list[Site], unit: Unit) -> None:
    typed = st.session_state[_JUMP].strip()
    st.session_state[_JUMP] = ""
    if typed:
        try:
            _go(run, jump(places, typed, unit.site))
        except UserError as error:
            st.session_state["_refused"] = str(error)


# ---------------------------------------------------------------------------------------------------------------------


def numbers(run: RunInfo, unit: Unit, row: Row) -> None:
    """Its numbers, each with its place among the neurons of its layer."""
    comments = {column.name: column.comment for info in data.tables(run) if info.name == "neurons" for column in info.columns}
    with st.container(horizontal=True, gap="small"):
        for name, label in _NUMBERS:
            if row.get(name) is None:
                continue
            below = queries.share_below(run, unit, name, row[name])
            place = f"above {percent(below)} of its layer" if below is not None else None
            st.metric(label, short(row[name]), place, delta_color="off", delta_arrow="off", width=150, help=plain(comments.get(name, "")))
    missing = [label.lower() for name, label in _NUMBERS if row.get(name) is None and name in ("in_norm", "out_norm")]
    if missing:
        st.caption(f"The {' and '.join(missing)} could not be read: the model's matrices could not be told apart.")


def more_numbers(run: RunInfo, unit: Unit, row: Row) -> None:
    """Gate and up path, and its density at every stored threshold, behind a click."""
    gated = row.get("gate_mean") is not None
    with st.expander("Gate and up path, density at other thresholds" if gated else "Density at other thresholds", icon=":material/tune:"):
        if gated:
            paths = {"gate": "act(gate)", "up": "up"}
            st.dataframe(
                {
                    "path": list(paths.values()),
                    "mean": [row[f"{p}_mean"] for p in paths],
                    "mean square": [row[f"{p}_second_moment"] for p in paths],
                    "smallest": [row[f"{p}_min"] for p in paths],
                    "largest": [row[f"{p}_max"] for p in paths],
                    "share of tokens above 0": [row[f"{p}_positive"] for p in paths],
                },
                hide_index=True,
                alt="The two factors of this gated neuron.",
            )
            st.caption("The neuron's activation is act(gate) times up.")
        found = queries.densities(run, unit)
        found = found[(found["n_active"] > 0) | (found["n_active"].shift(fill_value=1) > 0)]
        st.dataframe(
            {"|a| at least": found["threshold"], "tokens": found["n_active"], "share of tokens": found["n_active"] / row["n_tokens"]},
            hide_index=True, alt="How often the magnitude reaches each stored threshold.",
        )  # fmt: skip
        copy_as_python(run, "neuron_densities", where=unit.where, key="python-densities")


def examples(run: RunInfo, unit: Unit, row: Row) -> None:
    """Histogram and examples, with the toggles that say what of them is shown."""
    frame = queries.examples(run, unit)
    with st.container(horizontal=True, vertical_alignment="center"):
        whole = st.segmented_control(
            "Context", ("around the peak", "whole window"), default="around the peak", required=True, key="context", bind="query-params"
        )
        breaks = st.toggle("Line breaks", key="breaks", bind="query-params", help="Draw line ends and tabs of the text as such")
        repeats = st.toggle(
            "Repeats",
            key="repeats",
            bind="query-params",
            help="Also show examples whose five tokens around the peak were shown before in the same group",
        )
        special = st.toggle(
            "First and special tokens",
            key="special",
            bind="query-params",
            help="Also show peaks on the first token of a window or on a special token",
        )
        threshold = st.selectbox(
            "Mark |a| ≥",
            [f"{t:.6g}" for t in THRESHOLDS],
            None,
            placeholder="mark a threshold",
            key="mark",
            bind="query-params",
            label_visibility="collapsed",
            width=170,
        )
        copy_as_python(run, "neuron_examples", where=unit.where, key="python-examples")
    chosen = choose(frame, Choice(whole == "whole window", breaks, repeats, special))
    drawn = histogram(*queries.values(run, unit), row["min"], row["max"], int(row["n_tokens"]), float(threshold) if threshold else None)
    show_strips(chosen.groups, drawn, scale=chosen.scale, key="strips", breaks=breaks)
    st.caption(" ".join(filter(None, [_none(frame, chosen), chosen.words, plain(left_out_by_run(run))])))


def _none(frame: Any, chosen: Chosen) -> str:
    if frame.empty:
        return "The run kept no example of this neuron: it has no value on the tokens that are ranked."
    if not chosen.groups:
        return f"None of its {count(len(frame), 'example')} is shown: the toggles above hide them all."
    return "The inputs of this model are not tokens, so positions stand in their place." if chosen.without_text else ""
