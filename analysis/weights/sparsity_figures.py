"""The figures of `weight_sparsity`: pure functions from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.spec import Figure
from figures.layer_maps import block_matrices, layer_map
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

STRUCTURES = ("rows", "columns", "rows and columns", "N of M kept", "blocks", "unstructured", "all zero", "other")
"""The order zeros are drawn in, from what hardware skips most easily on."""


def _denominator(rows: Any, provenance: Mapping[str, Any]) -> str:
    return f"{len(rows)} block matrices of {provenance['model_label']}, {int(rows['n_weights'].sum()):,} weights"


def draw_pq_index(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """PQ Index per block matrix: layer by role."""
    shown = block_matrices(rows).dropna(subset=["pq_index"])
    return layer_map(
        shown,
        Axis("pq_index", "PQ Index"),
        title="How concentrated the magnitudes of each weight matrix are",
        sentence=f"PQ Index (p = 0.5, q = 1) of {_denominator(shown, provenance)}: "
        "0 when all magnitudes are equal, towards 1 when few weights carry all; it does not change with the scale of a matrix.",
        hover=("n_weights",),
    )


def draw_near_zeros(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of near-zero weights per block matrix: layer by role."""
    shown, near = block_matrices(rows), provenance["config"]["near"]
    exact = shown["n_zero"].sum() / shown["n_weights"].sum()
    return layer_map(
        shown,
        Axis("near_zero_share", "Near-zero weights", unit="share of the matrix"),
        title="Weights that are zero or nearly so",
        sentence=f"Share of weights with |w| at most {near:g} times the matrix' root mean square, exact zeros among them; "
        f"{_denominator(shown, provenance)}, {exact:.3%} of them exactly zero.",
        hover=("zero_share", "n_weights"),
    )


def draw_retained(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """What 2 of 4 would retain of each block matrix: layer by role."""
    shown = rows[(rows["pattern"] == "2 of 4 kept") & (rows["along"] == "input") & rows["layer"].notna()]
    shown = shown.dropna(subset=["retained_energy"]).sort_values(["layer", "tensor"])
    if shown.empty:
        raise NothingToDraw(f"{provenance['model_label']} has no matrices inside blocks, so there is nothing to keep 2 of 4 of.")
    whole = int((shown["n_conforming"] == shown["n_groups"]).sum())
    return layer_map(
        shown,
        Axis("retained_energy", "Energy kept", unit="share of the squares"),
        title="What keeping 2 of 4 weights would retain",
        sentence=f"Share of the squares left when the 2 largest |w| of every 4 along the input are kept, per matrix of "
        f"{provenance['model_label']}; {whole} of {len(shown)} matrices conform already. A normal distribution keeps 0.87.",
        hover=("conforming_share", "n_groups"),
    )


def draw_structure(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Zeros of the matrices of each role by the structure they lie in."""
    import pandas as pd

    shown = rows[rows["shape"].map(len) >= 2]
    if not shown["n_zero"].sum():
        raise NothingToDraw(f"{provenance['model_label']} has no exact zeros in its {len(shown):,} matrices, so they have no structure.")
    names = shown["structure"].map(structure_group)
    sums = shown.assign(structure=names).groupby(["role", "structure"], as_index=False)["n_zero"].sum().query("n_zero > 0")
    totals = shown.groupby("role")["n_weights"].sum()
    data = pd.DataFrame({**sums[["role", "structure", "n_zero"]], "share": sums["n_zero"] / sums["role"].map(totals)})
    n, zeros = int(shown["n_weights"].sum()), int(shown["n_zero"].sum())
    return FigureSpec(
        kind="stacked_bars",
        data=data,
        x=Axis("role", "Matrix", scale="category"),
        y=Axis("share", "Exact zeros", unit="share of the weights"),
        series=Series("structure", "Structure of the matrix", tuple(s for s in STRUCTURES if s in set(data["structure"]))),
        title="Exact zeros by the structure they lie in",
        sentence=f"{zeros:,} exact zeros among {n:,} weights of the {len(shown):,} matrices of {provenance['model_label']}, all layers "
        "of a role together, by what each matrix is pruned to; other: dense matrices with a few zeros, and those not finite or constant.",
    )


def structure_group(structure: str) -> str:
    """The word of a matrix as one of `STRUCTURES`."""
    if structure.endswith("kept"):
        return "N of M kept"
    return "blocks" if structure.startswith("blocks") else structure if structure in STRUCTURES else "other"


_COLUMNS = ("tensor", "layer", "role", "shape", "n_weights", "n_zero")
_PATTERN_COLUMNS = ("tensor", "layer", "role", "along", "pattern", "n_groups", "n_conforming", "conforming_share", "retained_energy")

FIGURES = (
    Figure("pq_index", "PQ Index per matrix", "tensors", draw_pq_index, (*_COLUMNS, "pq_index")),
    Figure("near_zeros", "Near-zero weights per matrix", "tensors", draw_near_zeros, (*_COLUMNS, "zero_share", "near_zero_share")),
    Figure("retained_energy", "Energy kept by 2 of 4 per matrix", "tensor_patterns", draw_retained, _PATTERN_COLUMNS),
    Figure("zero_structure", "Zeros by structure", "tensors", draw_structure, (*_COLUMNS, "structure")),
)
