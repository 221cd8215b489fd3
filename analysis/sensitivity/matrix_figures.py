"""Figures of `matrix_sensitivity`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

SHOWN = 30
MIDDLE = 0.5
WHOLES = ("sublayer", "block")
"""Kinds of which a layer has one each by name, not a number of alike ones."""
ALONE = "Each is pruned alone, all other weights left as they are; increases of several do not simply add up."


def _at_a_level(rows: Any) -> tuple[Any, float]:
    """The rows of the fixed level next to one half."""
    rows = rows[rows["stage"] == "grid"] if "stage" in rows else rows
    if not len(rows):
        raise NothingToDraw("Nothing of this kind has been measured.")
    level = min(rows["level"].unique(), key=lambda one: abs(one - MIDDLE))
    return rows[rows["level"] == level], float(level)


def _measured_on(shown: Any, provenance: Mapping[str, Any]) -> str:
    n, documents = int(shown["n"].max()), int(shown["n_documents"].max())
    return f"{n:,} positions of {documents:,} documents ({shown['split'].iloc[0]} of {provenance['data']})"


def draw_grid(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by matrix: the increase of the loss at one level."""
    shown, level = _at_a_level(rows[rows["kind"] == "matrix"])
    shown = shown.sort_values(["layer", "role"])
    place = ["outside" if missing else str(int(layer)) for layer, missing in zip(shown["layer"], shown["layer"].isna())]
    shown = shown.assign(place=place).reset_index(drop=True)
    unit = str(shown["unit"].iloc[0])
    n_hidden = int((~shown["resolved"]).sum())
    return FigureSpec(
        kind="heatmap",
        data=shown[["place", "role", "delta", "low", "high", "achieved", "tensor"]],
        x=Axis("place", "Layer", scale="category"),
        y=Axis("role", "Matrix", scale="category"),
        colour=Axis("delta", "Loss above dense", unit=unit),
        title=f"What it costs to remove {level:.0%} of one matrix",
        sentence=f"Increase of the loss of {provenance['model_label']} when {level:.0%} of one matrix is removed, for {len(shown):,} "
        f"matrices, on {_measured_on(shown, provenance)}; {n_hidden:,} of them cannot be told from no change.",
        hover=("tensor", "low", "high", "achieved"),
        notes=(ALONE,),
    )


def draw_parts(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Heads, or groups of neurons: layer by number; sublayers and blocks by what they are."""
    parts = rows[rows["kind"] != "matrix"]
    if not len(parts):
        raise NothingToDraw("Nothing but matrices was asked for; set units to matrices, heads, ffn, sublayers, blocks.")
    parts = parts[parts["kind"] == parts["kind"].iloc[0]]
    level = float(parts["level"].max())
    shown = parts[parts["level"] == level].copy()
    shown["place"] = shown["layer"].fillna(-1).astype(int).astype(str)
    numbers = shown.groupby(["layer", "role"], dropna=False).cumcount().astype(str)
    shown["part"] = shown["role"] if str(shown["kind"].iloc[0]) in WHOLES else numbers
    kind, unit = str(shown["kind"].iloc[0]), str(shown["unit"].iloc[0])
    return FigureSpec(
        kind="heatmap",
        data=shown[["place", "part", "delta", "low", "high", "tensor"]].reset_index(drop=True),
        x=Axis("place", "Layer", scale="category"),
        y=Axis("part", kind.capitalize(), scale="category"),
        colour=Axis("delta", "Loss above dense", unit=unit),
        title=f"What it costs to remove {level:.0%} of one {kind}",
        sentence=f"Increase of the loss of {provenance['model_label']} when {level:.0%} of the weights of one {kind} is removed, for "
        f"{len(shown):,} of them, on {_measured_on(shown, provenance)}.",
        hover=("tensor", "low", "high"),
        notes=(ALONE,),
    )


def draw_ranking(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The most sensitive first."""
    shown = rows[rows["area"].notna()]
    if not len(shown):
        raise NothingToDraw("Nothing has been measured yet.")
    shown = shown[shown["kind"] == ("matrix" if "matrix" in set(shown["kind"]) else shown["kind"].iloc[0])]
    n, kind = len(shown), str(shown["kind"].iloc[0])
    shown = shown.sort_values("rank").head(SHOWN).reset_index(drop=True)
    facts = provenance.get("facts") or {}
    levels = ", ".join(f"{level:g}" for level in facts.get("levels", ()))
    return FigureSpec(
        kind="bars",
        data=shown[["tensor", "area", "low", "high", "rank", "rank_low", "rank_high", "words"]],
        x=Axis("tensor", kind.capitalize(), scale="category"),
        y=Axis("area", "Mean loss increase", unit=str(facts.get("unit", ""))),
        title="The most sensitive",
        sentence=f"Mean increase of the loss of {provenance['model_label']} over the levels {levels}, for the {len(shown):,} most "
        f"sensitive of {n:,}, on {facts.get('n_scored', 0):,} positions of {facts.get('n_documents_measured', 0):,} documents.",
        hover=("low", "high", "rank", "rank_low", "rank_high", "words"),
        notes=(ALONE, "Ranks have intervals: neighbours often cannot be told apart."),
    )


def draw_proxies(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Predicted over measured, each prediction by its rank, since their units differ."""
    measured = rows[rows["delta"].notna()]
    if not len(measured):
        raise NothingToDraw("There are no predictions with a measurement beside them.")
    shown, level = _at_a_level(measured)
    shown = shown.assign(predicted=shown.groupby("proxy")["value"].rank(), found=shown.groupby("proxy")["delta"].rank()).reset_index(
        drop=True
    )
    facts = provenance.get("facts") or {}
    said = [one for one in facts.get("agreement", ()) if one["level"] == level and one["spearman"] is not None]
    words = " ".join(f"{one['proxy'].capitalize()}: rank correlation {one['spearman']:.2f}, {one['words']}." for one in said)
    n = int(shown.groupby("proxy").size().max())
    return FigureSpec(
        kind="scatter",
        data=shown[["predicted", "found", "proxy", "value", "delta", "tensor"]],
        x=Axis("predicted", "Rank of the prediction"),
        y=Axis("found", "Rank of the measured increase"),
        series=Series("proxy", "Prediction"),
        title="May the prediction be trusted?",
        sentence=f"Ranks of {n:,} matrices of {provenance['model_label']} at {level:.0%} removed, predicted and measured. {words}",
        hover=("tensor", "value", "delta"),
        notes=(f"Second moments: {facts.get('second_moments', 'none')}.", *([facts["no_gradients"]] if "no_gradients" in facts else [])),
    )
