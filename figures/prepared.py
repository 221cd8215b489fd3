"""A spec checked and turned into plain numbers, once for both renderers, so that both must show the same.

1. Check that the columns exist, hold numbers where numbers are drawn, and that something is left to draw.
2. Put categories at whole positions 0, 1, ... in the order they come; leave numbers as they are.
3. Leave out what cannot be drawn (missing values, values of 0 or below on a logarithmic axis) and say so in a note.
4. Split the rows into one group per series, in the declared order, each with its ink.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from figures.palettes import PALETTES, Ink, inks
from figures.spec import Axis, FigureError, FigureSpec
from figures.words import distinct, label, number

BAR_KINDS = ("stacked_bars", "bars")
KEEPS_GAPS = ("line", "heatmap")
"""Kinds in which a missing value is drawn as a gap; in the others its row is left out."""

_KINDS = (*BAR_KINDS, "histogram", "line", "scatter", "heatmap", "treemap")


@dataclass(frozen=True)
class Group:
    """One series: equally long columns x, y (and x_end, y_low, y_high, colour where used), and row, the place in the data."""

    name: str
    ink: Ink
    columns: Mapping[str, np.ndarray]

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __len__(self) -> int:
        return len(self.columns["row"])

    def take(self, which: np.ndarray) -> Group:
        """The rows that ``which``, a mask or positions, selects."""
        return Group(self.name, self.ink, {name: values[which] for name, values in self.columns.items()})

    def by_x(self) -> Group:
        """The rows from left to right."""
        return self.take(np.argsort(self["x"], kind="stable"))


@dataclass(frozen=True)
class Prepared:
    """What a renderer draws."""

    spec: FigureSpec
    groups: tuple[Group, ...]
    x_labels: tuple[str, ...] | None
    """Names of the categories at x = 0, 1, ...; None where x is a number."""
    y_labels: tuple[str, ...] | None
    notes: tuple[str, ...]
    """The spec's notes and those about what could not be drawn."""

    @property
    def named(self) -> bool:
        """Whether the series have names worth a legend."""
        return self.spec.series is not None and self.spec.kind not in ("heatmap", "treemap")


def prepare(spec: FigureSpec) -> Prepared:
    """The spec as groups of plain numbers. Raises `FigureError`, one sentence, for a spec that cannot be drawn."""
    _check_columns(spec)
    columns = {"row": np.arange(len(spec.data))}
    columns["x"], x_labels = _positions(spec, spec.x, may_be_category=spec.kind != "histogram")
    columns["y"], y_labels = _positions(spec, spec.y, may_be_category=spec.kind == "heatmap")
    columns |= {name: _floats(spec, column) for name, column in _further(spec)}
    keep, said = _drawable(spec, columns)
    groups = _split(spec, {name: values[keep] for name, values in columns.items()})
    _check_shape(spec, groups)
    return Prepared(spec, groups, x_labels, y_labels, (*spec.notes, *said))


def caption(spec: FigureSpec) -> tuple[str, ...]:
    """The sentence and all notes, among them those about what was left out."""
    return (spec.sentence, *prepare(spec).notes)


def _further(spec: FigureSpec) -> list[tuple[str, str]]:
    pairs = {"x_end": spec.x_end, "y_low": spec.y_low, "y_high": spec.y_high}
    used = [(name, column) for name, column in pairs.items() if column is not None]
    return used + ([("colour", spec.colour.column)] if spec.colour else [])


def _check_columns(spec: FigureSpec) -> None:
    if spec.kind not in _KINDS:
        raise FigureError(f"the kind of a figure must be one of {', '.join(_KINDS)}, got {spec.kind!r}; choose one of them.")
    if spec.series is not None and spec.series.palette not in PALETTES:
        inks(spec.series.palette, ())
    wanted = [spec.x.column, spec.y.column, *(column for _, column in _further(spec)), *spec.hover]
    wanted += [spec.series.column] if spec.series else []
    missing = [c for c in wanted if c not in spec.data.columns]
    if missing:
        have = ", ".join(map(str, spec.data.columns)) or "none"
        raise FigureError(f"the data of the figure {spec.title!r} must have the columns {missing}, got {have}; add them or name others.")
    if spec.kind == "histogram" and spec.x_end is None:
        raise FigureError(f"a histogram must name its right edges in x_end, got None in {spec.title!r}; name the column.")
    if spec.kind in ("heatmap", "treemap") and spec.colour is None:
        raise FigureError(f"a {spec.kind} must name its numbers in colour, got None in {spec.title!r}; name the axis.")
    if spec.kind == "treemap" and spec.series is None:
        raise FigureError(f"a treemap must name its frames in series, got None in {spec.title!r}; name the column.")
    if (spec.y_low is None) != (spec.y_high is None):
        raise FigureError(f"a band must have both y_low and y_high, got one of them in {spec.title!r}; name both or neither.")
    if not len(spec.data):
        raise FigureError(f"the figure {spec.title!r} must have at least one row to draw, got 0; widen the selection or run the analysis.")


def _positions(spec: FigureSpec, axis: Axis, *, may_be_category: bool) -> tuple[np.ndarray, tuple[str, ...] | None]:
    values = spec.data[axis.column]
    if may_be_category and (axis.scale == "category" or not pd.api.types.is_numeric_dtype(values)):
        codes, found = _categories(values)
        return codes.astype(float), distinct([label(v) for v in found])
    return _floats(spec, axis.column), None


def _categories(values: Any) -> tuple[np.ndarray, list[Any]]:
    codes, found = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=False)
    return codes, list(found)


def _floats(spec: FigureSpec, column: str) -> np.ndarray:
    try:
        values = np.array([math.nan if v is None or v is pd.NA else float(v) for v in spec.data[column]], dtype=float)
    except (TypeError, ValueError) as error:
        raise FigureError(f"column {column} of the figure {spec.title!r} must hold numbers, got {error}; name another column.") from error
    if np.isinf(values).any():
        raise FigureError(f"column {column} of the figure {spec.title!r} must be finite, got infinity; store NULL and the reason instead.")
    return values


def _shown(spec: FigureSpec) -> str:
    return "colour" if spec.kind == "heatmap" else "y"


def _drawable(spec: FigureSpec, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mask of the rows that can be drawn, and a note for each reason why others cannot; gaps are set to NaN in ``columns``."""
    notes: list[str] = []
    keep = np.ones(len(columns["row"]), dtype=bool)
    missing = np.zeros_like(keep)
    for name in ("x", "y", "x_end", "colour"):
        if name in columns:
            missing |= np.isnan(columns[name])
            if not (spec.kind in KEEPS_GAPS and name == _shown(spec)):
                keep &= ~np.isnan(columns[name])
    if missing.any():
        left = "left blank" if spec.kind in KEEPS_GAPS else "left out"
        notes.append(f"{missing.sum()} of {len(keep)} values were not available and are {left}.")
    for name, axis in (("x", spec.x), ("y", spec.y), ("colour", spec.colour)):
        if axis is None or axis.scale != "log":
            continue
        bad = columns[name] < 0 if spec.kind == "histogram" and name == "y" else columns[name] <= 0
        if not bad.any():
            continue
        if spec.kind == "histogram":  # a histogram that loses bins shows another distribution
            lowest = number(float(columns[name][bad].min()))
            raise FigureError(f"{axis.label} must be above 0 on a logarithmic axis, got {lowest}; use positive edges or a linear axis.")
        notes.append(f"{bad.sum()} of {len(keep)} values of {axis.label} are 0 or below and cannot be shown on a logarithmic scale.")
        if spec.kind in KEEPS_GAPS and name == _shown(spec):
            # Left out, its neighbours would be joined as if nothing were between them.
            columns[name] = np.where(bad, math.nan, columns[name])
        else:
            keep &= ~bad
    if not keep.any() or np.isnan(columns[_shown(spec)][keep]).all():
        because = " ".join(notes)
        raise FigureError(f"the figure {spec.title!r} must have at least one value to draw, got none ({because}); widen the selection.")
    return keep, tuple(notes)


def _split(spec: FigureSpec, columns: Mapping[str, np.ndarray]) -> tuple[Group, ...]:
    if spec.series is None or spec.kind == "heatmap":
        return (Group("", inks("qualitative", ("",))[0], columns),)
    codes, found = _categories(np.asarray(spec.data[spec.series.column], dtype=object)[columns["row"]])
    texts = [label(v) for v in found]
    rank = {name: i for i, name in enumerate(spec.series.order)}
    order = sorted(range(len(found)), key=lambda i: (rank.get(texts[i], len(rank)), i))
    names = distinct([texts[i] for i in order])
    chosen = inks(spec.series.palette, names)
    whole = [Group(name, ink, columns) for name, ink in zip(names, chosen, strict=True)]
    return tuple(group.take(codes == i) for group, i in zip(whole, order, strict=True))


def _check_shape(spec: FigureSpec, groups: Sequence[Group]) -> None:
    """Raise where rows overlap, so that one would hide the other, or where a stack would mislead."""
    if spec.kind == "stacked_bars" and spec.y.scale == "log":
        raise FigureError(f"stacked bars must have a linear axis, got a logarithmic one in {spec.title!r}; use the kind 'bars'.")
    keys = ("x", "y") if spec.kind == "heatmap" else ("x",)
    for group in groups:
        places = set(zip(*(group[key].tolist() for key in keys), strict=True))
        if spec.kind not in ("scatter", "line") and len(places) < len(group):
            raise FigureError(
                f"the figure {spec.title!r} must have one row per {' and '.join(keys)} and series, got several; aggregate the rows first."
            )
        if spec.kind == "stacked_bars" and (group["y"] < 0).any():
            raise FigureError(f"the pieces of stacked bars must be 0 or more, got {group['y'].min():g} in {spec.title!r}; use 'bars'.")
        if spec.kind == "treemap" and (group["y"] <= 0).any():
            raise FigureError(f"a rectangle of a treemap must be larger than 0, got {group['y'].min():g} in {spec.title!r}; drop the row.")
        if spec.kind == "histogram" and (group["x_end"] <= group["x"]).any():
            raise FigureError(f"the right edge of a bin must lie above its left edge, got otherwise in {spec.title!r}; check x_end.")


# ---------------------------------------------------------------------------------------------------------------------
# What both renderers reckon from prepared numbers


def together(prepared: Prepared, *columns: str) -> np.ndarray:
    """All values of these columns, of all series, without the missing ones."""
    values = np.concatenate([group[column] for group in prepared.groups for column in columns if column in group])
    return values[~np.isnan(values)]


def value_limits(prepared: Prepared) -> tuple[float, float]:
    """Range of the value axis of bars and histograms: from 0 on a linear axis, from below the smallest value on a logarithmic one."""
    spec = prepared.spec
    if spec.y.bounds is not None:
        return spec.y.bounds
    heights = together(prepared, "y")
    if spec.kind == "stacked_bars":
        _, place = np.unique(together(prepared, "x"), return_inverse=True)
        heights = np.bincount(place, weights=heights)
    if spec.y.scale == "log":
        positive = heights[heights > 0]
        if not len(positive):
            raise FigureError(f"{spec.y.label} must have a value above 0 for a logarithmic axis, got none; use a linear axis.")
        # A bar of the smallest value (often a count of 1) must still have a height.
        return float(positive.min()) / 2, float(positive.max()) * 1.5
    low, high = min(0.0, float(heights.min())), max(0.0, float(heights.max()))
    if low == high:
        return 0.0, 1.0
    room = 0.0 if math.isclose(high, 1.0, abs_tol=1e-9) and spec.kind == "stacked_bars" else 0.04 * (high - low)
    return low - (room if low < 0 else 0.0), high + room


def outline(group: Group, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The upper contour of a histogram as a polyline; bins that are missing between others are at ``floor``."""
    rows = group.by_x()
    left, right, top = rows["x"], rows["x_end"], np.maximum(rows["y"], floor)
    xs: list[float] = []
    ys: list[float] = []
    for i in range(len(rows)):
        if i == 0 or not math.isclose(left[i], right[i - 1], rel_tol=1e-9):
            xs += [right[i - 1], left[i]] if i else [left[i]]
            ys += [floor, floor] if i else [floor]
        xs += [left[i], right[i]]
        ys += [top[i], top[i]]
    return np.array([*xs, right[-1]]), np.array([*ys, floor])


def grid(prepared: Prepared) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A heatmap's positions along x and y, ascending, and its numbers of shape (n_y, n_x); NaN where there is no row."""
    rows = prepared.groups[0]
    xs, ys = np.unique(rows["x"]), np.unique(rows["y"])
    cells = np.full((len(ys), len(xs)), np.nan)
    cells[np.searchsorted(ys, rows["y"]), np.searchsorted(xs, rows["x"])] = rows["colour"]
    return xs, ys, cells


def bar_width(prepared: Prepared) -> float:
    """Width of a bar: 0.8 of the smallest distance of two positions."""
    xs = np.unique(together(prepared, "x"))
    return 0.8 * float(np.diff(xs).min()) if len(xs) > 1 else 0.8


def are_whole(prepared: Prepared, axis: str) -> bool:
    """Whether every value along ``axis`` (x or y) is a whole number, so that ticks between them would mean nothing."""
    values = together(prepared, axis)
    return bool((values == np.round(values)).all())
