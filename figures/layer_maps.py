"""The picture most weight analyses draw: a cell per layer and matrix, coloured by one number."""

from __future__ import annotations

from typing import Any

from figures.spec import Axis, FigureSpec

MATRIX = Axis("role", "Matrix", scale="category")


def layer_map(
    rows: Any,
    colour: Axis,
    *,
    title: str,
    sentence: str,
    hover: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    layer: str = "layer",
    down: Axis = MATRIX,
) -> FigureSpec:
    """A heat map of layer by role (or by what ``down`` says); a row a cell, in the order of ``rows``.

    rows: a data frame with the columns ``layer`` and ``down``, that of ``colour``, and those of ``hover``.
    """
    return FigureSpec(
        kind="heatmap",
        data=rows[[layer, down.column, colour.column, *hover]].reset_index(drop=True),
        x=Axis(layer, "Layer", scale="category"),
        y=down,
        colour=colour,
        title=title,
        sentence=sentence,
        hover=hover,
        notes=notes,
    )


def block_matrices(rows: Any) -> Any:
    """Rows of tensors inside numbered blocks that have two axes or more, by layer and then name; they hold layer, shape and tensor."""
    inside = rows["layer"].notna() & (rows["shape"].map(len) >= 2)
    return rows[inside].sort_values(["layer", "tensor"])
