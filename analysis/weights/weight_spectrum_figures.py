"""The figures of `weight_spectrum`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.layer_maps import layer_map
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

METHOD_ORDER = ("low_rank", "sparse", "sparse_low_rank", "dense_sparse")


def _n(rows: Any, provenance: Mapping[str, Any]) -> str:
    return f"{len(rows):,} matrices in the blocks of {provenance['model_label']}"


def _map(
    rows: Any, provenance: Mapping[str, Any], column: str, axis: Axis, title: str, sentence: str, hover: tuple[str, ...]
) -> FigureSpec:
    """Layer by role, coloured by a column; of stacked experts the mean."""
    known = rows[rows["layer"].notna() & rows[column].notna()]
    if known.empty:
        raise NothingToDraw(f"{provenance['model_label']} has no matrix in a numbered block with this number: see the table.")
    cells = known.groupby(["layer", "role"], as_index=False, sort=False)[[column, *hover]].mean()
    n_random = int((~known["exact"]).sum())
    return layer_map(
        cells.sort_values(["layer", "role"]),
        axis,
        title=title,
        sentence=f"{sentence} {_n(known, provenance)}.",
        hover=hover,
        notes=(f"{n_random:,} of them are known by their largest singular values only.",) if n_random else (),
    )


def draw_stable_rank(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How far the largest direction stands out, against chance."""
    return _map(
        rows,
        provenance,
        "stable_rank_ratio",
        Axis("stable_rank_ratio", "Stable rank / that of a random matrix", scale="log"),
        "How much the largest direction stands out",
        "Stable rank (sum of squares / largest singular value squared) over that of a random matrix of the same shape: 1 where the largest "
        "direction stands out no more than by chance, towards 0 where it dominates;",
        ("stable_rank",),
    )


def draw_effective_rank(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Effective rank as a share of what there is room for."""
    return _map(
        rows,
        provenance,
        "effective_rank_share",
        Axis("effective_rank_share", "Effective rank", unit="share of the shorter side"),
        "How evenly directions carry each matrix",
        "Effective rank (exp of the entropy of the singular values) / shorter side: 1 where all directions are alike;",
        ("effective_rank", "stable_rank"),
    )


def draw_outliers(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of outlier weights."""
    sigmas = provenance["config"]["sigmas"]
    return _map(
        rows,
        provenance,
        "outlier_share",
        Axis("outlier_share", "Outliers", unit="share of weights"),
        "Weights far beyond the others",
        f"Share of weights beyond {sigmas:g} standard deviations of their matrix;",
        ("n_outliers",),
    )


def draw_curves(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Error of the best approximation over rank, per role: mean and extremes over layers."""
    inside = rows[rows["layer"].notna()]
    shown = inside if len(inside) else rows
    pooled = (
        shown.groupby(["role", "rank_share"], as_index=False)
        .agg(error=("error", "mean"), low=("error", "min"), high=("error", "max"), energy=("energy", "mean"), n_matrices=("error", "count"),
             parameter_ratio=("parameter_ratio", "mean"))
        .sort_values(["role", "rank_share"])
    )  # fmt: skip
    n = len(shown[["tensor", "matrix"]].drop_duplicates())
    where = "in the blocks of " if len(inside) else "of "
    return FigureSpec(
        kind="line",
        data=pooled.reset_index(drop=True),
        x=Axis("rank_share", "Rank", unit="share of the shorter side", scale="log"),
        y=Axis("error", "Relative error", unit="||W - W_r|| / ||W||", bounds=(0.0, 1.0)),
        series=Series("role", "Matrix"),
        y_low="low",
        y_high="high",
        title="What low rank would lose",
        sentence=f"Relative error of the best approximation over its rank: mean, least and largest over layers; {n:,} matrices {where}"
        f"{provenance['model_label']}.",
        hover=("energy", "parameter_ratio", "n_matrices"),
        notes=("Of the weights alone: how much a layer's output suffers depends on its inputs.",),
    )


def draw_factorisations(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Error per way of factorising, at equal parameters, per role."""
    known = rows[rows["error"].notna()]
    if known.empty:
        raise NothingToDraw("No matrix was factorised: raise the setting 'factorise'.")
    pooled = known.groupby(["role", "method"], as_index=False).agg(
        error=("error", "mean"), n_matrices=("error", "count"), n_parameters=("n_parameters", "sum"), index_bits=("index_bits", "sum")
    )
    pooled["index_bits_per_parameter"] = pooled["index_bits"] / pooled["n_parameters"].clip(lower=1)
    share, n = provenance["config"]["parameters"], len(known[["tensor", "matrix"]].drop_duplicates())
    return FigureSpec(
        kind="bars",
        data=pooled,
        x=Axis("role", "Matrix", scale="category"),
        y=Axis("error", "Relative error", unit="||W - W'|| / ||W||", bounds=(0.0, 1.0)),
        series=Series("method", "Made of", order=METHOD_ORDER),
        title=f"What is lost at {share:.0%} of the parameters",
        sentence=f"Relative error of four ways to write a matrix with {share:.0%} of its parameters, mean over layers; {n:,} matrices of "
        f"{provenance['model_label']}.",
        hover=("index_bits_per_parameter", "n_matrices"),
        notes=("Sparse parts also need bits for the places of their entries, which are not among the parameters.",),
    )


_PLACE = ("tensor", "matrix", "layer", "role")
FIGURES = (
    ("stable_rank", "Stable rank", "spectra", draw_stable_rank, (*_PLACE, "exact", "stable_rank", "stable_rank_ratio")),
    ("effective_rank", "Effective rank", "spectra", draw_effective_rank,
     (*_PLACE, "exact", "stable_rank", "effective_rank", "effective_rank_share")),
    ("low_rank", "Error over rank", "spectrum_curves", draw_curves, (*_PLACE, "rank_share", "energy", "error", "parameter_ratio")),
    ("factorisations", "Cheaper parts", "factorisations", draw_factorisations,
     (*_PLACE, "method", "error", "n_parameters", "index_bits")),
    ("outliers", "Outlier weights", "spectra", draw_outliers, (*_PLACE, "exact", "n_outliers", "outlier_share")),
)  # fmt: skip
