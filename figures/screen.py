"""Figures on screen: a spec drawn with Plotly, and as a page of HTML that needs no network.

Plotly reads ``<b>``, ``<a href>`` and the like in every text it is given, also in names that come from a model or a file.
So every text is escaped here, hover texts are made whole in Python (a ``%{...}`` in a name would be read as a field),
and whoever shows a figure passes `PLOTLY_CONFIG`, which switches formulas and the button to Plotly's cloud off.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from figures.palettes import rgb
from figures.prepared import Group, Prepared, bar_width, caption, grid, outline, prepare, value_limits
from figures.screen_layout import hover, layout, plain
from figures.spec import Axis, FigureSpec
from figures.words import label, shorten, visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY_CONFIG: Mapping[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "lasso2d", "select2d", "autoScale2d"],
    "typesetMath": False,
    "responsive": True,
    "toImageButtonOptions": {"format": "svg"},
}

WEBGL_ABOVE = 5_000
"""Points above which a scatter is drawn with WebGL: SVG takes 20 s for 50,000 (PLATFORM section 4)."""

GAPS_UP_TO = 1_500
"""Cells of a heatmap up to which they stand apart."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_EDGE = "rgba(128,128,128,0.7)"


def to_plotly(spec: FigureSpec, *, dark: bool | None = None) -> go.Figure:
    """The figure for Plotly. ``dark`` fixes the colour of text; None leaves it to the page's theme.
    The title is the page's to show.

    Every trace that carries data has ``meta = index of its series`` and, as ``customdata``, the position of each row in
    ``spec.data``, which is what a click returns. Raises `FigureError` for a spec that cannot be drawn.
    """
    import plotly.graph_objects as go

    prepared = prepare(spec)
    figure = go.Figure(_TRACES[spec.kind](prepared))
    figure.update_layout(**layout(prepared, dark))
    return figure


def shown_numbers(figure: go.Figure) -> list[list[float]]:
    """The numbers a figure shows, one list per series, read back from its traces; for tests against `figures.paper`."""
    series: dict[int, list[float]] = {}
    for trace in cast("Any", figure).data:
        if trace.meta is not None:
            if trace.type == "treemap":  # the whole and the frames come first and have no size of their own
                series[trace.meta] = [float(v) for v, one in zip(trace.values, trace.ids, strict=True) if one.startswith("row ")]
                continue
            values = np.asarray(trace.z if trace.type == "heatmap" else trace.y, dtype=float).ravel()
            if trace.type == "heatmap" and cast("Any", figure).layout.meta == "logarithmic colours":
                values = 10**values
            series[trace.meta] = values[~np.isnan(values)].tolist()
    return [series[i] for i in sorted(series)]


def to_html(spec: FigureSpec, provenance: Mapping[str, Any]) -> str:
    """The figure as one file of interactive HTML: plotly.js inside, words and provenance below, nothing loaded.

    The content security policy forbids the page any connection, whatever a text or a later plotly.js tries.
    """
    import plotly.io

    options = {"include_plotlyjs": True, "include_mathjax": False, "full_html": False, "div_id": "figure", "default_height": "520px"}
    picture = plotly.io.to_html(to_plotly(spec, dark=False), config=dict(PLOTLY_CONFIG), **options)
    words = "\n".join(f"<p>{html.escape(visible(line))}</p>" for line in caption(spec))
    origin = "\n".join(
        f"<dt>{html.escape(visible(str(name)))}</dt><dd>{html.escape(label(value))}</dd>" for name, value in sorted(provenance.items())
    )
    return _PAGE.format(title=html.escape(visible(spec.title)), picture=picture, words=words, origin=origin)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; \
style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; color: #222; background: #fff }}
h1 {{ font-size: 1.25rem; margin: 0 0 .5rem }}
p {{ margin: .5rem 0; overflow-wrap: anywhere }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .875rem; color: #555 }}
dd {{ margin: 0; overflow-wrap: anywhere }}
summary {{ margin-top: 1rem; cursor: pointer }}
</style>
</head>
<body>
<h1>{title}</h1>
{picture}
{words}
<details open><summary>Where these numbers come from</summary>
<dl>
{origin}
</dl></details>
</body>
</html>
"""


# ---------------------------------------------------------------------------------------------------------------------
# Traces


def _common(prepared: Prepared, i: int, group: Group) -> dict[str, Any]:
    """What all traces with data share."""
    return {
        "name": plain(shorten(group.name)),
        "legendgroup": str(i),
        "showlegend": prepared.named,
        "meta": i,
        "customdata": group["row"].reshape(-1, 1),
        "hovertext": hover(prepared, group),
        "hoverinfo": "text",
    }


def _along_x(prepared: Prepared, rows: Group) -> Any:
    if prepared.x_labels is None:
        return rows["x"]
    return [plain(prepared.x_labels[int(i)]) for i in rows["x"]]


def _bars(prepared: Prepared) -> list[Any]:
    import plotly.graph_objects as go

    width = None if prepared.x_labels is not None or prepared.spec.kind == "bars" else bar_width(prepared)
    edge = 0.4 if sum(len(g) for g in prepared.groups) <= 200 else 0  # an edge would drown a bar of two pixels
    traces = []
    for i, group in enumerate(prepared.groups):
        marker: dict[str, Any] = {"color": group.ink.colour, "line": {"width": edge, "color": _EDGE}}
        if group.ink.hatched:
            marker["pattern"] = {"shape": "/", "size": 5, "solidity": 0.25, "fgcolor": "#ffffff", "fillmode": "overlay"}
        y = group["y"]
        traces.append(go.Bar(x=_along_x(prepared, group), y=y, width=width, marker=marker, **_common(prepared, i, group)))
    return traces


def _histogram(prepared: Prepared) -> list[Any]:
    """Bars of exact width for the values and for hovering; over them, where there are several series, their outlines."""
    import plotly.graph_objects as go

    floor = value_limits(prepared)[0]
    several = len(prepared.groups) > 1
    traces: list[Any] = []
    for i, group in enumerate(prepared.groups):
        width = group["x_end"] - group["x"]
        marker = {"color": group.ink.colour, "opacity": 0.18 if several else 1.0, "line": {"width": 0}}
        common = _common(prepared, i, group)
        traces.append(go.Bar(x=group["x"], y=group["y"], width=width, offset=0, marker=marker, **common))
        if several:
            xs, ys = outline(group, floor)
            common |= {"meta": None, "customdata": None, "hovertext": None, "hoverinfo": "skip"}
            traces[-1].showlegend = False
            line = {"color": group.ink.colour, "width": 1.6, "dash": _DASHES[group.ink.dash]}
            traces.append(go.Scatter(x=xs, y=ys, mode="lines", line=line, **common))
    return traces


def _lines(prepared: Prepared) -> list[Any]:
    import plotly.graph_objects as go

    traces: list[Any] = []
    for i, group in enumerate(prepared.groups):
        rows = group.by_x()
        if "y_low" in rows:
            band = rows.take(~np.isnan(rows["y_low"] + rows["y_high"]))
            edge = {
                "mode": "lines",
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
                "legendgroup": str(i),
            }
            xs = _along_x(prepared, band)
            traces.append(go.Scatter(x=xs, y=band["y_low"], **edge))
            traces.append(go.Scatter(x=xs, y=band["y_high"], fill="tonexty", fillcolor=_faint(group.ink.colour), **edge))
        mode = "lines+markers" if len(rows) <= 60 else "lines"
        line = {"color": group.ink.colour, "width": 2, "dash": _DASHES[group.ink.dash]}
        common = _common(prepared, i, rows)
        traces.append(go.Scatter(x=_along_x(prepared, rows), y=rows["y"], mode=mode, line=line, marker={"size": 5}, **common))
    return traces


def _scatter(prepared: Prepared) -> list[Any]:
    import plotly.graph_objects as go

    n_points = sum(len(g) for g in prepared.groups)
    mark = go.Scattergl if n_points > WEBGL_ABOVE else go.Scatter
    traces = []
    for i, group in enumerate(prepared.groups):
        marker: dict[str, Any] = {"size": 7 if n_points <= 500 else 5 if n_points <= WEBGL_ABOVE else 3, "opacity": 0.8}
        if prepared.spec.colour is not None:
            marker["coloraxis"] = "coloraxis"
            marker["color"] = _on_scale(prepared.spec.colour, group["colour"])
        else:
            marker["color"] = group.ink.colour
        y = group["y"]
        traces.append(mark(x=_along_x(prepared, group), y=y, mode="markers", marker=marker, **_common(prepared, i, group)))
    return traces


def _heatmap(prepared: Prepared) -> list[Any]:
    import plotly.graph_objects as go

    colour = prepared.spec.colour
    assert colour is not None  # checked by `prepare`; this line tells the type checker
    xs, ys, cells = grid(prepared)
    rows = prepared.groups[0]
    at = np.searchsorted(ys, rows["y"]), np.searchsorted(xs, rows["x"])
    texts = np.full(cells.shape, "", dtype=object)
    texts[at] = hover(prepared, prepared.groups[0])
    row = np.full((*cells.shape, 1), -1)
    row[(*at, 0)] = rows["row"]
    x, y = (
        values if labels is None else [plain(labels[int(v)]) for v in values]
        for values, labels in ((xs, prepared.x_labels), (ys, prepared.y_labels))
    )
    common = {"meta": 0, "customdata": row, "hovertext": texts, "hoverinfo": "text", "coloraxis": "coloraxis"}
    gap = 1 if cells.size <= GAPS_UP_TO else 0  # gaps would drown cells of a few pixels
    return [go.Heatmap(x=x, y=y, z=_on_scale(colour, cells), xgap=gap, ygap=gap, **common)]


def _treemap(prepared: Prepared) -> list[Any]:
    """One trace: the whole and a frame per series, without sizes of their own and of the mean colour of what they hold, then the rows."""
    import plotly.graph_objects as go

    colour = prepared.spec.colour
    assert colour is not None  # checked by `prepare`; this line tells the type checker
    groups = prepared.groups
    whole = plain(f"all: {prepared.spec.y.label}")
    labels = [whole, *(plain(shorten(group.name)) for group in groups)]
    means = [float(np.average(_on_scale(colour, group["colour"]), weights=group["y"])) for group in groups]
    shades = [float(np.average(means, weights=[group["y"].sum() for group in groups])), *means]
    texts, rows = [whole, *(plain(group.name) for group in groups)], [-1] * (1 + len(groups))
    parents, sizes = ["", *["whole"] * len(groups)], [0.0] * (1 + len(groups))
    ids = ["whole", *(f"frame {i}" for i in range(len(groups)))]
    for i, group in enumerate(groups):
        labels += _along_x(prepared, group)
        parents += [f"frame {i}"] * len(group)
        sizes += group["y"].tolist()
        shades += _on_scale(colour, group["colour"]).tolist()
        texts += hover(prepared, group)
        rows += group["row"].tolist()
        ids += [f"row {row}" for row in group["row"]]
    common = {"meta": 0, "customdata": [[row] for row in rows], "hovertext": texts, "hoverinfo": "text", "textinfo": "label"}
    marker = {
        "colors": shades,
        "coloraxis": "coloraxis",
        "line": {"width": 0.5, "color": "#ffffff"},
        "pad": {"t": 16, "l": 1, "r": 1, "b": 1},
    }
    look = {"tiling": {"packing": "squarify", "pad": 1}, "pathbar": {"visible": True}, "marker": marker, "branchvalues": "remainder"}
    return [go.Treemap(ids=ids, labels=labels, parents=parents, values=sizes, **look, **common)]


_TRACES = {
    "stacked_bars": _bars,
    "bars": _bars,
    "histogram": _histogram,
    "line": _lines,
    "scatter": _scatter,
    "heatmap": _heatmap,
    "treemap": _treemap,
}


def _on_scale(axis: Axis, values: np.ndarray) -> np.ndarray:
    # Plotly has no logarithmic colour axis: the logarithm is drawn, the colour bar and the hover text show the value.
    return np.log10(values) if axis.scale == "log" else values


def _faint(colour: str) -> str:
    return "rgba({},{},{},0.2)".format(*rgb(colour))
