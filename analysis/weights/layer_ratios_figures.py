"""The figures of `layer_ratios`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

OWN = "this checkpoint"
METHOD_ORDER = ("uniform", "uniform+", "er", "erk", "global", "global_floor", "lamp", OWN)
_METHODS = (
    "er and erk follow the sizes of axes, global keeps the largest |w| of all tensors, global_floor at least a number per tensor, "
    "lamp the largest LAMP scores."
)


def _shown(rows: Any, provenance: Mapping[str, Any]) -> tuple[Any, float]:
    """Rows at the density the figures show, the checkpoint's own densities as one more method."""
    import pandas as pd

    level = provenance["facts"]["shown_density"]
    shown = rows[(rows["density"] - level).abs() < 1e-12]
    own = shown[shown["method"] == "uniform"].assign(method=OWN, tensor_density=lambda one: one["own_density"])
    both = pd.concat([shown, own], ignore_index=True)
    both["kept"] = both["tensor_density"] * both["n_weights"]
    return both, level


def _words(provenance: Mapping[str, Any], level: float) -> str:
    facts = provenance["facts"]
    return (
        f"at an overall density of {level:.4g}: {facts['n_tensors']:,} tensors of {provenance['model_label']} with {facts['n_weights']:,} "
        f"weights ({facts['scope']}), of which {facts['own_density']:.2%} are not zero"
    )


def _pooled(rows: Any, by: str) -> Any:
    """Kept / weights over all tensors of a group, by method."""
    sums = rows.groupby([by, "method"], as_index=False, sort=False).agg(
        kept=("kept", "sum"), n_weights=("n_weights", "sum"), n_tensors=("tensor", "count")
    )
    sums["share"] = sums["kept"] / sums["n_weights"]
    return sums


def draw_per_layer(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Density per block, a line per method."""
    shown, level = _shown(rows, provenance)
    inside = shown[shown["layer"].notna()]
    if inside.empty:
        raise NothingToDraw(f"{provenance['model_label']} has no numbered blocks: see the densities per matrix.")
    pooled = _pooled(inside, "layer").sort_values(["method", "layer"]).reset_index(drop=True)
    return FigureSpec(
        kind="line",
        data=pooled,
        x=Axis("layer", "Layer"),
        y=Axis("share", "Density", unit="kept share of the layer's weights", bounds=(0.0, 1.0)),
        series=Series("method", "Method", order=METHOD_ORDER),
        title="How methods share the density out among layers",
        sentence=f"Kept weights / weights of each block {_words(provenance, level)}.",
        hover=("n_weights", "n_tensors"),
        notes=(_METHODS,),
    )


def draw_per_role(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Density per kind of matrix, bars per method."""
    shown, level = _shown(rows, provenance)
    return FigureSpec(
        kind="bars",
        data=_pooled(shown, "role"),
        x=Axis("role", "Matrix", scale="category"),
        y=Axis("share", "Density", unit="kept share of its weights in all layers", bounds=(0.0, 1.0)),
        series=Series("method", "Method", order=METHOD_ORDER),
        title="How methods share the density out among kinds of matrices",
        sentence=f"Kept weights / weights of each kind of matrix, over all layers, {_words(provenance, level)}.",
        hover=("n_weights", "n_tensors"),
        notes=(_METHODS,),
    )


def draw_least(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Least density of any tensor over the overall density: where it meets the floor, a layer is about to collapse."""
    known = rows[rows["least_density"].notna()].sort_values(["method", "density"]).reset_index(drop=True)
    collapsed = known[known["n_collapsed"] > 0]
    facts = provenance["facts"]
    told = ", ".join(sorted(f"{m} up to density {d:.3g}" for m, d in collapsed.groupby("method")["density"].max().items()))
    return FigureSpec(
        kind="line",
        data=known,
        x=Axis("density", "Overall density", unit="kept share of all weights"),
        y=Axis("least_density", "Least density of any tensor", unit="kept share of its weights"),
        series=Series("method", "Method", order=METHOD_ORDER[:-1]),
        title="How thin the thinnest tensor becomes",
        sentence=f"Least density of any of {facts['n_tensors']:,} tensors of {provenance['model_label']} ({facts['n_weights']:,} weights) "
        f"over the overall density; tensors that keep nothing: {told or 'none, under no method'}.",
        hover=("n_collapsed", "n_repaired", "distance"),
    )


_COLUMNS = ("density", "method", "tensor", "layer", "role", "n_weights", "tensor_density", "own_density")
FIGURES = (
    ("per_layer", "Density per layer", "layer_ratios", draw_per_layer, _COLUMNS),
    ("per_matrix", "Density per kind of matrix", "layer_ratios", draw_per_role, _COLUMNS),
    (
        "least_density",
        "Thinnest tensor",
        "ratio_totals",
        draw_least,
        ("density", "method", "least_density", "n_collapsed", "n_repaired", "distance"),
    ),
)
