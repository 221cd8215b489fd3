"""The pictures of one tensor as specs: from rows of its tables to a figure. Nothing here asks or draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, Mark, NothingToDraw, Series
from ui.weights.rows import size_text
from ui.words import count, percent

Row = Mapping[str, Any]
Frame = Any
"""A data frame: the stubs of pandas call a column and a selection both."""
PROFILES: Mapping[str, tuple[str, str]] = {
    "norm": ("Mean norm", ""),
    "largest_norm": ("Largest norm", ""),
    "strength": ("Mean sum of |w|", ""),
    "zero_share": ("Exact zeros", "share of the weights"),
}
"""What a profile over rows or columns may show: column, words, unit."""
_WIDE = 30
"""Largest cell over smallest from which the thumbnail's colours are logarithmic."""
OWN = "this checkpoint"


def histogram_spec(row: Row, bins: Frame, near: float) -> FigureSpec:
    """Magnitudes on a logarithmic axis; exact zeros have no place there and are told."""
    shown = bins[bins["low"] > 0].assign(
        high=lambda one: one["high"].fillna(max(row["max_abs"] * (1 + 1e-9), float(one["low"].max()) * 1.1))
    )
    small = int(bins.loc[bins["low"] == 0, "n_weights"].sum())
    if shown.empty:
        raise NothingToDraw(f"all {row['n_weights']:,} weights are below 2⁻²⁰, so none has a place on a logarithmic axis.")
    low, high = float(shown["low"].min()), float(shown["high"].max())
    marks = [Mark(row["rms"], "root mean square"), Mark(near * row["rms"], f"near zero: {near:g} × it")]
    left = (
        f" {small:,} lie below 2⁻²⁰, {row['n_zero']:,} of them exact zeros, and are not drawn." if small else " None is zero or below 2⁻²⁰."
    )
    return FigureSpec(
        kind="histogram",
        data=shown[["low", "high", "n_weights"]].reset_index(drop=True),
        x=Axis("low", "|w|", scale="log", bounds=(low, high)),
        y=Axis("n_weights", "Weights"),
        x_end="high",
        title="Magnitudes",
        sentence=f"How many weights have which magnitude: n = {row['n_weights']:,} weights of {row['tensor']}, in bins of an "
        f"eighth of an octave.{left}",
        marks=tuple(mark for mark in marks if low <= mark.x <= high),
    )


def profile_spec(row: Row, lines: Frame, kind: str, what: str) -> FigureSpec:
    """One number along the rows or the columns."""
    if lines.empty:
        raise NothingToDraw(f"no profile of its {kind}s was stored.")
    words, unit = PROFILES[what]
    n = int(lines["stop"].max())
    wide = int((lines["stop"] - lines["start"]).max())
    dead = int(lines["n_zero_lines"].sum())
    binned = f", in bins of {wide}" if wide > 1 else ""
    meaning = "an output" if kind == "row" else "an input"
    said = f"{count(dead, kind)} {'is' if dead == 1 else 'are'} all zero." if dead else f"No {kind} is all zero."
    return FigureSpec(
        kind="line",
        data=lines[["start", "stop", what, "n_zero_lines"]].reset_index(drop=True),
        x=Axis("start", kind.capitalize(), bounds=(-0.5, n - 0.5)),
        y=Axis(what, words, unit),
        title=f"Along its {kind}s",
        sentence=f"{words}{f' ({unit})' if unit else ''} of each {kind}, which is {meaning}: n = {count(n, kind)} of "
        f"{row['tensor']}{binned}. {said}",
        hover=("stop", "n_zero_lines"),
    )


def thumbnail_spec(row: Row, tiles: Frame) -> FigureSpec:
    """Root mean square of the weights, cell by cell, the first row on top."""
    import numpy as np
    import pandas as pd

    if tiles.empty:
        raise NothingToDraw("no thumbnail of it was stored.")
    width, cells = int(tiles["width"].iloc[0]), np.stack(tiles["rms"].to_list())
    starts = tiles["start"].to_numpy()
    data = pd.DataFrame(
        {
            "row": np.repeat(starts, cells.shape[1]),
            "column": np.tile(np.arange(cells.shape[1]) * width, len(starts)),
            "rms": cells.ravel(),
        }
    )
    positive = cells[cells > 0]
    log = len(positive) > 0 and positive.max() > _WIDE * positive.min()
    empty = int((cells == 0).sum())
    tall = int((tiles["stop"] - tiles["start"]).max())
    stack = f" Its {row['n_matrices']:,} matrices lie on each other, as the mean square." if row["n_matrices"] > 1 else ""
    same = len(positive) > 0 and cells.min() == cells.max()
    return FigureSpec(
        kind="heatmap",
        data=data,
        x=Axis("column", "First column", scale="category"),
        y=Axis("row", "First row", scale="category"),
        colour=Axis("rms", "Root mean square", scale="log" if log else "linear", bounds=(0.0, 2 * float(cells.max())) if same else None),
        title="The matrix",
        sentence=f"Root mean square of the weights in cells of {tall} rows by {width} columns: n = {cells.size:,} cells of "
        f"{row['tensor']}. "
        f"{f'{empty:,} of them are' if empty else 'None is'} all zero.{stack}",
    )


def spectrum_spec(row: Row, curve: Frame, spectrum: Row) -> FigureSpec:
    """Singular values, and the share of the squares they hold together, over rank."""
    names = {"relative_value": "singular value / largest", "energy": "energy up to it", "error": "error of that rank"}
    data = curve.melt(["rank", "value", "parameter_ratio"], list(names), "what", "share")
    data["what"] = data["what"].map(names)
    marks = ((spectrum["stable_rank"], "stable rank"), (spectrum["effective_rank"], "effective rank"))
    method = "all of them" if spectrum["exact"] else f"the {spectrum['n_computed']:,} largest, by a randomised method"
    return FigureSpec(
        kind="line",
        data=data.reset_index(drop=True),
        x=Axis("rank", "Rank", scale="log"),
        y=Axis("share", "Share", bounds=(0.0, 1.02)),
        series=Series("what", "Over rank", tuple(names.values())),
        title="Spectrum",
        sentence=f"Singular values of {row['tensor']} (matrix of {spectrum['n_out']:,} × {spectrum['n_in']:,}), {method}; "
        f"n = {len(curve):,} ranks drawn. Energy: share of the squares; error: ||W - W_r|| / ||W||. "
        f"From rank {spectrum['break_even_rank']:,} on two factors cost as much as the matrix.",
        hover=("value", "parameter_ratio"),
        marks=tuple(Mark(float(at), words) for at, words in marks if at is not None),
    )


def ratios_spec(row: Row, ratios: Frame, level: float, scope: str) -> FigureSpec:
    """The density that every method would give this tensor, beside the one it has."""
    import pandas as pd

    if ratios.empty:
        raise NothingToDraw(f"densities were not shared out to this tensor, only to: {scope}.")
    own = pd.DataFrame(
        {"method": [OWN], "tensor_density": [float(ratios["own_density"].iloc[0])], "collapsed": [False], "repaired": [False]}
    )
    data = pd.concat([ratios[list(own)], own], ignore_index=True)
    return FigureSpec(
        kind="bars",
        data=data,
        x=Axis("method", "Method", scale="category"),
        y=Axis("tensor_density", "Density", "kept share of its weights", bounds=(0.0, 1.0)),
        title="Density that methods would give it",
        sentence=f"Kept weights / weights of {row['tensor']} ({row['n_weights']:,} weights) where the checkpoint as a whole keeps "
        f"{percent(level)}; {OWN}: {percent(float(own['tensor_density'].iloc[0]))} are not zero.",
        hover=("collapsed", "repaired"),
    )


def series_spec(row: Row, steps: Frame) -> FigureSpec:
    """Zeros of the tensor over the checkpoints of a series."""
    names = {"zero_share": "exactly zero", "near_zero_share": "near zero", "below_share": "below the threshold"}
    data = steps.melt(["step"], list(names), "measure", "share")
    data["measure"] = data["measure"].map(names)
    first, last = int(steps["step"].min()), int(steps["step"].max())
    return FigureSpec(
        kind="line",
        data=data.reset_index(drop=True),
        x=Axis("step", "Checkpoint", "training step", "log" if 0 < first * 100 < last else "linear"),
        y=Axis("share", "Weights", "share of the tensor", bounds=(0.0, 1.0)),
        series=Series("measure", "Weights that are", tuple(names.values())),
        title="Over the series",
        sentence=f"Share of small weights of {row['tensor']} ({row['n_weights']:,} weights) at n = {count(len(steps), 'checkpoint')}.",
    )


def headline(row: Row) -> str:
    """Kind, size and type of a tensor (text)."""
    parts = [str(row["kind"]), size_text(row["shape"]), str(row["dtype"]), f"{row['n_weights']:,} weights"]
    if row["owner"]:
        parts.insert(1, str(row["owner"]))
    if row["layer"] is not None:
        parts.insert(0, f"layer {int(row['layer'])}")
    return " · ".join(parts)
