"""From the numbers of a tensor to the rows of `weight_sparsity`; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from analysis.stats.histogram import magnitude_edges
from analysis.stats.matrix_pass import cell_side
from analysis.stats.patterns import PATTERNS, block_efficiency, name_of, retained, verdict
from analysis.stats.sparsity import hoyer_of_norms, pq_index_of_sums
from analysis.weights.reading import TensorNumbers
from analysis.weights.weight_sparsity import role_of

BINS = 256
"""Bins of a profile over rows or columns, at most."""

Rows = dict[str, list[Any]]


class RowsOf:
    """Rows of several tables, gathered tensor by tensor."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {}

    def add(self, table: str, columns: Mapping[str, Any]) -> None:
        """Columns of equal length; a single value stands for a column of it."""
        n = next((len(v) for v in columns.values() if isinstance(v, list)), 1)
        kept = self.tables.setdefault(table, {name: [] for name in columns})
        for name, values in columns.items():
            kept[name].extend(values if isinstance(values, list) else [values] * n)


def tensor_row(tensor: Any, found: TensorNumbers, near: float) -> dict[str, Any]:
    """The row of ``tensors``; lists stand in a list of one."""
    n, rms = tensor.numel, (found.square_sum / found.n) ** 0.5 if found.n else 0.0
    n_near = max(found.n_zero, found.magnitudes.n_up_to(near * rms))
    structure, share = structure_of(found)
    mean, m2, _, _ = found.moments
    return {
        "tensor": tensor.name,
        "layer": tensor.layer,
        "kind": tensor.kind,
        "role": role_of(tensor),
        "tied": [list(tensor.tied)],
        "shape": [list(tensor.shape)],
        "dtype": tensor.dtype,
        "owner": tensor.owner,
        "input_axis": tensor.input_axis,
        "n_matrices": found.n_matrices if found.is_matrix else 0,
        "n_rows": found.n_rows if found.is_matrix else 0,
        "n_columns": found.n_columns if found.is_matrix else 0,
        "n_weights": n,
        "n_zero": found.n_zero,
        "n_near_zero": n_near,
        "n_nonfinite": found.n_nonfinite,
        "zero_share": found.n_zero / n,
        "near_zero_share": n_near / n,
        "l1": found.l1 * found.unit,
        "l2": found.square_sum**0.5 * found.unit,
        "rms": rms * found.unit,
        "max_abs": max(abs(found.low), abs(found.high)) * found.unit,
        "lowest": found.low * found.unit,
        "highest": found.high * found.unit,
        "mean": mean * found.unit,
        "std": (m2 / found.n) ** 0.5 * found.unit if found.n else 0.0,
        "constant": found.n > 0 and found.low == found.high,
        "n_zero_rows": len(zero_lines(found, "row")),
        "n_zero_columns": len(zero_lines(found, "column")),
        "structure": structure,
        "structure_share": share,
        **_concentration(found),
    }


def _concentration(found: TensorNumbers) -> dict[str, Any]:
    pq = pq_index_of_sums(found.n, found.root_sum, found.l1, 0.5, 1.0)
    hoyer = hoyer_of_norms(np.asarray(found.l1), np.asarray(found.square_sum), found.n)
    gini = found.magnitudes.gini()
    _, m2, _, m4 = found.moments
    return {
        "pq_index": max(0.0, float(pq.value)) if pq.defined else None,
        "hoyer": float(hoyer.value) if hoyer.defined else None,
        "gini": max(0.0, float(gini.value)) if gini.defined else None,
        "gini_exact": found.magnitudes.exact,
        "kurtosis": m4 * found.n / m2**2 - 3 if found.n and found.low < found.high and m2 > 0 else None,
    }


def zero_lines(found: TensorNumbers, kind: str) -> list[int]:
    """Numbers of the rows or columns of a matrix that are all zero."""
    if not found.is_matrix:
        return []
    lines = found.rows if kind == "row" else found.columns
    return np.flatnonzero(lines[2] == found.n_rows * found.n_columns / lines.shape[1]).tolist()


def structure_of(found: TensorNumbers) -> tuple[str, float | None]:
    """The word for what a tensor's zeros make it, and the share of the zeros that it holds (`patterns.verdict`)."""
    if not found.is_matrix:
        return "vector", None
    if found.n_nonfinite:
        return "not finite", None
    if found.low == found.high != 0:
        return "constant", None
    lines = (found.n_rows, found.n_columns, len(zero_lines(found, "row")), len(zero_lines(found, "column")))
    conforming = {p: c.n_groups > 0 and c.n_conforming == c.n_groups for p, c in found.along_input.conforming.items()}
    return verdict(found.n, found.n_zero, lines, conforming, {side: tiles.n_covered for side, tiles in found.tiles.items()})


def histogram_rows(name: str, found: TensorNumbers) -> Rows:
    """Fixed bins of |w| that are not empty."""
    sizes, edges = found.magnitudes.fixed_bins(found.unit), magnitude_edges()
    bins = np.flatnonzero(sizes)
    lows, highs = np.append(0.0, edges), np.append(edges, np.inf)
    return {
        "tensor": [name] * len(bins),
        "low": lows[bins].tolist(),
        "high": [None if np.isinf(high) else float(high) for high in highs[bins]],
        "n_weights": sizes[bins].tolist(),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Matrices


def matrix_rows(tensor: Any, found: TensorNumbers, listed: int) -> Iterator[tuple[str, Rows]]:
    """All rows about the structure of a matrix, by table; groups and tiles only where every value is finite."""
    if not found.n_nonfinite:
        yield "tensor_patterns", pattern_rows(tensor, found)
        yield "tensor_blocks", block_rows(tensor, found)
    yield "tensor_rows", line_rows(tensor.name, found, "row")
    yield "tensor_columns", line_rows(tensor.name, found, "column")
    yield "tensor_tiles", tile_rows(tensor.name, found)
    yield "dead_lines", dead_rows(tensor.name, found, listed)


def pattern_rows(tensor: Any, found: TensorNumbers) -> Rows:
    """Ten rows: five patterns along the input and along the output."""
    along = [(name, one) for name, one in (("input", found.along_input), ("output", found.along_output)) for _ in PATTERNS]
    groups = [direction.conforming[pattern] for (_, direction), pattern in zip(along, 2 * PATTERNS)]
    firsts = [one.first or (None, None, None) for one in groups]
    n = len(groups)
    return {
        "tensor": [tensor.name] * n,
        "layer": [tensor.layer] * n,
        "role": [role_of(tensor)] * n,
        "along": [name for name, _ in along],
        "pattern": [name_of(*pattern) for pattern in 2 * PATTERNS],
        "keep": [keep for keep, _ in 2 * PATTERNS],
        "of": [of for _, of in 2 * PATTERNS],
        "n_groups": [one.n_groups for one in groups],
        "n_conforming": [one.n_conforming for one in groups],
        "n_empty": [one.n_empty for one in groups],
        "n_left_over": [one.n_left_over for one in groups],
        "conforming_share": [one.share for one in groups],
        "retained_energy": [retained(one.lost[pattern], found.square_sum) for (_, one), pattern in zip(along, 2 * PATTERNS)],
        "first_line": [line for line, _, _ in firsts],
        "first_group": [group for _, group, _ in firsts],
        "first_nonzeros": [nonzeros for _, _, nonzeros in firsts],
    }


def block_rows(tensor: Any, found: TensorNumbers) -> Rows:
    """A row per side of a tile."""
    tiles = found.tiles
    return {
        "tensor": [tensor.name] * len(tiles),
        "layer": [tensor.layer] * len(tiles),
        "role": [role_of(tensor)] * len(tiles),
        "side": list(tiles),
        "n_tiles": [one.n_tiles for one in tiles.values()],
        "zero_tile_share": [one.share for one in tiles.values()],
        "block_efficiency": [block_efficiency(one.n_covered, found.n_zero) for one in tiles.values()],
    }


def line_rows(name: str, found: TensorNumbers, kind: str) -> Rows:
    """The profile over rows or columns, in at most 256 bins of equally many lines."""
    strength, squares, zeros = found.rows if kind == "row" else found.columns
    n = len(zeros)
    starts = np.arange(0, n, -(-n // BINS))
    stops = np.append(starts[1:], n)
    strength, norms = strength * found.unit, np.sqrt(squares) * found.unit
    sizes, length = stops - starts, found.n_rows * found.n_columns / n
    return {
        "tensor": [name] * len(starts),
        "start": starts.tolist(),
        "stop": stops.tolist(),
        "zero_share": (np.add.reduceat(zeros, starts) / (sizes * length)).tolist(),
        "n_zero_lines": np.add.reduceat((zeros == length).astype(np.int64), starts).tolist(),
        "norm": (np.add.reduceat(norms, starts) / sizes).tolist(),
        "largest_norm": np.maximum.reduceat(norms, starts).tolist(),
        "strength": (np.add.reduceat(strength, starts) / sizes).tolist(),
    }


def tile_rows(name: str, found: TensorNumbers) -> Rows:
    """The thumbnail, a row of cells a row."""
    rows = found.n_rows // found.n_matrices
    starts = np.arange(0, rows, cell_side(rows))
    return {
        "tensor": [name] * len(starts),
        "start": starts.tolist(),
        "stop": np.append(starts[1:], rows).tolist(),
        "width": [cell_side(found.n_columns)] * len(starts),
        "rms": (found.thumb * found.unit).tolist(),
    }


def dead_rows(name: str, found: TensorNumbers, listed: int) -> Rows:
    """The first ``listed`` rows and columns that are all zero."""
    lines = [(kind, line) for kind in ("row", "column") for line in zero_lines(found, kind)[:listed]]
    return {"tensor": [name] * len(lines), "line_kind": [kind for kind, _ in lines], "line": [line for _, line in lines]}
