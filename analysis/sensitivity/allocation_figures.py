"""Figures of `allocation`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

MIDDLE = 0.5
ADDED = "The prediction adds up what each matrix costs alone; the measured curve shows how far that holds."


def draw_shares(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by matrix: the share that goes, at the overall level next to one half."""
    if not len(rows):
        raise NothingToDraw("No level has been shared out yet.")
    level = min(rows["level"].unique(), key=lambda one: abs(one - MIDDLE))
    shown = rows[rows["level"] == level].sort_values(["layer", "role"])
    place = ["outside" if missing else str(int(layer)) for layer, missing in zip(shown["layer"], shown["layer"].isna())]
    return FigureSpec(
        kind="heatmap",
        data=shown.assign(place=place)[["place", "role", "share", "tensor", "n_weights", "predicted"]].reset_index(drop=True),
        x=Axis("place", "Layer", scale="category"),
        y=Axis("role", "Matrix", scale="category"),
        colour=Axis("share", "Removed", unit="share of the matrix", bounds=(0, 1)),
        title=f"How {level:.0%} is shared out",
        sentence=f"Share of each of {len(shown):,} matrices of {provenance['model_label']} that goes when {level:.0%} of "
        f"{int(shown['n_weights'].sum()):,} weights are removed at the least predicted loss.",
        hover=("tensor", "n_weights", "predicted"),
        notes=(ADDED,),
    )


def draw_outcomes(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss with the allocation minus loss with each other way, over levels."""
    shown = rows[(rows["other"] != "dense") & rows["difference"].notna()].sort_values(["other", "level"])
    if not len(shown):
        raise NothingToDraw("Nothing has been compared yet.")
    n, documents = int(shown["n"].max()), int(shown["n_documents"].max())
    return FigureSpec(
        kind="line",
        data=shown[["level", "other", "difference", "low", "high", "words"]].reset_index(drop=True),
        x=Axis("level", "Weights removed", unit="share of the scope", bounds=(0, 1)),
        y=Axis("difference", "Loss of the allocation minus loss of the other", unit=str(shown["unit"].iloc[0])),
        y_low="low",
        y_high="high",
        series=Series("other", "Compared with"),
        title="The allocation beside others",
        sentence=f"Loss of {provenance['model_label']} with the allocation minus its loss with other ways of sharing out, on {n:,} "
        f"positions of {documents:,} documents ({shown['split'].iloc[0]} of {provenance['data']}), with 95 % intervals; below 0 the "
        "allocation is better.",
        hover=("words",),
        notes=(ADDED,),
    )
