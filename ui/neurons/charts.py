"""The two pictures of all neurons: the strip of layers, and the scatter of density against the largest activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from figures.palettes import ACTIVITY, SEQUENTIAL
from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.spec import Axis, FigureSpec, Series
from ui.charts import export_menu
from ui.neurons import queries
from ui.neurons.units import Site
from ui.neurons.view import BOX, CLASSES, MEASURES, View, box_words, view_words
from ui.paging import first_page
from ui.words import count, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

Frame = Any
"""A data frame or one of its columns: the stubs of pandas call every selection both."""
_DIMMED = 0.3
_GAP = 10**0.5
"""What has no place on a log axis stands half a decade before everything else."""
OPEN = "neuron_to_open"


def layer_strip(view: View, places: list[Site]) -> None:
    """Classes per layer, all neurons; clicking a bar filters by its layer."""
    spec, frame = _strip_spec(view, places)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("## Layers")
        export_menu(spec, view.run.provenance, name="neurons-by-layer", key="strip")
    figure: Any = to_plotly(spec)
    figure.update_layout(height=210, margin={"l": 48, "r": 8, "t": 4, "b": 36}, bargap=0.12, legend={"y": 1.2, "x": 0}, title=None)
    figure.update_yaxes(tickformat=".0%", title=None)
    figure.update_xaxes(fixedrange=True)
    if view.site is not None:
        chosen = view.site.label
        for trace in figure.data:
            rows = np.asarray(trace.customdata).ravel().astype(int)
            trace.marker.opacity = [1.0 if frame["site"].iloc[row] == chosen else _DIMMED for row in rows]
    st.plotly_chart(
        figure, config=dict(PLOTLY_CONFIG) | {"displayModeBar": False}, alt=spec.sentence, key=_key("strip", view), on_select=_choose_layer,
        selection_mode="points",
    )  # fmt: skip
    st.session_state["_strip"] = (_key("strip", view), frame["site"].tolist())
    st.caption(f"{plain(spec.sentence)} Click a bar to keep that layer only.")


def _strip_spec(view: View, places: list[Site]) -> tuple[FigureSpec, Frame]:
    counts: Any = queries.class_counts(view.run, view.threshold)
    labels = {(site.layer, site.hook_name): site.label for site in places}
    totals = {site.label: site.n_neurons for site in places}
    counts["site"] = [labels[key] for key in zip(counts["layer"], counts["hook_name"], strict=True)]
    counts["share"] = counts["n_rows"] / counts["site"].map(totals)
    n = int(counts["n_rows"].sum())
    frame = counts[["site", "class", "share", "n_rows"]].rename(columns={"n_rows": "neurons"}).reset_index(drop=True)
    sentence = (
        f"Share of each layer's neurons that are {', '.join(CLASSES[:-1])} or {CLASSES[-1]}{meaning(view)}; "
        f"n = {count(n, 'neuron')} in {count(len(places), 'layer')}."
    )
    spec = FigureSpec(
        kind="stacked_bars",
        data=frame,
        x=Axis("site", "Layer", scale="category"),
        y=Axis("share", "Share", "share of neurons", bounds=(0, 1)),
        series=Series("class", "Class", order=CLASSES, palette="activity"),
        title="Neurons by class and layer",
        sentence=sentence,
        hover=("neurons",),
    )
    return spec, frame


def meaning(view: View) -> str:
    """The threshold in words, where it is not the run's own."""
    return "" if view.threshold is None else f", active meaning |a| ≥ {view.threshold:g}"


def _key(what: str, view: View) -> str:
    """Another view is another chart: a selection of the old one must not stay."""
    return f"{what}-{view.run.id}-{view.threshold}-{view.site.label if view.site else ''}-{view.box}"


def _choose_layer() -> None:
    key, sites = st.session_state["_strip"]
    chosen = st.session_state[key]["selection"]["points"]
    if chosen:
        site = sites[_first(chosen[0]["customdata"])]
        st.session_state["site"] = None if st.session_state.get("site") == site else site
        st.session_state["page"] = 1


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value["0"] if isinstance(value, dict) else value)


# ---------------------------------------------------------------------------------------------------------------------


def scatter(view: View, places: list[Site], found: int) -> None:
    """All neurons that meet the filters; clicking one opens it, drawing a box keeps those inside in the table."""
    frame = queries.points(view.run, view.cloud, view.derive, MEASURES.get(view.colour, view.colour), found)
    frame, edges = _placed(frame)
    sentence = _sentence(view, frame, found)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("## All neurons")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.selectbox(
                "Colour", ["class", *MEASURES], key="colour", bind="query-params", width=190, label_visibility="collapsed", format_func=str
            )
            export_menu(_scatter_spec(view, frame, edges, sentence), view.run.provenance, name="neurons", key="scatter")
    figure = draw(frame, view, places, edges)
    key = f"{_key('scatter', view)}-{hash(view.cloud)}-{view.colour}"
    st.session_state["_scatter"] = (key, edges)
    st.plotly_chart(
        figure,
        config=dict(PLOTLY_CONFIG) | {"scrollZoom": False},
        alt=sentence,
        key=key,
        on_select=_choose_points,
        selection_mode=("points", "box"),
    )
    st.caption(f"{plain(sentence)} Click a point to open the neuron; draw a box to keep those inside it in the table.")
    if view.box is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(box_words(view.box))
            st.button("Show all again", icon=":material/close:", on_click=_drop_box, key="drop_box")


@dataclass(frozen=True)
class _Edges:
    """Where what has no place on a log axis is drawn: left of the rarest, below the smallest. None where nothing needs it."""

    left: float | None
    bottom: float | None


def _placed(frame: Frame) -> tuple[Frame, _Edges]:
    """With ``x`` and ``y``: density and largest activation, and places of their own for silent neurons and those never above 0."""
    left = _edge(frame["density"])
    bottom = _edge(frame["max"])
    x = frame["density"].where(frame["density"] > 0, left)
    return frame.assign(x=x, y=frame["max"].where(frame["max"] > 0, bottom)), _Edges(left, bottom)


def _edge(values: Frame) -> float | None:
    """Half a decade below the smallest value above 0, where there are values at or below it."""
    positive = values[values > 0]
    if len(positive) == len(values):
        return None
    return float(positive.min() if len(positive) else 1.0) / _GAP


def _sentence(view: View, frame: Frame, found: int) -> str:
    silent = int(frame.loc[frame["density"] <= 0, "n_rows"].sum())
    said = f"Each point is a neuron, n = {found:,}: the share of tokens it is active on{meaning(view)}, against its largest activation."
    if len(frame) < int(frame["n_rows"].sum()):
        said = (
            f"{found:,} neurons drawn as {len(frame):,} points, one for all that would lie on each other: the share of tokens a neuron"
            f" is active on{meaning(view)}, against its largest activation."
        )
    filters = view_words(view).replace("`", "")
    return said + (f" Filtered: {filters}." if filters else "") + (f" Silent ones ({silent:,}) stand at the left edge." if silent else "")


def draw(frame: Frame, view: View, places: list[Site], edges: _Edges) -> go.Figure:
    """The scatter for Plotly; ``customdata`` is the place of the site and the neuron's number."""
    import plotly.graph_objects as go

    order = {(site.layer, site.hook_name): i for i, site in enumerate(places)}
    frame = frame.assign(place=[order[key] for key in zip(frame["layer"], frame["hook_name"], strict=True)])
    figure = go.Figure()
    if view.colour == "class":
        for name in CLASSES:
            part = frame[frame["class"] == name]
            if len(part):
                figure.add_trace(_points(part, {"color": ACTIVITY[name].colour}, name, places))
    else:
        figure.add_trace(_points(frame, _scale(frame[MEASURES[view.colour]], view.colour), "", places))
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "linecolor": "rgba(128,128,128,0.6)"}
    ground = dict.fromkeys(("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)")
    by_class = view.colour == "class"
    figure.update_layout(
        height=430, margin={"l": 56, "r": 8, "t": 8, "b": 48}, dragmode="select", hovermode="closest", template="none", font={"size": 13},
        showlegend=by_class, legend={"orientation": "h", "y": 1.08, "x": 0, "itemsizing": "constant"}, **ground,
        xaxis={"type": "log", "title": "Density (share of tokens)", **_ticks(frame["x"], edges.left, "silent"), **grid},
        yaxis={"type": "log", "title": "Largest activation", **_ticks(frame["y"], edges.bottom, "≤ 0"), **grid},
        hoverlabel={"align": "left", "bgcolor": "#2b2b2b", "font": {"size": 13, "color": "#ffffff"}},
    )  # fmt: skip
    edge = {"width": 1, "dash": "dot", "color": "rgba(128,128,128,0.6)"}
    if edges.left is not None:
        figure.add_vline(x=edges.left * _GAP**0.5, line=edge)
    if edges.bottom is not None:
        figure.add_hline(y=edges.bottom * _GAP**0.5, line=edge)
    if view.box is not None:
        low, high, bottom, top = view.box
        corner = {"x0": max(low, (edges.left or 0) / _GAP, 1e-9), "y0": max(bottom, (edges.bottom or 0) / _GAP, 1e-9)}
        figure.add_shape(type="rect", x1=high, y1=top, line={"width": 2, "color": "#888888"}, **corner)
    return figure


def _points(frame: Frame, marker: dict[str, Any], name: str, places: list[Site]) -> Any:
    import plotly.graph_objects as go

    layers = np.array([site.layer for site in places], dtype=np.int32)
    data = np.column_stack([frame["place"].to_numpy(np.int32), frame["neuron"].to_numpy(np.int32), layers[frame["place"].to_numpy()]])
    size = 5 if len(frame) < 20_000 else 4
    hover = "neuron %{customdata[2]}:%{customdata[1]}<br>density %{x:.3g}<br>largest %{y:.4g}"
    return go.Scattergl(
        x=frame["x"].to_numpy(np.float32), y=frame["y"].to_numpy(np.float32), customdata=data, mode="markers", name=name,
        marker={"size": size, "opacity": 0.75 if len(frame) < 5_000 else 0.5, **marker},
        hovertemplate=hover + f"<extra>{name}</extra>", unselected={"marker": {"opacity": 0.15}},
    )  # fmt: skip


def _scale(values: Frame, title: str) -> dict[str, Any]:
    """Colours of a measure, between its 1 % and 99 % quantiles: a few outliers must not take all the colours."""
    numbers = values.astype(float)
    low, high = (float(q) for q in numbers.quantile([0.01, 0.99])) if numbers.notna().any() else (0.0, 1.0)
    scale = [[i / (len(SEQUENTIAL) - 1), colour] for i, colour in enumerate(SEQUENTIAL)]
    bar = {"title": {"text": f"{title}<br>(1 % to 99 %)", "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return {"color": numbers.to_numpy(np.float32), "colorscale": scale, "cmin": low, "cmax": high, "colorbar": bar, "showscale": True}


def _ticks(values: Frame, edge: float | None, edge_words: str) -> dict[str, Any]:
    """Ticks at powers of ten, and one that names the place of what has none."""
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
    pace = max(1, math.ceil((high - low) / 8))
    ticks = {10.0**power: f"{10.0**power:g}" if -3 <= power <= 4 else f"10<sup>{power}</sup>" for power in range(low, high + 1, pace)}
    if edge is not None:
        ticks = {edge: edge_words} | {value: words for value, words in ticks.items() if value > edge * _GAP**0.5}
    around = (math.log10(values.min()) - 0.15, math.log10(values.max()) + 0.15)
    return {"tickvals": list(ticks), "ticktext": list(ticks.values()), "range": around}


def _scatter_spec(view: View, frame: Frame, edges: _Edges, sentence: str) -> FigureSpec:
    """The same picture for paper."""
    by_class = view.colour == "class"
    places = ((edges.left, "Silent neurons", "density"), (edges.bottom, "Neurons never above 0", "largest activation"))
    notes = tuple(f"{who} are drawn at a {what} of {edge:.3g}." for edge, who, what in places if edge is not None)
    return FigureSpec(
        kind="scatter",
        data=frame,
        x=Axis("x", "Density", "share of tokens", scale="log"),
        y=Axis("y", "Largest activation", scale="log"),
        series=Series("class", "Class", order=CLASSES, palette="activity") if by_class else None,
        colour=None if by_class else Axis(MEASURES[view.colour], view.colour.capitalize()),
        title="All neurons",
        sentence=sentence,
        notes=notes,
    )


def _choose_points() -> None:
    key, edges = st.session_state["_scatter"]
    selection = st.session_state[key]["selection"]
    if selection["box"]:
        (low, high), (bottom, top) = (sorted(selection["box"][0][axis]) for axis in ("x", "y"))
        low = 0.0 if edges.left is not None and low <= edges.left else low
        bottom = -math.inf if edges.bottom is not None and bottom <= edges.bottom else bottom
        st.query_params[BOX] = ",".join(f"{value:.4g}" for value in (low, high, bottom, top))
        first_page()
    elif selection["points"]:
        place, number = selection["points"][0]["customdata"][:2]
        st.session_state[OPEN] = (int(place), int(number))


def _drop_box() -> None:
    st.query_params.pop(BOX, None)
    first_page()
