"""What a figure is: tidy data, how its columns are shown, and words. Nothing here draws.

A spec is made by a pure function from stored rows, so that every figure can be redrawn from a sealed run alone;
`figures.screen` draws it with Plotly, `figures.paper` with matplotlib, and both must show the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd


SUFFIXES: tuple[str, ...] = ("pdf", "svg", "png", "html", "csv", "parquet", "tex", "pgf")
Kind = Literal["stacked_bars", "bars", "histogram", "line", "scatter", "heatmap", "treemap"]


class FigureError(ValueError):
    """A figure that cannot be drawn or written. Its text is one sentence: what, why, what to do."""


class NothingToDraw(FigureError):
    """A figure that does not apply to this run: nothing went wrong, there is nothing to show. Its text says why, as one sentence."""


@dataclass(frozen=True)
class Axis:
    """One axis: the column it shows, and the words and scale it is shown with."""

    column: str
    label: str
    unit: str = ""
    """Unit as printed after the label, e.g. ``share of tokens``; empty where the label says it all."""
    scale: Literal["linear", "log", "category"] = "linear"
    bounds: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """Label with its unit in brackets."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Series:
    """How rows are told apart: the column, the order of its values, and the name of a palette."""

    column: str
    label: str
    order: tuple[str, ...] = ()
    palette: str = "qualitative"
    """A name in `figures.palettes`: ``qualitative``, ``activity`` (dead/rare/.../dense) or ``sequential``."""


@dataclass(frozen=True)
class Mark:
    """A place along a numeric x that a line across the figure marks."""

    x: float
    label: str


@dataclass(frozen=True)
class FigureSpec:
    """A figure as data.

    ``kind`` decides which encodings are read:

    - ``stacked_bars``: one bar per ``x``, pieces by ``series``, heights ``y``;
    - ``bars``: one bar per ``x``, height ``y``, grouped by ``series`` where given;
    - ``histogram``: binned counts already made: ``x`` the left edge, ``x_end`` the right edge, ``y`` the count;
    - ``line``: ``y`` over ``x``, one line per ``series``, band ``y_low``..``y_high`` where given;
    - ``scatter``: points, coloured by ``series`` (categories) or ``colour`` (numbers);
    - ``heatmap``: cells at ``x``, ``y`` coloured by ``colour``;
    - ``treemap``: a rectangle per row, named ``x``, as large as ``y``, coloured by ``colour``, inside the frame of its ``series``.
    """

    kind: Kind
    data: pd.DataFrame
    x: Axis
    y: Axis
    title: str
    sentence: str
    """What the figure shows, with its n and its unit: the caption on screen and on paper."""
    series: Series | None = None
    colour: Axis | None = None
    x_end: str | None = None
    y_low: str | None = None
    y_high: str | None = None
    hover: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Further sentences (limits, definitions) shown under the figure and written into the provenance."""
    marks: tuple[Mark, ...] = ()
    """Read by ``line``, ``histogram`` and ``scatter`` where x is a number."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are drawn or told on hovering, each once; the data may hold more."""
        axes = (self.x, self.y, self.colour)
        used = [self.series.column] if self.series is not None else []
        used = [self.x.column, self.x_end, *used, *(axis.column for axis in axes if axis is not None), self.y_low, self.y_high, *self.hover]
        return tuple(dict.fromkeys(column for column in used if column is not None))
