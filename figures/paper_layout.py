"""What surrounds the marks of a figure on paper: size, axes, ticks that fit, legend outside the data, colour bar.

Room is reckoned from the number of characters (`CHARACTER_IN`), which is near enough for deciding how many labels fit;
matplotlib's constrained layout then places everything exactly inside the page.
"""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from figures.prepared import BAR_KINDS, Prepared, are_whole, bar_width, together, value_limits
from figures.spec import Axis
from figures.words import shorten, tick_labels, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARACTER_IN = 0.056
"""Mean width of a character of a name at 7 pt in DejaVu Sans (0.58 em), in inches."""
LINE_IN = 0.125
"""Distance of two lines, or of two upright labels, at 7 pt, in inches."""
_LEFT_IN = 0.55
"""Room usually taken by the y axis's label and tick labels."""
_COLOUR_BAR_IN = 0.7


def words(text: str) -> str:
    """``text`` for matplotlib: dollars are dollars, and a character the typeface lacks is written as its code point."""
    known = _characters()
    drawn = "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in visible(text))
    return drawn.replace("$", r"\$")


@functools.cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap())


# ---------------------------------------------------------------------------------------------------------------------
# Size


def natural_height(prepared: Prepared, width_in: float, title: bool) -> float:
    """A height in inches that leaves the data the room it needs beside its labels and legend."""
    data = min(max(0.5 * width_in, 1.6), 2.9)
    if prepared.spec.kind == "heatmap":
        n_rows = len(prepared.y_labels) if prepared.y_labels is not None else len(np.unique(together(prepared, "y")))
        data = min(max((1.04 * LINE_IN if prepared.y_labels is not None else 0.1) * n_rows, 1.2), 7.0)
    return round(data + _around(prepared, width_in, title), 2)


def _around(prepared: Prepared, width_in: float, title: bool) -> float:
    """Height in inches taken by what is above and below the data."""
    around = 0.5 + (0.25 if title else 0.0)
    if prepared.x_labels is not None:
        _, texts, upright = category_ticks(prepared.x_labels, _room_x(prepared, width_in))
        around += CHARACTER_IN * max(map(len, texts)) if upright else 0.0
    if prepared.named:
        around += 0.17 * (1 + math.ceil(len(prepared.groups) / legend_columns([g.name for g in prepared.groups], width_in)))
    return around


def _room_x(prepared: Prepared, width_in: float) -> float:
    return max(0.5, width_in - _LEFT_IN - (_COLOUR_BAR_IN if prepared.spec.colour is not None else 0.0))


# ---------------------------------------------------------------------------------------------------------------------
# Everything around the marks


def finish(figure: Figure, axes: Axes, prepared: Prepared, handles: Sequence[Any], title: bool) -> None:
    """Dress the axes: labels with units, scales, ticks, legend or colour bar, title."""
    width_in, height_in = figure.get_size_inches()
    spec = prepared.spec
    room_y = max(0.8, height_in - _around(prepared, width_in, title))
    if spec.kind != "treemap":
        _dress(axes, prepared, "x", _room_x(prepared, width_in))
        _dress(axes, prepared, "y", room_y)
        _marks(axes, prepared)
    for side in ("top", "right"):
        axes.spines[side].set_visible(spec.kind == "heatmap")
    if spec.kind not in ("heatmap", "treemap"):
        axes.grid(True, axis="both" if spec.kind in ("line", "scatter") else "y", color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
    if spec.colour is not None:
        # Half of the axes at most for a bar 0.1 in wide: otherwise a narrow figure gets a bar shorter than its data.
        bar = figure.colorbar(handles[0], ax=axes, fraction=0.5, pad=0.02, aspect=room_y / 0.1)
        bar.solids.set_alpha(1.0)  # pyright: ignore[reportOptionalMemberAccess]
        bar.set_label(_wrapped(spec.colour.title, room_y))
        bar.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue]
    if prepared.named:
        _legend(figure, prepared, handles, width_in)
    if title:
        figure.suptitle(_wrapped(spec.title, width_in), x=0.01, ha="left", fontsize=9)


def _marks(axes: Axes, prepared: Prepared) -> None:
    """Lines across the figure, each with its words beside its top."""
    spec = prepared.spec
    if spec.kind not in ("line", "histogram", "scatter") or prepared.x_labels is not None:
        return
    for i, mark in enumerate(spec.marks):
        axes.axvline(mark.x, color="#777777", linewidth=0.8, linestyle=":")
        place = {"xycoords": axes.get_xaxis_transform(), "xytext": (2, -1), "textcoords": "offset points"}
        axes.annotate(words(mark.label), (mark.x, 1 - 0.08 * (i % 4)), va="top", fontsize=6, **place)


def _dress(axes: Axes, prepared: Prepared, which: str, room_in: float) -> None:
    from matplotlib.ticker import MaxNLocator

    spec = prepared.spec
    declared: Axis = spec.x if which == "x" else spec.y
    labels = prepared.x_labels if which == "x" else prepared.y_labels
    drawn = axes.xaxis if which == "x" else axes.yaxis
    common = "" if labels is None else tick_labels(labels)[1]
    drawn.set_label_text(_wrapped(f"{declared.title}: {common}" if common else declared.title, room_in))
    if labels is not None:
        _categories(axes, which, labels, room_in)
        return
    if declared.scale == "log":
        axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    elif which == "x" or spec.kind == "heatmap":
        drawn.set_major_locator(MaxNLocator(max(3, int(room_in / 0.45)), integer=are_whole(prepared, which), steps=[1, 2, 5, 10]))
    limits = declared.bounds
    if which == "y" and spec.kind in (*BAR_KINDS, "histogram"):
        limits = value_limits(prepared)
    elif limits is None and which == "x" and spec.kind in (*BAR_KINDS, "histogram"):
        limits = _bar_limits(prepared)
    if limits is not None:
        axes.set_xlim(*limits) if which == "x" else axes.set_ylim(*limits)


def _bar_limits(prepared: Prepared) -> tuple[float, float]:
    """Along x exactly the bins of a histogram, and bars with half a gap beside the outer ones."""
    low = float(together(prepared, "x").min())
    if prepared.spec.kind == "histogram":
        return low, float(together(prepared, "x_end").max())
    high = float(together(prepared, "x").max())
    half = 0.625 * bar_width(prepared)
    return low - half, high + half


def _categories(axes: Axes, which: str, labels: Sequence[str], room_in: float) -> None:
    if which == "x":
        at, texts, upright = category_ticks(labels, room_in)
        axes.set_xticks(at, [words(t) for t in texts], rotation=90 if upright else 0)
        axes.set_xlim(-0.6, len(labels) - 0.4) if axes.collections == [] else axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.tick_params(axis="x", length=2)
        return
    step = _step(len(labels), room_in / LINE_IN)
    at = list(range(0, len(labels), step))
    texts, _ = tick_labels(labels)
    axes.set_yticks(at, [words(texts[i]) for i in at])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def category_ticks(labels: Sequence[str], room_in: float) -> tuple[list[int], list[str], bool]:
    """Which categories get a label, the labels, and whether they stand upright: as many as fit ``room_in`` side by side."""
    texts, _ = tick_labels(labels)
    # Neighbours touch where half of each is wider than their distance.
    pairs = [len(a) + len(b) for a, b in zip(texts, texts[1:], strict=False)] or [2 * len(texts[0])]
    each = CHARACTER_IN * max(pairs) / 2 + 0.06
    lies = _step(len(texts), room_in / each)
    # Numbers are understood from every fifth; names are not, so they are turned before any is left out.
    upright = lies > 1 and not all(text.lstrip("-").isdigit() for text in texts)
    step = _step(len(texts), room_in / LINE_IN) if upright else lies
    at = list(range(0, len(texts), step))
    return at, [texts[i] for i in at], upright


def _step(n: int, n_fit: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... by which ``n`` labels thin out to at most ``n_fit`` (at least one)."""
    step = 1
    while math.ceil(n / step) > max(1.0, n_fit):
        step = {1: 2, 2: 5, 5: 10}[step // 10 ** (len(str(step)) - 1)] * 10 ** (len(str(step)) - 1)
    return step


def _wrapped(text: str, room_in: float) -> str:
    # Labels are at 8 pt, an eighth wider than the 7 pt that CHARACTER_IN is for.
    return "\n".join(words(line) for line in textwrap.wrap(visible(text), max(12, int(room_in / (CHARACTER_IN * 8 / 7)))))


# ---------------------------------------------------------------------------------------------------------------------
# Legend


def legend_columns(names: Sequence[str], width_in: float) -> int:
    """How many columns of a legend fit the page; every column is as wide as its longest name and its handle."""
    for n_columns in range(len(names), 1, -1):
        widths = [max(len(shorten(name)) for name in names[c::n_columns]) * CHARACTER_IN + 0.26 for c in range(n_columns)]
        if sum(widths) <= width_in - 0.1:
            return n_columns
    return 1


def _legend(figure: Figure, prepared: Prepared, handles: Sequence[Any], width_in: float) -> None:
    names = [g.name for g in prepared.groups]
    n_columns = legend_columns(names, width_in)
    # matplotlib fills columns first; names are read along rows.
    order = [i for c in range(n_columns) for i in range(c, len(names), n_columns)]
    assert prepared.spec.series is not None  # `named` says so; this line tells the type checker
    figure.legend(
        [handles[i] for i in order],
        [words(shorten(names[i])) for i in order],
        title=words(prepared.spec.series.label),
        loc="outside upper left",
        ncols=n_columns,
        frameon=False,
        alignment="left",
        handlelength=1.4,
        handletextpad=0.4,
        columnspacing=0.9,
        borderaxespad=0.1,
        borderpad=0.1,
        labelspacing=0.3,
    )
