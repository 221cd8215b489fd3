"""The two pictures of all heads: layer by head, and the scatter of two measures. Both hold the heads that meet the filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from figures.screen import GAPS_UP_TO, PLOTLY_CONFIG, to_plotly
from figures.screen_layout import plain as on_chart
from figures.spec import Axis, FigureError, FigureSpec, Series
from store import RunInfo
from ui.attention.heads import Head, Place
from ui.attention.measures import Measure
from ui.attention.patterns import ABOUT, NO_WORD, PATTERNS, WORDS, words_of
from ui.attention.view import KEY, View, axes, colour
from ui.charts import clickable, export_menu, row_clicked
from ui.data import ask
from ui.runs import HEADS
from ui.words import code, count, plain

Frame = Any
"""A data frame: the stubs of pandas call a column and a selection both."""
OPEN = "head_to_open"
"""Where a click leaves a head, as the place's number and its own, for the page to open."""
TALL = 1_000
"""Pixels of the grid at most, however many layers there are."""
WIDE = 30
"""Largest over smallest value above which an axis of numbers above 0 is logarithmic."""


def heads_of(view: View, places: list[Place], measures: Sequence[Measure], *, filtered: bool = True) -> Frame:
    """Heads with ``place`` (its number) and ``name``, and each measure under its own name."""
    own = tuple(dict.fromkeys(one.column for one in measures if one.slug == HEADS))
    which: dict[str, Any] = {"where": view.where, "derive": view.derive} if filtered else {}
    frame = ask(view.run, "read", "heads", columns=(*KEY, *own), order_by=KEY, **which)
    found = {one.name: frame[one.column].to_numpy() for one in measures if one.slug == HEADS}
    foreign = [one for one in measures if one.slug == PATTERNS]
    if foreign and view.patterns is not None:
        other = ask(view.patterns, "read", "head_patterns", columns=(*KEY, *dict.fromkeys(one.column for one in foreign)))
        beside = frame[list(KEY)].merge(other, on=list(KEY), how="left")
        found |= {one.name: beside[one.column].to_numpy() for one in foreign}
    numbers = {place.key: i for i, place in enumerate(places)}
    at = [numbers[key] for key in zip(frame["layer"], frame["hook_name"], frame["turn"], strict=True)]
    names = [Head(places[i], int(n)).name for i, n in zip(at, frame["head"], strict=True)]
    return frame[list(KEY)].assign(place=at, name=names, **found)


def read_on(run: RunInfo) -> str:
    """How much a run has read, for the sentence below a figure (foreign text)."""
    facts = run.provenance.get("facts") or {}
    parts = [count(facts["n_tokens"], "query", "queries")] if facts.get("n_tokens") else []
    if run.slug == PATTERNS:
        parts = [f"{count(facts['n_windows'], 'window')} of up to {count(facts['tokens'], 'token')}"]
    parts += [count(facts["n_documents"], "document")] if facts.get("n_documents") else []
    return " of ".join([*parts, *([run.data] if run.data else [])])


def of_model(run: RunInfo) -> str:
    """The model's name for sentences (foreign text)."""
    return str(run.provenance.get("model_label") or run.model)


# ---------------------------------------------------------------------------------------------------------------------


def grid_spec(view: View, places: list[Place], measure: Measure) -> FigureSpec:
    """Layer by head in the colour of a measure; heads that the filters leave out are blank."""
    frame = heads_of(view, places, (measure,), filtered=False)
    bounds = _bounds(measure, frame[measure.name])  # of all heads, so that a filter changes no colour
    shown = frame.assign(layer=[places[i].label for i in frame["place"]], value=frame[measure.name].where(_inside(view, frame)))
    n = int(shown["value"].notna().sum())
    return FigureSpec(
        kind="heatmap",
        data=shown[["layer", "head", "value", "name", "place"]],
        x=Axis("head", "Head", scale="category"),
        y=Axis("layer", "Layer", scale="category"),
        colour=Axis("value", measure.label, unit=measure.unit, bounds=bounds),
        title="Layer by head",
        sentence=f"{measure.meaning}; n = {count(n, 'head')} of {of_model(view.run)}{_left_out(view, len(frame))}. "
        f"Measured on {read_on(_source(view, measure))}.",
        hover=("name",),
        notes=() if n == len(frame) else ("A blank place is a head that the filters leave out, or that has no such number.",),
    )


def _inside(view: View, frame: Frame) -> Any:
    """Which of all heads meet the filters."""
    if not view.where:
        return [True] * len(frame)
    kept = ask(view.run, "read", "heads", columns=KEY, where=view.where, derive=view.derive)
    return frame[list(KEY)].merge(kept, on=list(KEY), how="left", indicator=True)["_merge"].eq("both").to_numpy()


def _left_out(view: View, n: int) -> str:
    return f", of {n:,}: {view.words.replace('`', '')}" if view.where else ""


def _source(view: View, measure: Measure) -> RunInfo:
    return view.patterns if measure.slug == PATTERNS and view.patterns is not None else view.run


def words_spec(view: View, places: list[Place], column: str) -> FigureSpec:
    """Layer by head, a mark in the colour of each head's word."""
    assert view.patterns is not None  # words are offered only with it
    known = words_of(view.patterns, column)
    frame = heads_of(view, places, ())
    every = ask(view.run, "count", "heads")
    words = [known.get(key, NO_WORD) for key in zip(*(frame[name].tolist() for name in KEY), strict=True)]
    shown = frame.assign(word=words, at=frame["place"])
    order = tuple(one for one in (*WORDS[column], NO_WORD) if one in words)
    counted = ", ".join(f"{words.count(one):,} {one}" for one in order)
    return FigureSpec(
        kind="scatter",
        data=shown[["at", "head", "word", "name", "place"]],
        x=Axis("head", "Head"),
        y=Axis("at", "Layer"),
        series=Series("word", column.capitalize(), order=order),
        title="Layer by head",
        sentence=f"{ABOUT[column]} n = {count(len(shown), 'head')} of {of_model(view.run)}{_left_out(view, every)}: {counted}. "
        f"Looked at on {read_on(view.patterns)}.",
        hover=("name",),
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


def show_grid(view: View, places: list[Place], known: Mapping[str, Measure]) -> Measure | None:
    """The grid in the colour that is chosen above it; clicking a cell opens its head. Returns the measure, of words none."""
    menu = _heading("Layer by head")
    chosen = colour(known, tuple(WORDS) if view.patterns is not None else ())
    if isinstance(chosen, str):
        _show(view, words_spec(view, places, chosen), "grid", menu, places)
        return None
    _show(view, grid_spec(view, places, chosen), "grid", menu, places)
    st.caption(f"**{plain(chosen.label)}** ({code(chosen.column)}): {plain(chosen.comment)}.")
    return chosen


def _heading(title: str) -> Any:
    """A heading, and the place for its menu of exports, which is known only below what is chosen."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {title}")
        return st.container(width="content")


def scatter_spec(view: View, places: list[Place], x: Measure, y: Measure) -> FigureSpec:
    """One measure against another, coloured by depth."""
    frame = heads_of(view, places, (x, y))
    shown = frame.assign(x=frame[x.name], y=frame[y.name])[["name", "layer", "head", "x", "y", "place"]]
    known = shown.dropna(subset=["x", "y"]).reset_index(drop=True)
    missing = len(shown) - len(known)
    other = f" and on {read_on(_source(view, y))}" if x.slug != y.slug else ""
    said = f" Filtered: {view.words.replace('`', '')}." if view.where else ""
    return FigureSpec(
        kind="scatter",
        data=known,
        x=_axis("x", x, known["x"]),
        y=_axis("y", y, known["y"]),
        colour=Axis("layer", "Layer"),
        title="One measure against another",
        sentence=f"Each point is a head, n = {len(known):,} of {of_model(view.run)}: {x.name} across, {y.name} up, its layer as colour. "
        f"Measured on {read_on(_source(view, x))}{other}.{said}",
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
    _show(view, scatter_spec(view, places, x, y), "scatter", menu, places)
    return x, y


def _show(view: View, spec: FigureSpec, name: str, menu: Any, places: list[Place]) -> None:
    try:
        figure: Any = clickable(spec) if spec.kind == "heatmap" else to_plotly(spec)
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")
        return
    if spec.kind == "heatmap":
        figure.update_layout(height=min(figure.layout.height, TALL))
    elif name == "grid":
        _as_grid(figure, places)
    else:
        figure.update_layout(height=420)
    with menu:
        export_menu(spec, view.run.provenance, name=f"attention-{name}", key=name)
    shown = (view.where, spec.x.label, spec.y.label, spec.colour.label if spec.colour else spec.series)
    key = f"{name}-{view.run.id}-{hash(shown)}"
    st.session_state[f"_{name}"] = (key, list(zip(spec.data["place"].tolist(), spec.data["head"].tolist(), strict=True)))
    config = dict(PLOTLY_CONFIG) | {"scrollZoom": False}
    st.plotly_chart(figure, config=config, alt=spec.sentence, key=key, on_select=partial(_choose, name), selection_mode="points")
    what = "point" if name == "scatter" else "cell"
    st.caption(" ".join(plain(one) for one in (spec.sentence, *spec.notes, f"Click a {what} to open its head.")))


def _as_grid(figure: Any, places: list[Place]) -> None:
    """Marks of words as a grid: behind each a cell in its colour, layers from the top down by their names."""
    import numpy as np
    import plotly.graph_objects as go

    n, width = len(places), max(place.n_heads for place in places)
    height = min(TALL, max(360, 150 + 26 * n))
    cells = np.full((n, width), np.nan)
    for i, trace in enumerate(figure.data):
        cells[[int(y) for y in trace.y], [int(x) for x in trace.x]] = i
    colours, k = [trace.marker.color for trace in figure.data], len(figure.data)
    scale = [[(i + end) / k, one] for i, one in enumerate(colours) for end in (0, 1)]
    gap = 1 if cells.size <= GAPS_UP_TO else 0
    common = {"colorscale": scale, "zmin": -0.5, "zmax": k - 0.5, "showscale": False, "hoverinfo": "skip", "xgap": gap, "ygap": gap}
    figure.update_traces(marker={"symbol": "square", "size": max(4, min(14, int(0.5 * (height - 150) / n))), "opacity": 1})
    figure.add_trace(go.Heatmap(z=cells, **common))
    figure.data = (figure.data[-1], *figure.data[:-1])
    step, texts = -(-n // 40), [on_chart(place.label) for place in places]
    figure.update_yaxes(range=[n - 0.5, -0.5], tickvals=list(range(0, n, step)), ticktext=texts[::step], showgrid=False)
    figure.update_xaxes(range=[-0.5, width - 0.5], showgrid=False)
    figure.update_layout(height=height, hoverdistance=-1)


def _choose(name: str) -> None:
    key, heads = st.session_state[f"_{name}"]
    row = row_clicked(st.session_state[key]["selection"]["points"])
    if row is not None:
        st.session_state[OPEN] = heads[row]


def opened(places: list[Place]) -> Head | None:
    """The head that was clicked, once."""
    found = st.session_state.pop(OPEN, None)
    return None if found is None else Head(places[found[0]], found[1])


def what_they_mean(known: Mapping[str, Measure]) -> None:
    """Every measure in one line: what it is, its unit, its range, and how sure its definition is."""
    with st.expander(f"What the {len(known)} measures mean", icon=":material/menu_book:"):
        st.markdown("\n".join(f"- **{plain(one.label)}** ({code(one.column)}): {plain(one.comment)}" for one in known.values()))
