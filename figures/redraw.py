"""A short script that redraws a figure from its ``data.csv`` with pandas and matplotlib alone, to keep, change and publish.

What the figure is (columns, names in order, colours, limits, size) stands at its top as constants, then come the few lines that draw its
kind. The constants are read off the figure as `figures.paper` draws it, so that both look alike.
"""

from __future__ import annotations

import io
import pprint
from typing import TYPE_CHECKING, Any

from figures import redraw_bodies as bodies
from figures.palettes import SEQUENTIAL
from figures.paper import letters, to_matplotlib
from figures.paper_layout import legend_columns
from figures.paper_marks import DASHES, colour_norm, point_size
from figures.paper_text import words
from figures.prepared import BAR_KINDS, KEEPS_GAPS, Prepared, are_whole, bar_width, caption, prepare
from figures.presets import PLAIN, Preset
from figures.spec import FigureSpec
from figures.words import shorten, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def script(spec: FigureSpec, data: bytes, *, preset: Preset = PLAIN, title: bool = False) -> str:
    """The script. ``data``: the CSV file that will lie beside it, as `figures.export` makes it of the same figure."""
    prepared = prepare(spec)
    figure = to_matplotlib(spec, preset=preset, title=title)
    axes = figure.axes[0]
    constants = _columns(prepared) | _names(prepared, data) | _places(axes, prepared) | _look(axes, prepared, preset)
    constants["TITLE"] = figure.get_suptitle()
    said = "\n".join(_docstring(line) for line in (f"{spec.title}: redrawn from data.csv.", "", *caption(spec)))
    lines = "\n".join(f"{name} = {_python(value)}" for name, value in constants.items())
    text = f'"""{said}\n\nNeeds pandas and matplotlib: python make_figure.py [FILE]\n"""\n'
    return text + bodies.START + lines + "\n" + bodies.READ + bodies.BODIES[spec.kind] + bodies.END


def _docstring(line: str) -> str:
    return visible(line).replace("\\", "\\\\").replace('"', '\\"')


def _python(value: Any) -> str:
    return pprint.pformat(value, width=120, compact=True, sort_dicts=False)


def _columns(prepared: Prepared) -> dict[str, Any]:
    """Which column is what, and without which a row cannot be drawn: a gap in a line and in a map is drawn as a gap."""
    spec = prepared.spec
    colour = None if spec.colour is None else spec.colour.column
    needed = [] if prepared.x_labels is not None else [spec.x.column]
    needed += [] if spec.kind in KEEPS_GAPS else [spec.y.column]
    needed += [one for one in (spec.x_end, colour if spec.kind != "heatmap" else None) if one is not None]
    axes = [axis for axis in (spec.x, spec.y, spec.colour) if axis is not None and axis.scale == "log" and spec.kind != "histogram"]
    return {
        "X": spec.x.column,
        "Y": spec.y.column,
        "X_END": spec.x_end,
        "Y_LOW": spec.y_low,
        "Y_HIGH": spec.y_high,
        "COLOUR": colour,
        "NEEDED": list(dict.fromkeys(needed)),
        "LOGARITHMIC": list(dict.fromkeys(axis.column for axis in axes)),
    }


def _names(prepared: Prepared, data: bytes) -> dict[str, Any]:
    """Names as they stand in the file: where each stands along an axis, and the series with their inks, in order."""
    spec = prepared.spec
    labels = {spec.x.column: prepared.x_labels, spec.y.column: prepared.y_labels}
    series = spec.series if spec.kind != "heatmap" else None
    columns = [column for column, names in labels.items() if names is not None] + ([series.column] if series else [])
    texts = _as_written(data, columns)
    places = {column: _in_order(texts[column]) for column, names in labels.items() if names is not None}
    found = []
    for group in prepared.groups:
        first = int(group["row"][0]) if len(group) else 0
        ink = {"colour": group.ink.colour, "hatched": group.ink.hatched, "line": DASHES[group.ink.dash]}
        found.append({"value": texts[series.column][first] if series else None, "name": words(shorten(group.name))} | ink)
    column, label = (series.column, words(series.label)) if series else (None, "")
    return {"PLACES": places, "SERIES_COLUMN": column, "SERIES_LABEL": label, "SERIES": found}


def _as_written(data: bytes, columns: list[str]) -> Any:
    import pandas as pd

    return pd.read_csv(io.BytesIO(data), comment="#", converters=dict.fromkeys(columns, str), lineterminator="\n")


def _in_order(texts: Any) -> dict[str, int]:
    return {text: i for i, text in enumerate(dict.fromkeys(texts))}


def _places(axes: Axes, prepared: Prepared) -> dict[str, Any]:
    """Scales, limits, labels and the ticks of names, as they are drawn."""
    from matplotlib.ticker import FixedLocator

    found: dict[str, Any] = {}
    for which, axis in (("X", axes.xaxis), ("Y", axes.yaxis)):
        ticks = None
        if isinstance(axis.get_major_locator(), FixedLocator) and prepared.spec.kind != "treemap":
            drawn = axis.get_ticklabels()
            names, rotation = [one.get_text() for one in drawn], drawn[0].get_rotation()
            ticks = {"at": [float(at) for at in axis.get_ticklocs()], "names": names, "rotation": rotation}
        limits = axes.get_xlim() if which == "X" else axes.get_ylim()
        found |= {f"{which}_SCALE": axis.get_scale(), f"{which}_LIMITS": tuple(float(one) for one in limits)}
        found |= {f"{which}_LABEL": axis.get_label_text(), f"{which}_TICKS": ticks}
    return found


def _look(axes: Axes, prepared: Prepared, preset: Preset) -> dict[str, Any]:
    """Size, letters and what only some kinds need."""
    spec = prepared.spec
    figure: Any = axes.get_figure()
    width, height = (float(size) for size in figure.get_size_inches())
    n_columns = legend_columns([group.name for group in prepared.groups], width, preset) if prepared.named else 1
    found: dict[str, Any] = {"SIZE_IN": (width, height), "LETTERS": letters(preset), "LEGEND_COLUMNS": n_columns}
    scales = {"xaxis": (prepared.x_labels, spec.x, "x"), "yaxis": (prepared.y_labels, spec.y, "y")}
    plain = {name: which for name, (labels, axis, which) in scales.items() if labels is None and axis.scale == "linear"}
    found["WHOLE"] = [] if spec.kind == "treemap" else [name for name, which in plain.items() if are_whole(prepared, which)]
    found["GRID"] = {"line": "both", "scatter": "both", "heatmap": None, "treemap": None}.get(spec.kind, "y")
    found["MARKS"] = [(mark.x, words(mark.label)) for mark in spec.marks] if prepared.x_labels is None else []
    if spec.kind in BAR_KINDS:
        found |= {"BAR_WIDTH": bar_width(prepared), "STACKED": spec.kind == "stacked_bars"}
    if spec.kind == "scatter":
        found["POINT_SIZE"] = point_size(prepared)
    if spec.colour is not None:
        scale = colour_norm(prepared)
        found |= {"COLOUR_LABEL": figure.axes[1].get_ylabel(), "COLOUR_LOG": spec.colour.scale == "log"}
        found["COLOUR_LIMITS"] = (float(scale.vmin), float(scale.vmax))
    if spec.kind in ("scatter", "heatmap", "treemap"):
        found |= {"COLOUR_MAP": list(SEQUENTIAL)} | ({} if spec.colour is not None else {"COLOUR_LOG": False, "COLOUR_LIMITS": (0, 1)})
    if spec.kind == "treemap":
        found["SHOWN"] = [words(name) for name in prepared.x_labels or ()]
        found["ASPECT"] = (width - 0.9) / max(height - 0.2, 0.5)
    return found
