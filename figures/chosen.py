"""A figure of any table: whoever looks at it chooses the kind and what is drawn along its axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from figures.spec import Axis, FigureError, FigureSpec, Kind, Series

if TYPE_CHECKING:
    import pandas as pd

ChosenKind = Literal["bars", "stacked_bars", "line", "scatter", "heatmap", "histogram"]
CHOSEN_KINDS: tuple[ChosenKind, ...] = get_args(ChosenKind)
MAX_SERIES = 16
"""Colours and dashes repeat beyond."""
MAX_BARS = 500
"""Bars that can be told apart on a wide screen."""
N_BINS = 40


@dataclass(frozen=True)
class Choice:
    """What is drawn: columns of the table by name."""

    kind: ChosenKind
    x: str
    y: str = ""
    """Not read by a histogram."""
    series: str = ""
    """What tells rows apart, by colour; empty for none. Not read by a heatmap or a histogram."""
    colour: str = ""
    """The numbers of a heatmap, and of a scatter without series; empty for none."""
    log_x: bool = False
    log_y: bool = False


def chosen_spec(frame: pd.DataFrame, choice: Choice, *, title: str, of: str, notes: tuple[str, ...] = ()) -> FigureSpec:
    """The spec. ``of`` says in words what the rows are. Raises `FigureError`, one sentence, for what cannot be drawn."""
    wanted = [choice.x, *([choice.y] if choice.kind != "histogram" else []), choice.series, choice.colour]
    missing = [name for name in wanted if name and name not in frame.columns]
    if missing or not choice.x or (choice.kind != "histogram" and not choice.y):
        raise FigureError(
            f"a {named(choice.kind)} must have its columns in the table, got {missing or 'an axis without one'}; choose others."
        )
    if choice.kind == "heatmap" and not choice.colour:
        raise FigureError("a heatmap must have a column of numbers as its colour, got none; choose one.")
    if choice.kind == "histogram":
        return _histogram(frame, choice, title, of, notes)
    series = choice.series if choice.kind != "heatmap" else ""
    colour = choice.colour if choice.kind == "heatmap" or (choice.kind == "scatter" and not series) else ""
    columns = list(dict.fromkeys(name for name in (choice.x, choice.y, series, colour) if name))
    _check_size(frame, choice.kind, choice.x, series)
    words = "".join([f", by {series}" if series else "", f", {colour} as colour" if colour else ""])
    return FigureSpec(
        kind=choice.kind,
        data=frame.reset_index(drop=True).filter(items=columns),
        x=_axis(frame, choice.x, choice.log_x, category=choice.kind in ("bars", "stacked_bars", "heatmap")),
        y=_axis(frame, choice.y, choice.log_y, category=choice.kind == "heatmap"),
        series=Series(series, series) if series else None,
        colour=Axis(colour, colour) if colour else None,
        title=title,
        sentence=f"{choice.y} over {choice.x}{words}; n = {len(frame):,} rows, {of}.",
        notes=notes,
    )


def _histogram(frame: pd.DataFrame, choice: Choice, title: str, of: str, notes: tuple[str, ...]) -> FigureSpec:
    """Bins of equal width (equal in log x where asked for) over all values of one column; missing ones are counted in the sentence."""
    import numpy as np
    import pandas as pd

    values = _numbers(frame, choice.x)
    values = values[np.isfinite(values)]
    if choice.log_x:
        values = values[values > 0]
    if not len(values):
        raise FigureError(
            f"a histogram must have a number to count{' above 0' if choice.log_x else ''}, got none in {choice.x}; choose another."
        )
    scaled = np.log10(values) if choice.log_x else values
    counts, edges = np.histogram(scaled, bins=N_BINS if scaled.min() < scaled.max() else 1)
    edges = 10**edges if choice.log_x else edges
    left = len(frame) - len(values)
    said = f", {left:,} more without a value{' above 0' if choice.log_x else ''}" if left else ""
    return FigureSpec(
        kind="histogram",
        data=pd.DataFrame({choice.x: edges[:-1], "to": edges[1:], "rows": counts}),
        x=Axis(choice.x, choice.x, scale="log" if choice.log_x else "linear"),
        x_end="to",
        y=Axis("rows", "Rows", scale="log" if choice.log_y else "linear"),
        title=title,
        sentence=f"Histogram of {choice.x}; n = {len(values):,} rows{said}, {of}.",
        notes=notes,
    )


def _numbers(frame: pd.DataFrame, column: str) -> Any:
    """The values as float64, missing ones as NaN."""
    import pandas as pd

    if not bool(pd.api.types.is_numeric_dtype(frame[column])):
        raise FigureError(f"a histogram must be of numbers, got {column}, which holds {frame[column].dtype}; choose another column.")
    return frame[column].to_numpy(dtype=float, na_value=float("nan"))


def _axis(frame: pd.DataFrame, column: str, log: bool, *, category: bool) -> Axis:
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(frame[column]) and not pd.api.types.is_bool_dtype(frame[column])
    if category or not numeric:
        return Axis(column, column, scale="category" if category or not log else "linear")
    return Axis(column, column, scale="log" if log else "linear")


def _check_size(frame: pd.DataFrame, kind: Kind, x: str, series: str) -> None:
    if series and (n := _distinct(frame, series)) > MAX_SERIES:
        raise FigureError(f"what tells rows apart must have at most {MAX_SERIES} values, got {n:,} in {series}; filter or group the rows.")
    if kind in ("bars", "stacked_bars") and (n := _distinct(frame, x)) > MAX_BARS:
        raise FigureError(f"bars must be at most {MAX_BARS}, got {n:,} values of {x}; group the rows, or choose a line or a histogram.")


def _distinct(frame: pd.DataFrame, column: str) -> int:
    return len(frame[[column]].drop_duplicates())


def named(kind: str) -> str:
    """A kind of figure in words."""
    return kind.replace("_", " ")
