"""What surrounds the marks of a figure on paper: size, axes, ticks that fit, legend outside the data, colour bar.

Room is reckoned from the number of characters (`Preset.character_in`), which is near enough for deciding how many labels fit;
matplotlib's constrained layout then places everything exactly inside the page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from figures.paper_marks import treemap_names
from figures.paper_text import words
from figures.prepared import BAR_KINDS, Prepared, are_whole, bar_width, together, value_limits
from figures.presets import MM_PER_IN, PLAIN, Preset
from figures.spec import Axis
from figures.words import number, shorten, tick_labels, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT_IN = 0.55
"""Room usually taken by the y axis's label and tick labels, at 7 pt."""
_COLOUR_BAR_IN = 0.7
_SPACING = 1.2
"""Of the lines of a label, in heights of its letters: what fonts ask for themselves is nearly twice that in STIX."""


# ---------------------------------------------------------------------------------------------------------------------
# Size


def natural_height(prepared: Prepared, width_in: float, title: bool, preset: Preset = PLAIN) -> float:
    """A height in inches that leaves the data the room it needs beside its labels and legend."""
    data = min(max(0.5 * width_in, 1.6), 2.9)
    if prepared.spec.kind == "heatmap":
        n_rows = len(prepared.y_labels) if prepared.y_labels is not None else len(np.unique(together(prepared, "y")))
        data = min(max((1.04 * preset.line_in if prepared.y_labels is not None else 0.1) * n_rows, 1.2), 7.0)
    height = round(data + _around(prepared, width_in, title, preset), 2)
    return height if preset.tallest_mm is None else min(height, preset.tallest_mm / MM_PER_IN)


def _around(prepared: Prepared, width_in: float, title: bool, preset: Preset) -> float:
    """Height in inches taken by what is above and below the data."""
    around = (0.5 + (0.25 if title else 0.0)) * preset.label_pt / PLAIN.label_pt
    if prepared.x_labels is not None:
        _, texts, upright = category_ticks(prepared.x_labels, _room_x(prepared, width_in, preset), preset)
        around += preset.character_in * max(map(len, texts)) if upright else 0.0
    if prepared.named:
        n_lines = 1 + math.ceil(len(prepared.groups) / legend_columns([g.name for g in prepared.groups], width_in, preset))
        around += 1.36 * preset.line_in * n_lines
    return around


def _room_x(prepared: Prepared, width_in: float, preset: Preset) -> float:
    return max(0.5, width_in - _LEFT_IN * preset.small_pt / PLAIN.small_pt - (_COLOUR_BAR_IN if prepared.spec.colour is not None else 0.0))


# ---------------------------------------------------------------------------------------------------------------------
# Everything around the marks


def finish(figure: Figure, axes: Axes, prepared: Prepared, handles: Sequence[Any], title: bool, preset: Preset) -> None:
    """Dress the axes: labels with units, scales, ticks, legend or colour bar, title."""
    width_in, height_in = figure.get_size_inches()
    spec = prepared.spec
    room_y = max(0.8, height_in - _around(prepared, width_in, title, preset))
    if spec.kind != "treemap":
        _dress(axes, prepared, "x", _room_x(prepared, width_in, preset), preset)
        _dress(axes, prepared, "y", room_y, preset)
        _marks(axes, prepared, preset)
    else:
        treemap_names(axes, prepared, preset)
    for side in ("top", "right"):
        axes.spines[side].set_visible(spec.kind == "heatmap")
    if spec.kind not in ("heatmap", "treemap"):
        axes.grid(True, axis="both" if spec.kind in ("line", "scatter") else "y", color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
    if spec.colour is not None:
        # Half of the axes at most for a bar 0.1 in wide: otherwise a narrow figure gets a bar shorter than its data.
        bar = figure.colorbar(handles[0], ax=axes, fraction=0.5, pad=0.02, aspect=room_y / 0.1)
        bar.solids.set_alpha(1.0)  # pyright: ignore[reportOptionalMemberAccess]
        bar.set_label(_wrapped(spec.colour.title, room_y, preset), linespacing=_SPACING)
        bar.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue]
    if prepared.named:
        _legend(figure, prepared, handles, width_in, preset)
    if title:
        figure.suptitle(_wrapped(spec.title, width_in, preset), x=0.01, ha="left", fontsize=preset.label_pt + 1, linespacing=_SPACING)


def _marks(axes: Axes, prepared: Prepared, preset: Preset) -> None:
    """Lines across the figure, each with its words beside its top."""
    spec = prepared.spec
    if spec.kind not in ("line", "histogram", "scatter") or prepared.x_labels is not None:
        return
    for i, mark in enumerate(spec.marks):
        axes.axvline(mark.x, color="#777777", linewidth=0.8, linestyle=":")
        place = {"xycoords": axes.get_xaxis_transform(), "xytext": (2, -1), "textcoords": "offset points"}
        axes.annotate(words(mark.label), (mark.x, 1 - 0.08 * (i % 4)), va="top", fontsize=preset.small_pt, **place)


def _dress(axes: Axes, prepared: Prepared, which: str, room_in: float, preset: Preset) -> None:
    from matplotlib.ticker import MaxNLocator

    spec = prepared.spec
    declared: Axis = spec.x if which == "x" else spec.y
    labels = prepared.x_labels if which == "x" else prepared.y_labels
    drawn = axes.xaxis if which == "x" else axes.yaxis
    common = "" if labels is None else tick_labels(labels)[1]
    drawn.set_label_text(_wrapped(f"{declared.title}: {common}" if common else declared.title, room_in, preset), linespacing=_SPACING)
    if labels is not None:
        _categories(axes, which, labels, room_in, preset)
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
    if declared.scale == "log":
        _few_decades(axes, which)


def _few_decades(axes: Axes, which: str) -> None:
    """Along an axis of less than two decades plain numbers at 1, 2, 5, ...: a power of ten at every tick would not fit."""
    from matplotlib.ticker import NullFormatter

    drawn = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    at = [tick for decade in decades for tick in (10.0**decade, 2 * 10.0**decade, 5 * 10.0**decade) if low <= tick <= high]
    if len(at) >= 3 and high / low < 100:
        drawn.set_ticks(at, labels=[number(tick) for tick in at])
        drawn.set_minor_formatter(NullFormatter())


def _bar_limits(prepared: Prepared) -> tuple[float, float]:
    """Along x exactly the bins of a histogram, and bars with half a gap beside the outer ones."""
    low = float(together(prepared, "x").min())
    if prepared.spec.kind == "histogram":
        return low, float(together(prepared, "x_end").max())
    high = float(together(prepared, "x").max())
    half = 0.625 * bar_width(prepared)
    return low - half, high + half


def _categories(axes: Axes, which: str, labels: Sequence[str], room_in: float, preset: Preset) -> None:
    if which == "x":
        at, texts, upright = category_ticks(labels, room_in, preset)
        axes.set_xticks(at, [words(t) for t in texts], rotation=90 if upright else 0)
        axes.set_xlim(-0.6, len(labels) - 0.4) if axes.collections == [] else axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.tick_params(axis="x", length=2)
        return
    step = _step(len(labels), room_in / preset.line_in)
    at = list(range(0, len(labels), step))
    texts, _ = tick_labels(labels)
    axes.set_yticks(at, [words(texts[i]) for i in at])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def category_ticks(labels: Sequence[str], room_in: float, preset: Preset = PLAIN) -> tuple[list[int], list[str], bool]:
    """Which categories get a label, the labels, and whether they stand upright: as many as fit ``room_in`` side by side."""
    texts, _ = tick_labels(labels)
    # Neighbours touch where half of each is wider than their distance.
    pairs = [len(a) + len(b) for a, b in zip(texts, texts[1:], strict=False)] or [2 * len(texts[0])]
    each = preset.character_in * max(pairs) / 2 + 0.06
    lies = _step(len(texts), room_in / each)
    # Numbers are understood from every fifth; names are not, so they are turned before any is left out.
    upright = lies > 1 and not all(text.lstrip("-").isdigit() for text in texts)
    step = _step(len(texts), room_in / preset.line_in) if upright else lies
    at = list(range(0, len(texts), step))
    return at, [texts[i] for i in at], upright


def _step(n: int, n_fit: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... by which ``n`` labels thin out to at most ``n_fit`` (at least one)."""
    step = 1
    while math.ceil(n / step) > max(1.0, n_fit):
        step = {1: 2, 2: 5, 5: 10}[step // 10 ** (len(str(step)) - 1)] * 10 ** (len(str(step)) - 1)
    return step


def _wrapped(text: str, room_in: float, preset: Preset) -> str:
    """The text in as few lines as the room needs, about equally long: one word alone on a line looks like a mistake."""
    width = max(12, int(room_in / (preset.character_in * preset.label_pt / preset.small_pt)))
    lines = textwrap.wrap(visible(text), width)
    for narrower in range(width - 1, 11, -1):
        found = textwrap.wrap(visible(text), narrower)
        if len(found) > len(lines):
            break
        lines = found
    return "\n".join(words(line) for line in lines)


# ---------------------------------------------------------------------------------------------------------------------
# Legend


def legend_columns(names: Sequence[str], width_in: float, preset: Preset = PLAIN) -> int:
    """How many columns of a legend fit the page; every column is as wide as its longest name and its handle."""
    for n_columns in range(len(names), 1, -1):
        widths = [max(len(shorten(name)) for name in names[c::n_columns]) * preset.character_in + 0.26 for c in range(n_columns)]
        if sum(widths) <= width_in - 0.1:
            return n_columns
    return 1


def _legend(figure: Figure, prepared: Prepared, handles: Sequence[Any], width_in: float, preset: Preset) -> None:
    names = [g.name for g in prepared.groups]
    n_columns = legend_columns(names, width_in, preset)
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
