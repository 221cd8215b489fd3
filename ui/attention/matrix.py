"""One head's attention on one window as a matrix: the whole of it in cells, or what a few keys or a threshold would keep of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from analysis.attention.example_figures import picture_spec
from figures.spec import Axis, FigureError, FigureSpec
from figures.words import visible
from store import Filter, RunInfo
from ui import data
from ui.charts import show_spec
from ui.words import count, percent, plain

Frame = Any
WHOLE, LARGEST, ABOVE = "the whole", "the largest keys", "above a threshold"
LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Thresholds to choose from."""
USUAL = 0.99
"""Share of the weights above 0 that the linear colours span."""
SIDE = 128
"""Queries and keys that a matrix of single weights holds at most; longer windows are cropped, which is said."""


def show_matrix(run: RunInfo, name: str, where: Sequence[Filter], rows: Frame, queries: Sequence[str], keys: Sequence[str]) -> None:
    """The matrix in the view that is chosen above it; ``rows`` are those of `head_examples`."""
    k = int(run.config["top_k"])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control("Matrix", (WHOLE, LARGEST, ABOVE), default=WHOLE, required=True, key="matrix", bind="query-params")
        n_keys, least = k, 0.0
        if view == LARGEST and k > 1:
            n_keys = st.slider("Keys per query", 1, k, k, key="kept", bind="query-params", width=220)
        elif view == ABOVE:
            chosen = st.select_slider(
                "Weights of at least", [f"{one:g}" for one in LEVELS], "0.01", key="least", bind="query-params", width=220
            )
            least = float(chosen)
        log = st.toggle(
            "Logarithmic", key="log", bind="query-params", help="Colours by the logarithm, so that small weights show; zeros are blank"
        )
        sink = st.toggle(
            "First key", True, key="sink", bind="query-params", help="Whether attention on the first key of the window is drawn"
        )
    try:
        if view == WHOLE:
            spec = whole_spec(run, name, where, queries, keys)
        else:
            spec = kept_spec(run, name, rows, queries, keys, n_keys if view == LARGEST else None, least)
        show_spec(drawn(spec, log=log, sink=sink), run.provenance, name="head-matrix", key="matrix-figure")
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")


def drawn(spec: FigureSpec, *, log: bool, sink: bool) -> FigureSpec:
    """The matrix with logarithmic colours, without the first key, or as it is."""
    import numpy as np

    frame: Frame = spec.data
    value: Frame = frame["attention"].astype(float)
    if not sink:
        value = value.where(frame["key"] > 0)
    notes = spec.notes if sink else (*spec.notes, "Attention on the first key is left out of the picture, not of the numbers above.")
    value = value.where(value > 0) if log else value
    known = value[value > 0]
    least, most, usual = (float(known.min()), float(known.max()), float(known.quantile(USUAL))) if len(known) else (0.0, 1.0, 1.0)
    if not log and usual < most:
        notes = (*notes, f"Colours span {percent(USUAL)} of the weights: one above {usual:.2g} has the colour of {usual:.2g}.")
    bounds = (least if least < most else most / 10, most) if log else (0.0, usual)
    assert spec.colour is not None  # a matrix has one
    colour = replace(spec.colour, scale="log" if log else "linear", bounds=bounds)
    return replace(spec, data=frame.assign(attention=np.asarray(value)), colour=colour, notes=notes)


def whole_spec(run: RunInfo, name: str, where: Sequence[Filter], queries: Sequence[str], keys: Sequence[str]) -> FigureSpec:
    """The stored picture: nothing is left out, long windows have several tokens to a cell."""
    [row] = data.ask(run, "read", "head_maps", where=tuple(where), limit=1).itertuples(index=False)
    spec = picture_spec(row, run.provenance, name)
    return with_tokens(spec, queries, keys, int(row.query_step), int(row.key_step))


def kept_spec(
    run: RunInfo, name: str, rows: Frame, queries: Sequence[str], keys: Sequence[str], most: int | None, least: float
) -> FigureSpec:
    """What is left of the pattern with the ``most`` largest keys of each query, or of those kept all with a weight of ``least``."""
    import pandas as pd

    shown = rows[rows["query"] < SIDE]
    cells: dict[tuple[int, int], float] = {}
    mass, n, pairs = 0.0, 0, 0
    for row in rows.itertuples(index=False):
        kept = [(int(key), float(w)) for key, w in zip(row.keys, row.weights, strict=True) if w >= least][:most]
        mass, n, pairs = mass + sum(w for _, w in kept), n + len(kept), pairs + int(row.n_valid)
        if row.query < SIDE:
            cells |= {(int(row.query), key): w for key, w in kept if key < SIDE}
    causal = bool((rows["n_valid"] <= rows["query"] + 1).all())
    width = min(SIDE, max(max(row) for row in rows["keys"]) + 1)
    every = [(q, key) for q in shown["query"].tolist() for key in range(min(width, q + 1) if causal else width)]
    data_ = pd.DataFrame({
        "query": [q for q, _ in every], "key": [key for _, key in every], "attention": [cells.get(one, 0.0) for one in every]
    })  # fmt: skip
    spec = FigureSpec(
        kind="heatmap",
        data=data_,
        x=Axis("key", "Key"),
        y=Axis("query", "Query", bounds=(float(shown["query"].max()) + 0.5, -0.5)),
        colour=Axis("attention", "Attention", unit="share of a query's"),
        title=f"Pattern of head {name}, sparse",
        sentence=f"Attention of head {name} of {run.provenance['model_label']} with {_rule(run, most, least)} alone: "
        f"{percent(mass / len(rows))} of the attention in {percent(n / pairs)} of the valid pairs, mean over n = {len(rows):,} queries.",
        notes=_notes(run, rows, most, least),
    )  # fmt: skip
    return with_tokens(spec, queries, keys, 1, 1)


def _rule(run: RunInfo, most: int | None, least: float) -> str:
    if most is None:
        return f"weights of at least {least:g}, of the {run.config['top_k']} largest of each query,"
    return f"the {most} largest weights of each query" if most > 1 else "the largest weight of each query"


def _notes(run: RunInfo, rows: Frame, most: int | None, least: float) -> tuple[str, ...]:
    """What the picture does not show."""
    notes, k = ["A cell of 0 is not kept; one of no colour may not be looked at."], run.config["top_k"]
    if most is None:
        more = sum(len(row.keys) < row.n_valid and min(row.weights) >= least for row in rows.itertuples(index=False))
        notes += [f"{count(more, 'query', 'queries')} may have more such weights than the {k} that the run stored."] if more else []
    longest = max(int(rows["query"].max()), max(max(row) for row in rows["keys"])) + 1
    if longest > SIDE:
        notes.append(f"Cropped: the picture shows the first {SIDE:,} of {longest:,} tokens; the shares are of all.")
    return tuple(notes)


def with_tokens(spec: FigureSpec, queries: Sequence[str], keys: Sequence[str], query_step: int, key_step: int) -> FigureSpec:
    """The matrix with what stands at its places, to be told where a cell is pointed at."""

    def texts(places: Frame, tokens: Sequence[str], step: int) -> list[str]:
        found = {at: visible("".join(tokens[at : at + step])) for at in set(places.tolist())}
        return [found[at] or "–" for at in places.tolist()]

    if not queries or not keys:
        return spec
    frame: Frame = spec.data
    asks, looked = texts(frame["query"], queries, query_step), texts(frame["key"], keys, key_step)
    return replace(spec, data=frame.assign(**{"query token": asks, "key token": looked}), hover=("query token", "key token"))
