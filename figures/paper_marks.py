"""The marks of a figure on paper: one function per kind, from prepared numbers to matplotlib artists.

Artists that carry data have the gid ``series-<index>``, by which `figures.paper.shown_numbers` finds them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from figures.palettes import SEQUENTIAL
from figures.paper_text import words
from figures.prepared import Prepared, bar_width, grid, outline, together, value_limits
from figures.presets import Preset
from figures.treemap import boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.3, 1, 1.3)))

RASTER_ABOVE = 20_000
"""Points or cells above which the marks (not the words) become an image at 300 dpi: a viewer chokes on more paths."""

_EDGE = "#555555"


SERIES = "series-"
"""Start of the gid of an artist that carries data; the index of its series follows."""


def gid(i: int) -> str:
    """The mark by which the data of series ``i`` are found again."""
    return f"{SERIES}{i}"


def _bars(axes: Axes, prepared: Prepared) -> list[Any]:
    stacked = prepared.spec.kind == "stacked_bars"
    width = bar_width(prepared)
    share = width if stacked else width / len(prepared.groups)
    tops: dict[float, float] = {}
    handles = []
    for i, group in enumerate(prepared.groups):
        xs, heights = group["x"], group["y"]
        base = np.array([tops.get(x, 0.0) for x in xs]) if stacked else np.zeros(len(xs))
        at = xs if stacked else xs - width / 2 + (i + 0.5) * share
        # Hatching is drawn in the edge's colour, so a hatched bar has a white edge and all others a thin grey one.
        edge: dict[str, Any] = {"hatch": "/////", "edgecolor": "#ffffff"} if group.ink.hatched else {"edgecolor": _EDGE}
        thin = 0.0 if group.ink.hatched or len(xs) > 100 else 0.25
        bars = axes.bar(at, heights, share, base, color=group.ink.colour, linewidth=thin, **edge)
        tops.update(zip(xs, base + heights, strict=True))
        for bar in bars:
            bar.set_gid(gid(i))
        handles.append(bars[0] if len(bars) else bars)
    return handles


def _histogram(axes: Axes, prepared: Prepared) -> list[Any]:
    several = len(prepared.groups) > 1
    floor = value_limits(prepared)[0]
    handles: list[Any] = []
    for i, group in enumerate(prepared.groups):
        look: dict[str, Any] = {"color": group.ink.colour, "alpha": 0.15} if several else {"color": group.ink.colour}
        bars = axes.bar(group["x"], group["y"], group["x_end"] - group["x"], align="edge", linewidth=0, **look)
        for bar in bars:
            bar.set_gid(gid(i))
        if several:
            handles += axes.plot(*outline(group, floor), color=group.ink.colour, linewidth=1.1, linestyle=DASHES[group.ink.dash])
        else:
            handles.append(bars[0])
    return handles


def _lines(axes: Axes, prepared: Prepared) -> list[Any]:
    handles: list[Any] = []
    for i, group in enumerate(prepared.groups):
        rows = group.by_x()
        if "y_low" in rows:
            axes.fill_between(rows["x"], rows["y_low"], rows["y_high"], color=group.ink.colour, alpha=0.18, linewidth=0)
        look: dict[str, Any] = {"color": group.ink.colour, "linewidth": 1.2, "linestyle": DASHES[group.ink.dash]}
        if len(rows) <= 40:
            look |= {"marker": "o", "markersize": 2.2}
        handles += axes.plot(rows["x"], rows["y"], gid=gid(i), **look)
    return handles


def point_size(prepared: Prepared) -> float:
    """Area of a point in square points: the more there are, the smaller."""
    n_points = sum(len(g) for g in prepared.groups)
    return 12.0 if n_points <= 500 else 6.0 if n_points <= 5_000 else 2.5


def _scatter(axes: Axes, prepared: Prepared) -> list[Any]:
    n_points = sum(len(g) for g in prepared.groups)
    size = point_size(prepared)
    handles = []
    for i, group in enumerate(prepared.groups):
        look: dict[str, Any] = {"color": group.ink.colour}
        if prepared.spec.colour is not None:
            look = {"c": group["colour"], "cmap": colour_map(), "norm": colour_norm(prepared)}
        points = axes.scatter(group["x"], group["y"], s=size, alpha=0.8, linewidths=0, **look)
        points.set_gid(gid(i))
        points.set_rasterized(n_points > RASTER_ABOVE)
        handles.append(points)
    return handles


def _heatmap(axes: Axes, prepared: Prepared) -> list[Any]:
    xs, ys, cells = grid(prepared)
    # An edge in the cell's own colour closes the hairlines that viewers leave between neighbouring vector cells.
    look: dict[str, Any] = {"cmap": colour_map(), "norm": colour_norm(prepared), "edgecolors": "face", "linewidth": 0.2}
    mesh = axes.pcolormesh(_edges(xs), _edges(ys), np.ma.masked_invalid(cells), shading="flat", **look)
    mesh.set_gid(gid(0))
    mesh.set_rasterized(cells.size > RASTER_ABOVE)
    return [mesh]


def _treemap(axes: Axes, prepared: Prepared) -> list[Any]:
    """Rectangles in the colour of their number; `treemap_names` says what they are."""
    from matplotlib.collections import PolyCollection

    frames, inside, _ = _placed(axes, prepared)
    rectangles = np.concatenate([placed for _, placed in inside])
    numbers = np.concatenate([group["colour"] for group, _ in inside])
    left, bottom, width, height = rectangles.T
    corners = np.stack([[left, bottom], [left + width, bottom], [left + width, bottom + height], [left, bottom + height]])
    look: dict[str, Any] = {"cmap": colour_map(), "norm": colour_norm(prepared), "edgecolors": "white", "linewidths": 0.3}
    drawn = PolyCollection(list(corners.transpose(2, 0, 1)), array=numbers, **look)
    drawn.set_gid(gid(0))
    drawn.set_rasterized(len(rectangles) > RASTER_ABOVE)
    axes.add_collection(drawn)
    axes.set_xlim(0, float((frames[:, 0] + frames[:, 2]).max()))
    axes.set_ylim(1, 0)  # the largest at the top left, as on screen
    axes.set_axis_off()
    return [drawn]


def _placed(axes: Axes, prepared: Prepared) -> tuple[Any, Any, tuple[float, float]]:
    """Frames and rectangles of a treemap, and how many inches a unit along x and along y is."""
    page: Any = axes.get_figure()
    width_in, height_in = page.get_size_inches()
    frames, inside = boxes(prepared, (width_in - 0.9) / max(height_in - 0.2, 0.5))
    return frames, inside, ((width_in - 0.9) / float((frames[:, 0] + frames[:, 2]).max()), height_in - 0.2)


def treemap_names(axes: Axes, prepared: Prepared, preset: Preset) -> None:
    """A white line around each frame with its name in the corner; the names of rectangles where there is room for all of one."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    around: dict[str, Any] = {"fontsize": preset.small_pt, "color": "black"}
    around["path_effects"] = [Stroke(linewidth=1.2, foreground="white"), Normal()]
    frames, inside, inches = _placed(axes, prepared)
    letter, line = preset.character_in, preset.line_in
    for group, frame, (_, placed) in zip(prepared.groups, frames, inside, strict=True):
        axes.add_patch(Rectangle(tuple(frame[:2]), frame[2], frame[3], fill=False, edgecolor="white", linewidth=1.2))
        if frame[2] * inches[0] > letter * len(group.name) and frame[3] * inches[1] > line:
            x, y = frame[0] + 0.02 / inches[0], frame[1] + 0.02 / inches[1]
            axes.text(x, y, words(group.name), ha="left", va="top", weight="bold", **around)
        for at, box in zip(group["x"], placed, strict=True):
            name = words(prepared.x_labels[int(at)]) if prepared.x_labels else ""
            if name and box[2] * inches[0] > letter * len(name) and box[3] * inches[1] > 3 * line:
                axes.text(box[0] + box[2] / 2, box[1] + box[3] / 2, name, ha="center", va="center", **around)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells half way between their centres; the outer ones as far out as the nearest border is in."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])


def colour_map() -> Any:
    """The sequential palette for matplotlib; missing cells stay empty."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sequential", SEQUENTIAL)


def colour_norm(prepared: Prepared) -> Any:
    """From numbers to the sequential scale, over the declared bounds or over all values shown."""
    from matplotlib.colors import LogNorm, Normalize

    axis = prepared.spec.colour
    values = together(prepared, "colour")
    low, high = axis.bounds if axis is not None and axis.bounds is not None else (values.min(), values.max())
    return LogNorm(low, high) if axis is not None and axis.scale == "log" else Normalize(low, high)


MARKS: Mapping[str, Callable[[Axes, Prepared], list[Any]]] = {
    "stacked_bars": _bars,
    "bars": _bars,
    "histogram": _histogram,
    "line": _lines,
    "scatter": _scatter,
    "heatmap": _heatmap,
    "treemap": _treemap,
}
