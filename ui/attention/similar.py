"""Heads that look at the same keys: the most similar ones of a head, and the tree in which the heads of a layer join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.attention.patterns_figures import draw_similarity
from figures.screen import PLOTLY_CONFIG
from figures.screen_layout import plain as on_chart
from figures.spec import FigureError
from figures.words import number, visible
from store import Filter, RunInfo
from ui import data
from ui.attention.charts import OPEN, read_on
from ui.attention.heads import Head, Place
from ui.attention.patterns import PATTERNS, PLACE, how_to
from ui.attention.view import View
from ui.charts import row_clicked, show_spec
from ui.links import HEAD_PAGE
from ui.python import copy_as_python
from ui.words import count, plain

Row = Mapping[str, Any]
Frame = Any
LISTED = 5
"""Similar heads that are named in each list, at most."""
UNKNOWN = "Which heads look at the same keys, and which shape each pattern has, has not been looked at on this model."
LABEL = "Look at its patterns"
NEAR, FAR = "#e69f00", "#56708a"


def neighbours(patterns: RunInfo, head: Head) -> Frame:
    """Its pairs, the other head as ``layer``, ``hook_name``, ``turn``, ``head``; both directions of a pair once."""
    import pandas as pd

    found = []
    for own, other in (("a", "b"), ("b", "a")):
        where = tuple(Filter(f"{one.column}_{own}", one.op, one.value) for one in head.where)
        frame = data.ask(patterns, "read", "head_pairs", where=where)
        found.append(frame.rename(columns={f"{name}_{other}": name for name in (*PLACE, "head")}))
    pairs: Any = pd.concat(found, ignore_index=True)
    return pairs.drop_duplicates([*PLACE, "head"])


def show_similar(run: RunInfo, patterns: RunInfo | None, places: list[Place], head: Head) -> None:
    """The heads most like this one, in its layer and elsewhere, and its place in the tree of its layer."""
    st.markdown("## Similar heads")
    if patterns is None:
        how_to(run, PATTERNS, UNKNOWN, LABEL)
        return
    pairs = neighbours(patterns, head)
    if pairs.empty:
        st.markdown("It was compared with no other head: it is one of cross-attention, or the model's only one.")
        return
    inside = pairs[pairs["within"] & pairs["divergence"].notna()].sort_values("divergence")
    outside = pairs[~pairs["within"]].sort_values("overlap", ascending=False)
    left, right = st.columns(2, gap="large")
    with left:
        _listed(run, places, inside, f"In layer {head.place.label}", "Its layer has no other head.")
        _listed(run, places, outside, "In other layers", "No other layer was compared.")
        st.caption(
            plain(
                f"Divergence: {NEAREST}. Overlap: of patterns pooled to 16 × 16 parts, 1 for equal ones. Looked at on {read_on(patterns)}."
            )
        )
    with right:
        show_tree(patterns, places, head.place, head)


NEAREST = "Jensen-Shannon, 0 for heads that look at the same keys, ln 2 = 0.69 nats for heads that share none"


def _listed(run: RunInfo, places: list[Place], pairs: Frame, title: str, nothing: str) -> None:
    st.markdown(f"**{plain(title)}**")
    known = {place.key: place for place in places}
    shown = [row for row in pairs.head(LISTED).to_dict("records") if tuple(row[name] for name in PLACE) in known]
    for row in shown:
        other = Head(known[tuple(row[name] for name in PLACE)], int(row["head"]))
        label = f"Head {plain(other.name)} · {plain(pair_words(row))}"
        st.page_link(HEAD_PAGE, label=label, icon=":material/center_focus_strong:", query_params=other.query(run), width="content")
    if not shown:
        st.caption(nothing)


def pair_words(row: Row) -> str:
    """How alike two heads are, in a line (foreign text)."""
    if not row["within"]:
        return f"overlap {number(row['overlap'])}"
    said = f"divergence {number(row['divergence'])} nats"
    return said + (f", outputs' cosine {row['output_cosine'] + 0.0:.2g}" if row["output_cosine"] == row["output_cosine"] else "")


# ---------------------------------------------------------------------------------------------------------------------


def closer(view: View, places: list[Place]) -> Place:
    """The layer that the rest of the page of all heads is about: at first the one chosen above, or that whose heads agree most."""
    st.header("One layer closer", anchor="closer")
    agreement = {key: row["agreement"] for key, row in _layers(view.patterns).items() if row["n_heads"] > 1}
    most = max(places, key=lambda place: agreement.get(place.key, -1.0))
    labels = {place.label: place for place in places}
    label = st.selectbox(
        "Heads of layer", list(labels), places.index(view.place or most), key="alike", bind="query-params", width=190, format_func=visible,
        help="At first the layer whose heads agree most, or the one that the filter above names",
    )  # fmt: skip
    return labels.get(label or "", most)


def _layers(patterns: RunInfo | None) -> dict[tuple[Any, ...], Row]:
    rows = patterns.summaries.get("pattern_layers", ()) if patterns is not None else ()
    return {tuple(row[name] for name in PLACE): row for row in rows}


def show_alike(view: View, places: list[Place], place: Place) -> None:
    """The tree of a layer, and all its pairs."""
    if view.patterns is None:
        st.markdown("## How they join")
        how_to(view.run, PATTERNS, UNKNOWN, LABEL)
        return
    row = _layers(view.patterns).get(place.key)
    if row is None or row["n_heads"] < 2:
        st.markdown(
            "This layer has a single head, so there is nothing to compare it with."
            if row is not None
            else "The heads of this layer were not compared: they are of cross-attention, or the windows looked at are too short."
        )
        return
    n, clusters, near = int(row["n_heads"]), int(row["n_clusters"]), view.patterns.config["near"]
    said = "each looks elsewhere" if clusters == n else f"{count(clusters, 'group')} of heads that look at nearly the same keys"
    st.caption(plain(f"{count(n, 'head')}: {said} (joined below {near:g}). {NEAREST}. Looked at on {read_on(view.patterns)}."))
    left, right = st.columns(2, gap="large")
    with left:
        show_tree(view.patterns, places, place, None, level="##")
    with right:
        _matrix(view.patterns, place)


def _matrix(patterns: RunInfo, place: Place) -> None:
    heads = data.ask(patterns, "read", "head_patterns", where=place.where)
    where = (*(Filter(f"{one.column}_a", one.op, one.value) for one in place.where), Filter("within", "=", True))
    try:
        spec = draw_similarity(data.ask(patterns, "read", "head_pairs", where=where), heads, patterns.provenance)
        show_spec(spec, patterns.provenance, name="heads-alike", key="alike-pairs")
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")


def show_tree(patterns: RunInfo, places: list[Place], place: Place, head: Head | None, *, level: str = "###") -> None:
    """The dendrogram of a layer; clicking a head at its foot opens it."""
    merges = data.ask(patterns, "read", "head_merges", where=place.where)
    heads = data.ask(patterns, "read", "head_patterns", columns=("head", "leaf", "shape"), where=place.where, order_by=("leaf",))
    if merges.empty:
        st.caption("A layer of one head has no tree.")
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"{level} How they join")
        copy_as_python(patterns, "head_merges", where=place.where, rows="the tree's joints", key="python-tree")
    near = float(patterns.config["near"])
    figure = tree_figure(merges, heads, near, None if head is None else head.head)
    said = f"How the {len(heads):,} heads of layer {place.label} join, the most similar first; below {near:g} they count as redundant."
    known = f"tree-{patterns.id}-{place.key}-{None if head is None else head.head}"
    st.session_state["_tree"] = (known, [(places.index(place), one) for one in heads["head"].tolist()])
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=said, key=known, on_select=_choose, selection_mode="points")
    st.caption(plain(f"{said} Height: mean of sqrt(JS / ln 2). Click a head at the foot to open it."))


def tree_figure(merges: Frame, heads: Frame, near: float, marked: int | None) -> Any:
    """The tree as one trace for joints below ``near`` and one for the others, with a point for every head at the foot."""
    import plotly.graph_objects as go

    traces = []
    for name, colour, rows in (
        (f"joined below {near:g}", NEAR, merges[merges["distance"] <= near]),
        ("joined above", FAR, merges[merges["distance"] > near]),
    ):
        xs, ys = [], []
        for row in rows.itertuples():
            xs += [row.left_at, row.left_at, row.right_at, row.right_at, None]
            ys += [row.left_from, row.distance, row.distance, row.right_from, None]
        if xs:
            line = {"color": colour, "width": 2.5 if colour == NEAR else 1.5}
            traces.append(go.Scatter(x=xs, y=ys, mode="lines", line=line, name=name, hoverinfo="skip"))
    numbers, shapes = heads["head"].tolist(), heads["shape"].tolist()
    colours = [("#d55e00" if one == marked else FAR) for one in numbers]
    sizes = [13 if one == marked else 9 for one in numbers]
    texts = [f"head {one}: {on_chart(shape)}" for one, shape in zip(numbers, shapes, strict=True)]
    foot = {"color": colours, "size": sizes, "opacity": 1.0}
    same = {"marker": {"opacity": 1.0}}
    traces.append(
        go.Scatter(
            x=heads["leaf"].tolist(), y=[0.0] * len(numbers), mode="markers", marker=foot, hovertext=texts, hoverinfo="text",
            showlegend=False, cliponaxis=False, customdata=[[i] for i in range(len(numbers))], selected=same, unselected=same,
        )
    )  # fmt: skip
    figure = go.Figure(traces)
    step = -(-len(numbers) // 32)
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", height=360, showlegend=len(traces) > 2,
        font={"size": 13},
        margin={"l": 10, "r": 10, "t": 30, "b": 10}, hovermode="closest",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "#2b2b2b", "font": {"color": "#ffffff"}}, modebar={"bgcolor": "rgba(0,0,0,0)"},
        xaxis={"title": {"text": "Head, similar ones side by side", "standoff": 10}, "tickvals": heads["leaf"].tolist()[::step],
               "ticktext": [str(one) for one in numbers[::step]], "zeroline": False, "showgrid": False, "automargin": True},
        yaxis={"title": {"text": "Distance at which they join", "standoff": 10}, "rangemode": "tozero", "zeroline": False,
               "gridcolor": "rgba(128,128,128,0.22)", "automargin": True},
    )  # fmt: skip
    figure.add_hline(y=near, line={"color": "rgba(128,128,128,0.9)", "width": 1.5, "dash": "dot"})
    return figure


def _choose() -> None:
    key, heads = st.session_state["_tree"]
    row = row_clicked(st.session_state[key]["selection"]["points"])
    if row is not None:
        st.session_state[OPEN] = heads[row]
