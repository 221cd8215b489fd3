"""The two pictures of all heads: layer by head, and the scatter of two measures. Both hold the heads that meet the filters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.spec import Axis, FigureError, FigureSpec
from store import RunInfo
from ui.attention.heads import Head, Place
from ui.attention.measures import Measure
from ui.attention.view import KEY, View, axes, colour
from ui.charts import export_menu
from ui.neurons.queries import ask
from ui.weights.maps import clickable
from ui.words import code, count, plain

Frame = Any
"""A data frame: the stubs of pandas call a column and a selection both."""
OPEN = "head_to_open"
"""Where a click leaves a head, as the place's number and its own, for the page to open."""
TALL = 1_000
"""Pixels of the grid at most, however many layers there are."""
WIDE = 30
"""Largest over smallest value above which an axis of numbers above 0 is logarithmic."""


def heads_of(run: RunInfo, places: list[Place], columns: tuple[str, ...], where: tuple[Any, ...] = ()) -> Frame:
    """Heads with these columns, ``place`` (its number) and ``name``."""
    frame = ask(run, "read", "heads", columns=tuple(dict.fromkeys((*KEY, *columns))), where=where, order_by=KEY)
    numbers = {place.key: i for i, place in enumerate(places)}
    at = [numbers[key] for key in zip(frame["layer"], frame["hook_name"], frame["turn"], strict=True)]
    return frame.assign(place=at, name=[Head(places[i], int(n)).name for i, n in zip(at, frame["head"], strict=True)])


def read_on(run: RunInfo) -> str:
    """How much a run has read, for the sentence below a figure (foreign text)."""
    facts = run.provenance.get("facts") or {}
    parts = [count(facts["n_tokens"], "query", "queries")] if facts.get("n_tokens") else []
    parts += [count(facts["n_documents"], "document")] if facts.get("n_documents") else []
    return " of ".join([*parts, *([run.data] if run.data else [])])


def of_model(run: RunInfo) -> str:
    """The model's name for sentences (foreign text)."""
    return str(run.provenance.get("model_label") or run.model)


# ---------------------------------------------------------------------------------------------------------------------


def grid_spec(view: View, places: list[Place], measure: Measure) -> FigureSpec:
    """Layer by head in the colour of a measure; heads that the filters leave out are blank."""
    frame = heads_of(view.run, places, (measure.column,))
    bounds = _bounds(measure, frame[measure.column])  # of all heads, so that a filter changes no colour
    if view.where:
        kept = ask(view.run, "read", "heads", columns=KEY, where=view.where)
        inside = frame.merge(kept, on=list(KEY), how="left", indicator=True)["_merge"].eq("both").to_numpy()
        frame[measure.column] = frame[measure.column].where(inside)
    n = int(frame[measure.column].notna().sum())
    shown = frame.assign(layer=[places[i].label for i in frame["place"]], value=frame[measure.column])
    left_out = f", of {len(frame):,}: {view.words.replace('`', '')}" if view.where else ""
    return FigureSpec(
        kind="heatmap",
        data=shown[["layer", "head", "value", "name", "place"]],
        x=Axis("head", "Head", scale="category"),
        y=Axis("layer", "Layer", scale="category"),
        colour=Axis("value", measure.label, unit=measure.unit, bounds=bounds),
        title="Layer by head",
        sentence=f"{measure.meaning}; n = {count(n, 'head')} of {of_model(view.run)}{left_out}. Measured on {read_on(view.run)}.",
        hover=("name",),
        notes=() if n == len(frame) else ("A blank place is a head that the filters leave out, or that has no such number.",),
    )


def _bounds(measure: Measure, values: Frame) -> tuple[float, float] | None:
    """Shares from 0 to 1 where they spread over half of it, so that runs compare; everything else as far as its values go."""
    known = values.dropna()
    if known.empty:
        return None
    low, high = float(known.min()), float(known.max())
    if measure.is_share and high - low > 0.5:
        return 0.0, 1.0
    return (low, high) if low < high else (min(0.0, low), max(1.0, 2 * high))


def show_grid(view: View, places: list[Place], known: Mapping[str, Measure]) -> Measure:
    """The grid in the colour that is chosen above it; clicking a cell opens its head."""
    menu = _heading("Layer by head")
    measure = colour(known)
    _show(view, grid_spec(view, places, measure), "grid", menu, with_points=True)
    st.caption(f"**{plain(measure.label)}** ({code(measure.column)}): {plain(measure.comment)}.")
    return measure


def _heading(title: str) -> Any:
    """A heading, and the place for its menu of exports, which is known only below what is chosen."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {title}")
        return st.container(width="content")


def scatter_spec(view: View, places: list[Place], x: Measure, y: Measure) -> FigureSpec:
    """One measure against another, coloured by depth."""
    frame = heads_of(view.run, places, (x.column, y.column), view.where)
    shown = frame.assign(x=frame[x.column], y=frame[y.column])[["name", "layer", "head", "x", "y", "place"]]
    known = shown.dropna(subset=["x", "y"]).reset_index(drop=True)
    missing = len(shown) - len(known)
    said = f" Filtered: {view.words.replace('`', '')}." if view.where else ""
    return FigureSpec(
        kind="scatter",
        data=known,
        x=_axis("x", x, known["x"]),
        y=_axis("y", y, known["y"]),
        colour=Axis("layer", "Layer"),
        title="One measure against another",
        sentence=f"Each point is a head, n = {len(known):,} of {of_model(view.run)}: {x.name} across, {y.name} up, its layer as colour. "
        f"Measured on {read_on(view.run)}.{said}",
        hover=("name",),
        notes=(f"{count(missing, 'head')} without one of the two numbers left out.",) if missing else (),
    )


def _axis(column: str, measure: Measure, values: Frame) -> Axis:
    log = not measure.is_share and len(values) > 0 and values.min() > 0 and values.max() > WIDE * values.min()
    return Axis(column, measure.label, unit=measure.unit, scale="log" if log else "linear")


def show_scatter(view: View, places: list[Place], known: Mapping[str, Measure]) -> tuple[Measure, Measure]:
    """The scatter of the two measures chosen above it; clicking a point opens its head."""
    menu = _heading("One measure against another")
    x, y = axes(known)
    _show(view, scatter_spec(view, places, x, y), "scatter", menu, with_points=False)
    return x, y


def _show(view: View, spec: FigureSpec, name: str, menu: Any, *, with_points: bool) -> None:
    try:
        figure: Any = clickable(spec) if with_points else to_plotly(spec)
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")
        return
    figure.update_layout(height=min(figure.layout.height, TALL) if with_points else 420)
    with menu:
        export_menu(spec, view.run.provenance, name=f"attention-{name}", key=name)
    shown = (view.where, spec.x.label, spec.y.label, spec.colour.label if spec.colour else "")
    key = f"{name}-{view.run.id}-{hash(shown)}"
    st.session_state[f"_{name}"] = (key, list(zip(spec.data["place"].tolist(), spec.data["head"].tolist(), strict=True)))
    config = dict(PLOTLY_CONFIG) | {"scrollZoom": False}
    st.plotly_chart(figure, config=config, alt=spec.sentence, key=key, on_select=partial(_choose, name), selection_mode="points")
    what = "cell" if with_points else "point"
    st.caption(" ".join(plain(one) for one in (spec.sentence, *spec.notes, f"Click a {what} to open its head.")))


def _choose(name: str) -> None:
    key, heads = st.session_state[f"_{name}"]
    chosen = st.session_state[key]["selection"]["points"]
    if chosen:
        row = chosen[0]["customdata"]
        st.session_state[OPEN] = heads[int(row[0] if isinstance(row, (list, tuple)) else row["0"] if isinstance(row, dict) else row)]


def opened(places: list[Place]) -> Head | None:
    """The head that was clicked, once."""
    found = st.session_state.pop(OPEN, None)
    return None if found is None else Head(places[found[0]], found[1])


def what_they_mean(known: Mapping[str, Measure]) -> None:
    """Every measure in one line: what it is, its unit, its range, and how sure its definition is."""
    with st.expander(f"What the {len(known)} measures mean", icon=":material/menu_book:"):
        st.markdown("\n".join(f"- **{plain(one.label)}** ({code(one.column)}): {plain(one.comment)}" for one in known.values()))
