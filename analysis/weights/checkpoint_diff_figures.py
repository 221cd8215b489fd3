"""Figures of `checkpoint_diff`: from stored rows to specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.layer_maps import block_matrices, layer_map
from figures.spec import Axis, FigureSpec, NothingToDraw

_BASE = ("tensor", "layer", "kind", "role", "shape", "n_weights")
CHANGE = (*_BASE, "relative_change", "changed_share")
ZEROS = (*_BASE, "n_new_zero", "n_zero", "n_zero_base")
RANK = (*_BASE, "relative_change", "stable_rank", "random_rank", "rank_method")
MOST = 30


def _two(provenance: Mapping[str, Any]) -> str:
    return f"{provenance['model_label']} against {provenance['facts']['base_label']}"


def _matrices(rows: Any) -> Any:
    inside = block_matrices(rows)
    if inside.empty:
        raise NothingToDraw("no matrix inside of blocks was matched, so that there is no picture by layer; see the table of tensors.")
    return inside


def draw_change(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Relative change per block matrix: layer by role."""
    shown = _matrices(rows).dropna(subset=["relative_change"])
    return layer_map(
        shown,
        Axis("relative_change", "Change", unit="share of the base's norm"),
        title="Where the weights changed",
        sentence=f"Norm of the difference over the base's norm for {len(shown):,} block matrices, "
        f"{int(shown['n_weights'].sum()):,} weights: {_two(provenance)}. {_said(provenance)}",
        hover=("changed_share", "n_weights"),
    )


def _said(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return f"{facts['verdict'].capitalize()}: {facts['words']}"


def draw_most_changed(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The tensors with the largest relative change."""
    changed = rows[rows["relative_change"].fillna(0) > 0]
    if changed.empty:
        raise NothingToDraw("no matched tensor changed relative to its base, so that there is nothing to rank.")
    shown = changed.sort_values(["relative_change", "tensor"], ascending=[False, True]).head(MOST)
    return FigureSpec(
        kind="bars",
        data=shown[["tensor", "relative_change", "changed_share", "n_weights"]].reset_index(drop=True),
        x=Axis("tensor", "Tensor", scale="category"),
        y=Axis("relative_change", "Change", unit="share of the base's norm"),
        title="Tensors that changed most",
        sentence=f"The {len(shown):,} of {len(rows):,} matched tensors with the largest norm of the difference over the base's norm: "
        f"{_two(provenance)}.",
        hover=("changed_share", "n_weights"),
    )


def draw_new_zeros(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of new zeros per block matrix."""
    if not rows["n_new_zero"].sum():
        raise NothingToDraw("no weight is zero here that is not zero in the base, so that no mask was added.")
    shown = _matrices(rows).query("n_weights > 0").copy()
    shown["new_zero_share"] = shown["n_new_zero"] / shown["n_weights"]
    n_new, n = int(shown["n_new_zero"].sum()), int(shown["n_weights"].sum())
    return layer_map(
        shown,
        Axis("new_zero_share", "New zeros", unit="share of the matrix"),
        title="Weights that became zero",
        sentence=f"Share of weights that are zero here and not in the base: {n_new:,} of {n:,} weights of {len(shown):,} block matrices "
        f"({n_new / n:.3%}); {_two(provenance)}.",
        hover=("n_zero", "n_zero_base", "n_weights"),
    )


def draw_rank(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Stable rank of the difference beside what a random one would have."""
    shown = rows.dropna(subset=["stable_rank", "relative_change"])
    if shown.empty:
        raise NothingToDraw("no matrix changed, so that no difference has a rank.")
    exact = int((shown["rank_method"] != "randomised").sum())
    return FigureSpec(
        kind="scatter",
        data=shown[["tensor", "relative_change", "stable_rank", "random_rank", "kind"]].reset_index(drop=True),
        x=Axis("random_rank", "Stable rank of random entries of the same shape"),
        y=Axis("stable_rank", "Stable rank of the difference"),
        colour=Axis("relative_change", "Change", unit="share of the base's norm"),
        title="How many directions the change takes",
        sentence=f"Stable rank (squared norm over squared largest singular value) of the difference of {len(shown):,} matrices beside "
        f"that of independent random entries: far below, the change lies in few directions. {_two(provenance)}.",
        hover=("tensor", "kind"),
        notes=(f"All singular values of {exact:,} differences were computed, of the others the largest only.",),
    )


def draw_tiles(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The matrix with the most new zeros, or else with the most changed weights, tile by tile."""
    weighed = rows.assign(zeros=rows["new_zero_share"] * rows["n_weights"], changes=rows["changed_share"] * rows["n_weights"])
    sums = weighed.groupby("tensor")[["zeros", "changes"]].sum()
    if rows.empty or not sums["changes"].sum():
        raise NothingToDraw("no weight of a matrix changed, so that there is nothing to show.")
    masked = bool(sums["zeros"].sum())
    tensor = sums["zeros" if masked else "changes"].idxmax()
    column, words = ("new_zero_share", "became zero") if masked else ("changed_share", "changed")
    shown = rows[rows["tensor"] == tensor].sort_values(["tile_row", "tile_column"])
    return FigureSpec(
        kind="heatmap",
        data=shown[["tile_row", "tile_column", column, "n_weights"]].reset_index(drop=True),
        x=Axis("tile_column", "Tile across", scale="category"),
        y=Axis("tile_row", "Tile of rows", scale="category"),
        colour=Axis(column, f"Weights that {words}", unit="share of the tile"),
        title=f"Where weights {words} in {tensor}",
        sentence=f"Share of weights that {words}, in {len(shown):,} tiles of {tensor}, the matrix with most of them: "
        f"{int(shown['n_weights'].sum()):,} weights; {_two(provenance)}.",
        hover=("n_weights",),
    )
