"""Which weight tensors are sparse, and how concentrated are their magnitudes?

1. One tensor at a time, read from the checkpoint where its files can be read; tied tensors once.
2. First pass over slices: size, exact zeros, norms, PQ Index, histogram of |w|; non-finite values counted apart.
3. Second pass: near zeros, relative to the tensor's own root mean square, so that layers compare.
4. Totals over stated scopes, since a sparsity without its denominator says nothing; and per block and kind of matrix.

Sources: METHODS A0 (base statistics), A12 (PQ Index).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.spec import Analysis, Figure, Source, setting
from analysis.weights.glance import STRIPES, headlines
from analysis.weights.tables import LAYER_WEIGHTS, TABLES, TOTALS
from figures.spec import Axis, FigureSpec

SLICE = 1 << 22
"""Weights per slice: 32 MB in float64, whatever the tensor's size."""


@dataclass(frozen=True, kw_only=True)
class WeightSparsityConfig:
    """Settings of `weight_sparsity`."""

    near: float = setting(
        1e-3, help="A weight is near zero up to this share of its tensor's root mean square", unit="x rms", ge=0.0, le=1.0
    )


def needs(subject: Any) -> str | None:
    """Every subject has weights, unless it has none at all."""
    if next(iter(subject.tensors()), None) is None:
        return f"{subject.label} has no weight tensors, so there is nothing to measure; give a checkpoint with parameters."
    return None


def run(config: WeightSparsityConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the four tables; a unit per tensor."""
    tensors = {t.name: t for t in inputs["model"].tensors() if t.numel}
    for name in work.units(list(tensors), what="tensors"):
        measured, histogram = measure(tensors[name], config.near)
        yield "tensors", {column: [value] for column, value in measured.items()}
        yield "tensor_histograms", histogram
        work.save_state({"counts": _counts(measured), "pq": _pq(measured)})
    states = dict(work.states("tensors"))
    sums = {name: state["counts"] for name, state in states.items()}
    work.facts |= {"scope": "every parameter, tied ones once; buffers left out", "near": config.near}
    yield "totals", _totals(tensors, sums)
    yield "layer_weights", _layer_weights(tensors, sums, {name: state["pq"] for name, state in states.items()})


def measure(tensor: Any, near: float) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """All numbers of one tensor, and its histogram rows. Memory: the tensor and a few slices."""
    import numpy as np

    from analysis.stats.histogram import N_BINS, bin_index
    from analysis.stats.sparsity import PowerSums, hoyer_of_norms, pq_index_of_sums

    flat = tensor.read().reshape(-1)
    sums, counts, nonfinite = PowerSums((0.5, 1.0, 2.0)), np.zeros(N_BINS, np.int64), 0
    for part in flat.split(SLICE):
        values = part.double().numpy()
        finite = values[np.isfinite(values)]
        nonfinite += values.size - finite.size
        sums.update(finite)
        counts += np.bincount(bin_index(finite), minlength=N_BINS)
    square_sum = sums.sums.get(2.0, 0.0)
    rms = (square_sum / sums.n) ** 0.5 if sums.n else 0.0
    n_near = sum(int((part.double().abs() <= near * rms).sum()) for part in flat.split(SLICE)) if rms else sums.n_zero
    pq = pq_index_of_sums(sums.n, sums.sums.get(0.5, 0.0), sums.sums.get(1.0, 0.0), 0.5, 1.0)
    hoyer = hoyer_of_norms(np.asarray(sums.sums.get(1.0, 0.0)), np.asarray(square_sum), sums.n)
    n = flat.numel()
    row = {
        "tensor": tensor.name,
        "layer": tensor.layer,
        "kind": tensor.kind,
        "role": role_of(tensor),
        "tied": list(tensor.tied),
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "n_weights": n,
        "n_zero": sums.n_zero,
        "n_near_zero": n_near,
        "n_nonfinite": nonfinite,
        "zero_share": sums.n_zero / n,
        "near_zero_share": n_near / n,
        "l1": sums.sums.get(1.0, 0.0),
        "l2": square_sum**0.5,
        "rms": rms,
        "max_abs": sums.largest,
        "pq_index": float(pq.value) if pq.defined else None,
        "hoyer": float(hoyer.value) if hoyer.defined else None,
    }
    return row, _histogram_rows(tensor.name, counts)


def role_of(tensor: Any) -> str:
    """The name without the block's index: ``model.layers.3.mlp.up_proj.weight`` is ``mlp.up_proj.weight``."""
    if tensor.layer is None:
        return tensor.name
    before, found, after = tensor.name.partition(f".{tensor.layer}.")
    return after if found else before


def _histogram_rows(name: str, counts: Any) -> dict[str, list[Any]]:
    import numpy as np

    from analysis.stats.histogram import CENTRE, magnitude_edges

    edges = magnitude_edges()
    sizes = counts[CENTRE:].copy()
    sizes[1:] += counts[:CENTRE][::-1]
    bins = np.flatnonzero(sizes)
    ends = np.append(edges, np.inf)
    return {
        "tensor": [name] * len(bins),
        "low": [0.0 if b == 0 else float(edges[b - 1]) for b in bins],
        "high": [None if np.isinf(ends[b]) else float(ends[b]) for b in bins],
        "n_weights": sizes[bins].tolist(),
    }


def _counts(measured: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.array([measured["n_weights"], measured["n_zero"], measured["n_near_zero"]], np.int64)


def _pq(measured: Mapping[str, Any]) -> Any:
    """The PQ Index as an array of one number, or of none where it is not defined."""
    import numpy as np

    return np.array([] if measured["pq_index"] is None else [measured["pq_index"]], np.float64)


def _is_block_matrix(tensor: Any) -> bool:
    return tensor.layer is not None and len(tensor.shape) >= 2


def _layer_weights(tensors: Mapping[str, Any], sums: Mapping[str, Any], pq: Mapping[str, Any]) -> dict[str, list[Any]]:
    import numpy as np

    groups: dict[tuple[int, str], list[str]] = {}
    for name, tensor in tensors.items():
        if _is_block_matrix(tensor):
            groups.setdefault((tensor.layer, tensor.kind), []).append(name)
    rows: dict[str, list[Any]] = {c.name: [] for c in LAYER_WEIGHTS.columns}
    for (layer, kind), names in sorted(groups.items()):
        n, zero, near = (int(sum(sums[name][i] for name in names)) for i in range(3))
        defined = np.concatenate([pq[name] for name in names])
        mean = float(defined.mean()) if defined.size else None
        for column, value in zip(rows, (layer, kind, len(names), n, zero / n, near / n, mean)):
            rows[column].append(value)
    return rows


def _totals(tensors: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, list[Any]]:
    block = {name for name, t in tensors.items() if _is_block_matrix(t)}
    scopes = {"all weights": set(tensors), "block matrices": block, "everything else": set(tensors) - block}
    rows: dict[str, list[Any]] = {c.name: [] for c in TOTALS.columns}
    for scope, names in scopes.items():
        n, zero, near = (int(sum(sums[name][i] for name in names)) for i in range(3))
        if n:
            for column, value in zip(rows, (scope, len(names), n, zero / n, near / n)):
                rows[column].append(value)
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def _denominator(rows: Any, provenance: Mapping[str, Any]) -> str:
    return f"{len(rows)} block matrices of {provenance['model_label']}, {int(rows['n_weights'].sum()):,} weights"


def _block_matrices(rows: Any) -> Any:
    inside = rows["layer"].notna() & (rows["shape"].map(len) >= 2)
    return rows[inside].sort_values(["layer", "tensor"])


def draw_pq_index(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """PQ Index per block matrix: layer by role."""
    shown = _block_matrices(rows).dropna(subset=["pq_index"])
    return FigureSpec(
        kind="heatmap",
        data=shown[["layer", "role", "pq_index", "n_weights"]].reset_index(drop=True),
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("role", "Matrix", scale="category"),
        colour=Axis("pq_index", "PQ Index"),
        title="How concentrated the magnitudes of each weight matrix are",
        sentence=f"PQ Index (p = 0.5, q = 1) of {_denominator(shown, provenance)}: "
        "0 when all magnitudes are equal, towards 1 when few weights carry all; it does not change with the scale of a matrix.",
        hover=("n_weights",),
    )


def draw_near_zeros(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of near-zero weights per block matrix: layer by role."""
    shown, near = _block_matrices(rows), provenance["config"]["near"]
    exact = shown["n_zero"].sum() / shown["n_weights"].sum()
    return FigureSpec(
        kind="heatmap",
        data=shown[["layer", "role", "near_zero_share", "zero_share", "n_weights"]].reset_index(drop=True),
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("role", "Matrix", scale="category"),
        colour=Axis("near_zero_share", "Near-zero weights", unit="share of the matrix"),
        title="Weights that are zero or nearly so",
        sentence=f"Share of weights with |w| at most {near:g} times the matrix' root mean square, exact zeros among them; "
        f"{_denominator(shown, provenance)}, {exact:.3%} of them exactly zero.",
        hover=("zero_share", "n_weights"),
    )


_FIGURE_COLUMNS = ("tensor", "layer", "role", "shape", "n_weights", "n_zero")

WEIGHT_SPARSITY = Analysis(
    slug="weight_sparsity",
    title="Weight sparsity",
    question="Which weight matrices are sparse, and how concentrated are their magnitudes?",
    version=1,
    kind="static",
    sources=(
        Source("Base statistics of weights", "zeros, near zeros and norms per tensor", "C"),
        Source("Pruning Deep Neural Networks from a Sparsity Perspective", "Diao et al., ICLR 2023, arXiv 2302.05601", "C"),
        Source("Comparing Measures of Sparsity", "Hurley and Rickard, IEEE Trans. Inf. Theory 2009, arXiv 0811.4706", "K"),
    ),
    config=WeightSparsityConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("pq_index", "PQ Index per matrix", "tensors", draw_pq_index, (*_FIGURE_COLUMNS, "pq_index")),
        Figure(
            "near_zeros", "Near-zero weights per matrix", "tensors", draw_near_zeros, (*_FIGURE_COLUMNS, "zero_share", "near_zero_share")
        ),
    ),
    needs=needs,
    headlines=headlines,
    stripes=STRIPES,
)
