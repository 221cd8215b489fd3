"""The two pictures of a checkpoint: rectangles as large as its tensors, and the map of layers by matrices. Both of one measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from figures.prepared import prepare
from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.spec import Axis, FigureError, FigureSpec, Series
from store import Filter, Order, RunInfo
from ui.charts import clickable, export_menu
from ui.data import ask
from ui.weights.measures import OF_TENSORS, Measure
from ui.weights.rows import OPEN, size_text
from ui.weights.view import DERIVE
from ui.words import count, plain

Frame = Any
"""A data frame: the stubs of pandas call a column and a selection both."""
DRAWN = 1_500
"""Tensors a picture holds at most: the largest."""
ROLES = 40
"""Rows of the map at most."""
CELLS = 12_000
"""Cells of the map at most."""
_INSIDE = (Filter("layer", "!=", None), Filter("n_rows", ">", 0))
OUTSIDE = "outside of blocks"
SPAN = "Colours span the values of the matrices; a vector beyond them has the colour of the nearer end."
_COLUMNS = ("tensor", "layer", "kind", "role", "shape", "n_weights", "n_rows", "structure")


@dataclass(frozen=True)
class Shown:
    """The tensors of a checkpoint that its pictures hold, each with the measure as ``value``."""

    tree: Frame
    """The largest `DRAWN` of all, by layer."""
    map: Frame
    """Matrices in blocks: those of the `ROLES` roles with most weights, in all layers."""
    n_tensors: int
    n_matrices: int
    """In blocks, drawn or not."""
    measure: Measure
    """The variant shown."""


def shown_of(run: RunInfo, measure: Measure, source: RunInfo | None) -> Shown:
    """Where there are few tensors, one answer of the database serves both pictures. ``source``: the run the measure is of."""
    n = ask(run, "count", "tensors")
    if n <= DRAWN:
        frame = _measured(run, measure, source)
        inside = frame[frame["layer"].notna() & (frame["n_rows"] > 0)]
        return Shown(frame, largest_roles(inside), n, len(inside), measure)
    roles = ask(run, "read", "tensors", columns=("role", "n_weights"), where=_INSIDE)
    wanted = roles.groupby("role", sort=False)["n_weights"].sum().nlargest(ROLES).index
    tree = _measured(run, measure, source, order_by=(Order("n_weights", descending=True),), limit=DRAWN)
    rows = _measured(run, measure, source, where=(*_INSIDE, Filter("role", "in", tuple(wanted))), limit=CELLS)
    return Shown(tree, largest_roles(rows), n, len(roles), measure)


def largest_roles(inside: Frame) -> Frame:
    """Of matrices in blocks those of the `ROLES` roles with most weights, one per layer and ``place``, the row of the map it stands in."""
    place = inside["role"]
    if inside.duplicated(["layer", "role"]).any():  # two towers count their blocks each for itself
        numbered = zip(inside["tensor"], inside["layer"], strict=True)
        place = [tensor.replace(f".{int(layer)}.", ".*.", 1) for tensor, layer in numbered]
    placed = inside.assign(place=place)
    largest = placed.groupby("place", sort=False)["n_weights"].sum().nlargest(ROLES).index
    return placed[placed["place"].isin(largest)].drop_duplicates(["layer", "place"]).reset_index(drop=True)


def _measured(run: RunInfo, measure: Measure, source: RunInfo | None, **which: Any) -> Frame:
    own = measure in OF_TENSORS.values()
    columns = (*_COLUMNS, measure.column) if own else _COLUMNS
    frame = ask(run, "read", "tensors", columns=columns, derive=DERIVE if own else (), **which)
    frame = frame.sort_values("layer", kind="stable", na_position="last").reset_index(drop=True)
    if own:
        return frame.assign(value=frame[measure.column])
    if source is None:
        return frame.assign(value=None)
    where = (*measure.where, Filter("tensor", "in", tuple(frame["tensor"])))
    known = ask(source, "read", measure.table, columns=("tensor", measure.column), where=where)
    return frame.assign(value=frame["tensor"].map(known.groupby("tensor")[measure.column].mean()))


def block_names(layers: Frame) -> list[str]:
    """The frames that tensors lie in."""
    return [f"layer {int(layer)}" if known else OUTSIDE for layer, known in zip(layers, layers.notna(), strict=True)]


def treemap_spec(run: RunInfo, found: Shown) -> FigureSpec:
    """Every tensor as large as its weights, block by block."""
    measure, frame, n = found.measure, found.tree, found.n_tensors
    shown = frame.assign(block=block_names(frame["layer"]), size=frame["shape"].map(size_text))
    twice = shown.duplicated(["block", "role"], keep=False)
    shown["name"] = [name.removesuffix(".weight") for name in shown["role"].where(~twice, shown["tensor"])]
    known = shown[shown["value"].notna()]
    weights = int(known["n_weights"].sum())
    of = f"{len(known):,} of {count(n, 'tensor')}" if len(known) < n else count(n, "tensor")
    return FigureSpec(
        kind="treemap",
        data=shown[["block", "name", "tensor", "size", "n_weights", "value", "structure"]],
        x=Axis("name", "Tensor", scale="category"),
        y=Axis("n_weights", "Weights"),
        series=Series("block", "Block"),
        colour=_colour(measure, frame),
        title="Where the weights are",
        sentence=f"Each rectangle is a tensor of {run.model}, its area the number of its weights, its colour: {_words(measure)}; "
        f"n = {of} with {weights:,} weights.",
        hover=("tensor", "size", "structure"),
        notes=(SPAN,),
    )


def map_spec(run: RunInfo, found: Shown) -> FigureSpec | None:
    """Layer by matrix; None where no matrix lies in a block."""
    if found.map.empty:
        return None
    measure = found.measure
    shown = found.map.assign(layer=found.map["layer"].astype(int), size=found.map["shape"].map(size_text))
    left_out = found.n_matrices - len(shown)
    notes = (f"{count(left_out, 'smaller matrix', 'smaller matrices')} left out: the map holds {ROLES} rows.",) if left_out else ()
    return FigureSpec(
        kind="heatmap",
        data=shown[["layer", "place", "value", "tensor", "size", "n_weights", "structure"]],
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("place", "Matrix", scale="category"),
        colour=_colour(measure, shown),
        title="Layer by matrix",
        sentence=f"{_words(measure)[:1].upper()}{_words(measure)[1:]} of each matrix in the blocks of {run.model}; "
        f"n = {count(len(shown), 'matrix', 'matrices')} with {int(shown['n_weights'].sum()):,} weights.",
        hover=("size", "structure", "n_weights"),
        notes=notes,
    )


def _words(measure: Measure) -> str:
    return measure.label + (f" ({measure.unit})" if measure.unit else "")


def _colour(measure: Measure, rows: Any) -> Axis:
    """The scale spans the matrices; where they are all alike, from 0 to 1 or to twice their number."""
    values = rows["value"][rows["n_rows"] > 0].dropna().astype(float)
    if values.empty:
        return Axis("value", measure.label, measure.unit)
    low, high = float(values.min()), float(values.max())
    bounds = (low, high) if low < high else (min(0.0, low), max(1.0, 2 * high))
    return Axis("value", measure.label, measure.unit, bounds=bounds)


# -- on the page ------------------------------------------------------------------------------------------------------


def show_treemap(run: RunInfo, spec: FigureSpec) -> None:
    """Clicking a frame looks into it."""
    try:
        figure: Any = to_plotly(spec)
    except FigureError as error:
        _cannot(spec, error)
        return
    _heading(run, spec, "treemap")
    figure.update_layout(height=460, margin={"l": 4, "r": 4, "t": 24, "b": 4})
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key="treemap")
    _below(spec, " Click a layer to look into it.")


def show_map(run: RunInfo, spec: FigureSpec) -> None:
    """Clicking a cell opens its tensor."""
    try:
        figure = clickable(spec)
    except FigureError as error:
        _cannot(spec, error)
        return
    _heading(run, spec, "map")
    key = f"map-{run.id}-{spec.colour.label if spec.colour else ''}"
    st.session_state["_map"] = (key, spec.data["tensor"].tolist())
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key, on_select=_choose, selection_mode="points")
    _below(spec, " Click a cell to open its tensor.")


def _choose() -> None:
    key, tensors = st.session_state["_map"]
    chosen = st.session_state[key]["selection"]["points"]
    if chosen:
        row = chosen[0]["customdata"]
        st.session_state[OPEN] = tensors[int(row[0] if isinstance(row, (list, tuple)) else row["0"] if isinstance(row, dict) else row)]


def _heading(run: RunInfo, spec: FigureSpec, name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {plain(spec.title)}")
        export_menu(spec, run.provenance, name=f"weights-{name}", key=name)


def _cannot(spec: FigureSpec, error: FigureError) -> None:
    st.markdown(f"## {plain(spec.title)}")
    st.caption(f"Nothing to draw: {plain(error)}")


def _below(spec: FigureSpec, more: str) -> None:
    st.caption(" ".join([plain(spec.sentence) + more, *(plain(note) for note in prepare(spec).notes)]))
