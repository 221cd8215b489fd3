"""What surrounds the marks of a Plotly figure: axes with units, legend, colour bar, and the texts shown on hovering."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np

from figures.palettes import SEQUENTIAL
from figures.prepared import BAR_KINDS, Group, Prepared, are_whole, together, value_limits
from figures.spec import Axis
from figures.words import label, number, tick_labels, visible

GRID = "rgba(128,128,128,0.22)"
"""Shows on white and on black."""

LINE = "rgba(128,128,128,0.6)"
MAX_TICKS = 30
"""Named ticks on one axis: that many stand side by side on half a page; hovering names every bar."""

TEXT_LIGHT, TEXT_DARK = "#222222", "#e6e6e6"


def plain(text: str) -> str:
    """``text`` as Plotly must be given it to show it as it is."""
    return html.escape(visible(text), quote=False)


# ---------------------------------------------------------------------------------------------------------------------
# Hover texts


def hover(prepared: Prepared, group: Group) -> list[str]:
    """One text per row of the group: its series, every value drawn with its unit, and the further columns of the spec."""
    spec = prepared.spec
    columns: list[tuple[str, list[str]]] = []
    if prepared.named and spec.series is not None:
        columns.append((spec.series.label, [group.name] * len(group)))
    if spec.x_end is not None:
        low, high = (_with_unit(group[name], None, "") for name in ("x", "x_end"))
        unit = f" {spec.x.unit}" if spec.x.unit else ""
        columns.append((spec.x.label, [f"{a} to {b}{unit}" for a, b in zip(low, high, strict=True)]))
    else:
        columns.append((spec.x.label, _with_unit(group["x"], prepared.x_labels, spec.x.unit)))
    columns.append((spec.y.label, _with_unit(group["y"], prepared.y_labels, spec.y.unit)))
    if spec.y_low is not None:
        low, high = (_with_unit(group[name], None, "") for name in ("y_low", "y_high"))
        columns.append((f"{spec.y.label}, band", [f"{a} to {b}" for a, b in zip(low, high, strict=True)]))
    if spec.colour is not None:
        columns.append((spec.colour.label, _with_unit(group["colour"], None, spec.colour.unit)))
    shown = spec.data.iloc[group["row"]]
    columns += [(name, [label(v) for v in shown[name]]) for name in spec.hover]
    lines = [[f"{plain(name)}: {plain(value)}" for value in values] for name, values in columns]
    return ["<br>".join(parts) for parts in zip(*lines, strict=True)]


def _with_unit(values: np.ndarray, labels: tuple[str, ...] | None, unit: str) -> list[str]:
    after = f" {unit}" if unit else ""
    if labels is not None:
        return [labels[int(v)] + after for v in values]
    return [number(v) + after if not math.isnan(v) else number(v) for v in values]


# ---------------------------------------------------------------------------------------------------------------------
# Axes, legend, colours


def layout(prepared: Prepared, dark: bool | None) -> dict[str, Any]:
    """Keyword arguments of ``update_layout``. Backgrounds are transparent, so that the page decides them."""
    spec = prepared.spec
    made: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 13} if dark is None else {"size": 13, "color": TEXT_DARK if dark else TEXT_LIGHT},
        # One dark box for all series: in a series' own colour the text is hard to read on yellow and grey.
        "hoverlabel": {"align": "left", "bgcolor": "#2b2b2b", "bordercolor": LINE, "font": {"size": 13, "color": "#ffffff"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": LINE, "activecolor": "rgba(128,128,128,1)"},
        "hovermode": "closest",
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        "xaxis": _axis(prepared, "x"),
        "yaxis": _axis(prepared, "y"),
        "barmode": {"stacked_bars": "stack", "bars": "group"}.get(spec.kind, "overlay"),
        "bargap": 0.2,
        "showlegend": prepared.named,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    }
    if prepared.named and spec.series is not None:
        made["legend"]["title"] = {"text": plain(spec.series.label), "side": "left", "font": {"size": 13}}
    if spec.colour is not None:
        made |= _colours(prepared, spec.colour)
    return made | _marks(prepared)


def _marks(prepared: Prepared) -> dict[str, Any]:
    """Lines across the figure, each with its words beside its top."""
    spec = prepared.spec
    if not spec.marks or spec.kind not in ("line", "histogram", "scatter") or prepared.x_labels is not None:
        return {}
    line = {"color": "rgba(128,128,128,0.9)", "width": 1.5, "dash": "dot"}
    shapes = [{"type": "line", "xref": "x", "yref": "paper", "x0": m.x, "x1": m.x, "y0": 0, "y1": 1, "line": line} for m in spec.marks]
    # On a logarithmic axis Plotly places shapes by the value, but words by its logarithm.
    at = [math.log10(mark.x) if spec.x.scale == "log" else mark.x for mark in spec.marks]
    side = {"yref": "paper", "xanchor": "left", "showarrow": False, "font": {"size": 12}}
    words = [
        {"x": x, "xref": "x", "y": 1 - 0.09 * (i % 4), "yanchor": "top", "text": plain(mark.label), **side}
        for i, (x, mark) in enumerate(zip(at, spec.marks, strict=True))
    ]
    return {"shapes": shapes, "annotations": words}


def _axis(prepared: Prepared, which: str) -> dict[str, Any]:
    spec = prepared.spec
    axis: Axis = spec.x if which == "x" else spec.y
    labels = prepared.x_labels if which == "x" else prepared.y_labels
    common = "" if labels is None else tick_labels(labels)[1]
    made: dict[str, Any] = {
        "title": {"text": plain(f"{axis.title}: {common}" if common else axis.title), "standoff": 10},
        "automargin": True,
        "zeroline": False,
        "showgrid": which == "y" and spec.kind != "heatmap" or spec.kind in ("line", "scatter"),
        "gridcolor": GRID,
        "linecolor": LINE,
        "showline": which == "x" or spec.kind in ("line", "scatter"),
        "ticks": "outside",
        "tickcolor": LINE,
        "ticklen": 4,
        "visible": spec.kind != "treemap",
    }
    if labels is not None:
        return made | _category(labels, from_top=which == "y")
    if axis.scale == "log":
        made |= {"type": "log", "exponentformat": "power", "minor": {"ticks": "outside", "ticklen": 2, "tickcolor": LINE}}
        decades = _decades(prepared, which, axis)
        made |= {"dtick": math.ceil(decades / 10)} if decades > 1.5 else {}
    else:
        made |= {"type": "linear", "separatethousands": True}
        if are_whole(prepared, which) and which == "x":
            made |= {"tickformat": ",d"} | ({"dtick": 1} if _span(prepared, which) < 12 else {})
    limits = value_limits(prepared) if which == "y" and spec.kind in (*BAR_KINDS, "histogram") else axis.bounds
    if limits is not None:
        made["range"] = [math.log10(v) for v in limits] if axis.scale == "log" else list(limits)
    return made


def _category(labels: tuple[str, ...], *, from_top: bool) -> dict[str, Any]:
    """A category axis in the order of the rows. Long names are shortened on the axis; hovering shows them whole."""
    whole = [plain(text) for text in labels]
    made: dict[str, Any] = {"type": "category", "categoryorder": "array", "categoryarray": whole}
    made["range"] = [len(labels) - 0.5, -0.5] if from_top else [-0.5, len(labels) - 0.5]
    texts, common = tick_labels(labels)
    if common or tuple(texts) != labels:
        step = max(1, math.ceil(len(labels) / MAX_TICKS))
        at = range(0, len(labels), step)
        made |= {"tickmode": "array", "tickvals": [whole[i] for i in at], "ticktext": [plain(texts[i]) for i in at]}
    return made


def _span(prepared: Prepared, which: str) -> float:
    values = together(prepared, which)
    return float(values.max() - values.min())


def _decades(prepared: Prepared, which: str, axis: Axis) -> float:
    values = together(prepared, which, f"{which}_end")
    positive = values[values > 0]
    low, high = axis.bounds if axis.bounds is not None else (positive.min(), positive.max())
    return math.log10(high / low)


def _colours(prepared: Prepared, axis: Axis) -> dict[str, Any]:
    stops = [[i / (len(SEQUENTIAL) - 1), colour] for i, colour in enumerate(SEQUENTIAL)]
    bar: dict[str, Any] = {"title": {"text": plain(axis.title), "side": "right"}, "thickness": 14, "outlinewidth": 0}
    made: dict[str, Any] = {"colorscale": stops, "colorbar": bar}
    bounds = axis.bounds
    if axis.scale == "log":
        values = together(prepared, "colour")
        low, high = np.log10(values.min()), np.log10(values.max())
        decades = list(range(math.ceil(low), math.floor(high) + 1))
        if len(decades) >= 2:
            bar |= {"tickvals": decades, "ticktext": [f"10<sup>{d}</sup>" for d in decades]}
        else:
            bar |= {"tickvals": [low, high], "ticktext": [number(float(10**low)), number(float(10**high))]}
        bounds = None if bounds is None else (math.log10(bounds[0]), math.log10(bounds[1]))
    if bounds is not None:
        made |= {"cmin": bounds[0], "cmax": bounds[1]}
    return {"coloraxis": made, "meta": "logarithmic colours" if axis.scale == "log" else None}
