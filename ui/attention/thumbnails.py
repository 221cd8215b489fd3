"""The patterns of all heads of a layer on one stored window, side by side in a single picture; clicking one opens its head."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.attention.example_figures import cells_of, shrunk
from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.screen_layout import plain as on_chart
from figures.spec import Axis, FigureError, FigureSpec
from store import Filter, RunInfo
from ui import data
from ui.attention.charts import OPEN, of_model
from ui.attention.heads import Place
from ui.attention.patterns import EXAMPLES, how_to
from ui.attention.view import View
from ui.charts import export_menu, row_clicked
from ui.runs import beside
from ui.words import plain

Frame = Any
ACROSS = 8
"""Heads side by side."""
CELLS = 20_000
"""Cells of all pictures together, at most: pictures get coarser where a layer has many heads."""


def show_thumbnails(view: View, places: list[Place], place: Place) -> None:
    """The picture of a layer, or where that has not been kept the way to."""
    st.markdown("## Patterns side by side")
    examples = beside(view.run, EXAMPLES, "head_maps")
    if examples is None:
        how_to(
            view.run, EXAMPLES, "What the patterns look like on a window of text has not been kept for this model.", "Keep a few windows"
        )
        return
    found = data.ask(examples, "groups", "head_maps", by=("window",), where=place.where)
    if found.empty:
        st.markdown("No window of this layer was kept.")
        return
    window = int(found["window"].min())
    where = (*place.where, Filter("window", "=", window))
    rows = data.ask(examples, "read", "head_maps", where=where, order_by=("head",))
    try:
        _show(thumbnails_spec(rows, examples, place, window), examples, places.index(place), place)
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")


def thumbnails_spec(rows: Frame, run: RunInfo, place: Place, window: int) -> FigureSpec:
    """One heatmap with a gap between heads, the first query of each on top."""
    import numpy as np
    import pandas as pd

    side = min(64, max(8, int((CELLS / max(1, len(rows))) ** 0.5)))
    pictures = [np.sqrt(shrunk(cells_of(row), side)) for row in rows.itertuples()]
    high, wide = max(one.shape[0] for one in pictures), max(one.shape[1] for one in pictures)
    n_down, parts = -(-len(pictures) // ACROSS), []
    gap = max(1, high // 5)  # room for the number of each head
    for i, (picture, head) in enumerate(zip(pictures, rows["head"].tolist(), strict=True)):
        down, across = np.indices(picture.shape)
        x, y = across + (i % ACROSS) * (wide + 1), down + (i // ACROSS) * (high + gap)
        parts.append(pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": picture.ravel(), "head": head}))
    blank = [{"x": (i + 1) * (wide + 1) - 1, "y": 0} for i in range(min(len(pictures), ACROSS) - 1)]
    blank += [{"x": 0, "y": i * (high + gap) - 1 - j} for i in range(1, n_down) for j in range(gap)]
    whole: Frame = pd.concat([*parts, pd.DataFrame(blank, columns=["x", "y"]).astype(int)], ignore_index=True)
    return FigureSpec(
        kind="heatmap",
        data=whole,
        x=Axis("x", "Keys of each head", bounds=(-0.5, min(len(pictures), ACROSS) * (wide + 1) - 0.5)),
        y=Axis("y", "Queries of each head, the first on top", bounds=(n_down * (high + gap) - gap - 0.5, -0.5)),
        colour=Axis("value", "Square root of attention", bounds=(0.0, 1.0)),
        title="Patterns side by side",
        sentence=f"Attention of the {len(pictures):,} heads of layer {place.label} of {of_model(run)} on window {window} of {run.data}, "
        f"each as {high} × {wide} cells, heads from left to right and from the top down.",
        hover=("head",),
    )


def _show(spec: FigureSpec, run: RunInfo, at: int, place: Place) -> None:
    import plotly.graph_objects as go

    figure: Any = to_plotly(spec)
    frame: Frame = spec.data
    middles = frame.dropna(subset=["value"]).groupby("head")[["x", "y"]].agg(["min", "max"])
    heads, n_down = [int(one) for one in middles.index], -(-len(middles) // ACROSS)
    xs, ys = (((middles[name]["min"] + middles[name]["max"]) / 2).tolist() for name in ("x", "y"))
    height = min(1_000, 90 + 150 * n_down)
    unseen = {"marker": {"opacity": 0}}
    texts = [f"head {place.label}:{head}, open it" for head in heads]
    figure.data[0].hoverinfo = "skip"
    figure.add_trace(
        go.Scatter(
            x=xs, y=ys, mode="markers", customdata=[[i] for i in range(len(heads))], hovertext=[on_chart(one) for one in texts],
            hoverinfo="text", showlegend=False, selected=unseen, unselected=unseen,
            marker={"symbol": "square", "size": 100, "opacity": 0},
        )
    )  # fmt: skip
    for x, top, head in zip(xs, middles["y"]["min"].tolist(), heads, strict=True):
        figure.add_annotation(x=x, y=top - 0.5, yanchor="bottom", text=str(head), showarrow=False, font={"size": 12})
    hidden = {"showticklabels": False, "ticks": "", "showline": False}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden)
    figure.update_layout(height=height, margin={"t": 20}, hoverdistance=80)
    key = f"pictures-{run.id}-{place.key}"
    st.session_state["_pictures"] = (key, [(at, head) for head in heads])
    with st.container(horizontal=True, horizontal_alignment="right"):
        export_menu(spec, run.provenance, name="head-pictures", key="pictures-menu")
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key, on_select=_choose, selection_mode="points")
    st.caption(f"{plain(spec.sentence)} Click one to open its head.")


def _choose() -> None:
    key, heads = st.session_state["_pictures"]
    row = row_clicked(st.session_state[key]["selection"]["points"])
    if row is not None:
        st.session_state[OPEN] = heads[row]
