"""Small pictures of the table: ratios with their spread, memory, and what queries take."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.words import Row
from figures.palettes import QUALITATIVE

PEER, FLOOR, LINE = QUALITATIVE[0], QUALITATIVE[1], QUALITATIVE[6]
SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 8, "font.family": "sans-serif",
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def draw(rows: Sequence[Row], folder: Path) -> Mapping[str, str]:
    """File name of each picture that was drawn, with what it shows. None is drawn where nothing was measured for it."""
    made = {}
    timed = [row for row in rows if row["wall"]]
    if timed:
        made["benchmarks-ratios.svg"] = (
            "Time of ours over time of what it is held against, median and spread of the rounds; left of 1 is less."
        )
        _draw(folder / "benchmarks-ratios.svg", timed, _ratio, "ours over the other, by the clock (less is better)", marks=(1.0,))
    weighed = [row for row in rows if row["peak_mb"] and row["beside_peak_mb"]]
    if weighed:
        made["benchmarks-memory.svg"] = "Peak memory of ours over that of what it is held against; left of 1 is less."
        _draw(folder / "benchmarks-memory.svg", weighed, _memory, "ours over the other, peak memory (less is better)", marks=(1.0,))
    asked = [row for row in rows if row["worst_seconds"]]
    if asked:
        made["benchmarks-queries.svg"] = "What pages ask of the store: median (dot) and 99th percentile (end of the line)."
        _draw(folder / "benchmarks-queries.svg", asked, _query, "milliseconds, median to 99th percentile", marks=(300.0, 1000.0))
    return made


Point = tuple[float, float, float]
"""Where the dot is, and both ends of its line."""


def _ratio(row: Row) -> Point:
    return tuple(row["wall"])  # type: ignore[return-value]


def _memory(row: Row) -> Point:
    value = row["peak_mb"] / row["beside_peak_mb"]
    return value, value, value


def _query(row: Row) -> Point:
    return 1000 * row["seconds"], 1000 * row["seconds"], 1000 * row["worst_seconds"]


def _draw(path: Path, rows: Sequence[Row], point: Callable[[Row], Point], label: str, *, marks: tuple[float, ...]) -> None:
    """One line a row, on a logarithmic axis."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(10.5, 0.8 + 0.27 * len(rows)), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for mark in marks:
            axes.axvline(mark, color=LINE, linewidth=0.8, zorder=0)
        for i, row in enumerate(rows):
            middle, low, high = point(row)
            ink = PEER if row["peer"] else FLOOR
            axes.plot([low, high], [i, i], color=ink, linewidth=1.5, solid_capstyle="butt")
            axes.plot([middle], [i], "o" if row["peer"] else "D", color=ink, markersize=4)
        _axis(axes, rows, label)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _axis(axes: Any, rows: Sequence[Row], label: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    if any(row["beside"] for row in rows):
        shapes = [
            Line2D([], [], color=PEER, marker="o", label="a peer"),
            Line2D([], [], color=FLOOR, marker="D", label="a floor: the work without ours"),
        ]
        axes.legend(handles=shapes, fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _name(row: Row) -> str:
    beside = f" / {row['beside']}" if row["beside"] else ""
    return textwrap.shorten(f"{row['arm']}: {row['what']}{beside}", 104, placeholder=" …")
