"""What `weight_sparsity` and `weight_spectrum` say of a tensor, for one step of a series: as a long table, and its structure as a word.

Every measure is part / whole, so that the value of a scope is the sum of the parts over the sum of the wholes: shares of groups, tiles,
lines and squares are pooled, and what is one number of a tensor (part / 1) is averaged, each tensor counting the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from analysis.weights.weight_sparsity import role_of

WHOLE = "whole"
"""Detail of a measure that has no direction, pattern or side."""
RANKS = ("stable_rank", "effective_rank", "numerical_rank", "break_even_error")


class Measured(NamedTuple):
    """One measure of a tensor."""

    measure: str
    detail: str
    part: float
    whole: float


class Seen(NamedTuple):
    """One tensor at one step."""

    measures: tuple[Measured, ...]
    structure: str
    share: float | None
    """Of its zeros, that lie in the structure."""


def look(tensor: Any, near: float, rank_side: int, threads: int) -> Seen:
    """Read a tensor once for its sums and, up to a shorter side of ``rank_side``, once more for its spectrum and outliers."""
    from analysis.weights.reading import read_numbers
    from analysis.weights.rows import tensor_row

    found = read_numbers(tensor, threads)
    row = tensor_row(tensor, found, near)
    measures = [*_sums(row)]
    if found.is_matrix:
        measures += [*_lines(row), *_groups(found), *_tiles(found), *_spectrum(tensor, found, rank_side)]
    return Seen(tuple(measures), row["structure"], row["structure_share"])


def _sums(row: Mapping[str, Any]) -> Iterator[Measured]:
    finite = row["n_weights"] - row["n_nonfinite"]
    if finite:
        yield Measured("mean_abs", WHOLE, row["l1"], finite)
    for measure in ("gini", "hoyer", "kurtosis"):
        if row[measure] is not None:
            yield Measured(measure, WHOLE, row[measure], 1.0)


def _lines(row: Mapping[str, Any]) -> Iterator[Measured]:
    yield Measured("zero_row_share", WHOLE, row["n_zero_rows"], row["n_rows"])
    yield Measured("zero_column_share", WHOLE, row["n_zero_columns"], row["n_columns"])


def _groups(found: Any) -> Iterator[Measured]:
    """Groups and what keeping the largest of each retains; of a tensor that is not finite they mean nothing."""
    from analysis.stats.patterns import name_of, retained

    if found.n_nonfinite:
        return
    energy = min(max(found.square_sum * found.unit * found.unit, 1e-300), 1e300)  # a float's range, which squares may leave
    for along, direction in (("input", found.along_input), ("output", found.along_output)):
        for pattern, groups in direction.conforming.items():
            detail = f"{name_of(*pattern)}, {along}"
            if groups.n_groups:
                yield Measured("conforming_share", detail, groups.n_conforming, groups.n_groups)
            kept = retained(direction.lost[pattern], found.square_sum)
            if kept is not None:
                yield Measured("retained_energy", detail, kept * energy, energy)


def _tiles(found: Any) -> Iterator[Measured]:
    if found.n_nonfinite:
        return
    for side, tiles in found.tiles.items():
        yield Measured("zero_tile_share", f"side {side}", tiles.n_zero, tiles.n_tiles)
        if found.n_zero:
            yield Measured("block_efficiency", f"side {side}", tiles.n_covered, found.n_zero)


def _spectrum(tensor: Any, found: Any, rank_side: int) -> Iterator[Measured]:
    """Means over the matrices of a stack; nothing where a matrix is not finite, a norm's, or wider than asked for."""
    from analysis.weights.matrices import matrices_of
    from analysis.weights.weight_spectrum import WeightSpectrumConfig, measure

    if found.n_nonfinite or tensor.kind == "norm" or min(tensor.matrix_shape[1:]) > rank_side:
        return
    config = WeightSpectrumConfig(limit=rank_side)
    rows = [next(measure(tensor, matrix, config)) for matrix in matrices_of(tensor)]
    for name in RANKS:
        known = [row[name] for row in rows if row[name] is not None]
        if known:
            yield Measured(name, WHOLE, sum(known) / len(known), 1.0)
    yield Measured("outlier_share", f"{config.sigmas:g} standard deviations", sum(row["n_outliers"] for row in rows), tensor.numel)


# ---------------------------------------------------------------------------------------------------------------------
# Rows


class ScopeSums:
    """The measures of all tensors of a scope, put together."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], list[float]] = {}

    def add(self, measures: Iterable[Measured]) -> None:
        """Take in a tensor."""
        for one in measures:
            kept = self._sums.setdefault((one.measure, one.detail), [0.0, 0.0, 0])
            kept[0], kept[1], kept[2] = kept[0] + one.part, kept[1] + one.whole, kept[2] + 1

    def rows(self, step: int, scope: str) -> dict[str, Any]:
        """Rows of `timeline_scope_measures`."""
        known = [(names, sums) for names, sums in self._sums.items() if sums[1] > 0]
        return {
            "step": [step] * len(known),
            "scope": [scope] * len(known),
            "measure": [names[0] for names, _ in known],
            "detail": [names[1] for names, _ in known],
            "n_tensors": [sums[2] for _, sums in known],
            "value": [part / whole for _, (part, whole, _) in known],
        }


def _place(step: int, tensor: Any) -> dict[str, Any]:
    return {"step": step, "tensor": tensor.name, "layer": tensor.layer, "kind": tensor.kind, "role": role_of(tensor)}


def measure_rows(step: int, tensor: Any, seen: Seen) -> dict[str, Any]:
    """Rows of `timeline_measures`."""
    known = [one for one in seen.measures if one.whole > 0]
    columns = {name: [value] * len(known) for name, value in _place(step, tensor).items()}
    values = [one.part / one.whole for one in known]
    return columns | {"measure": [one.measure for one in known], "detail": [one.detail for one in known], "value": values}


def structure_row(step: int, tensor: Any, seen: Seen) -> dict[str, Any]:
    """The row of `timeline_structures`."""
    return _place(step, tensor) | {"structure": seen.structure, "structure_share": seen.share}


def turns(steps: Sequence[int], states: Mapping[int, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Every change of a matrix' structure from the checkpoint before that has it, in order of steps, and a sentence.

    ``states``: by step, "names" and "structures" of the matrices, in the same order.
    """
    rows: list[dict[str, Any]] = []
    last: dict[str, tuple[int, str]] = {}
    for step in steps:
        for name, structure in zip(states[step]["names"].tolist(), states[step]["structures"].tolist(), strict=True):
            before_step, before = last.get(name, (step, structure))
            if structure != before:
                rows.append({"tensor": name, "step": step, "before_step": before_step, "before": before, "structure": structure})
            last[name] = (step, structure)
    return rows, _said(rows, len(last))


def _said(rows: Sequence[Mapping[str, Any]], n_matrices: int) -> str:
    """The first step of each structure, those of most matrices first; three at most."""
    if not rows:
        return f"None of {n_matrices:,} matrices changed its structure."
    groups: dict[tuple[int, str], int] = {}
    for row in rows:
        key = (row["step"], row["structure"])
        groups[key] = groups.get(key, 0) + 1
    most = sorted(groups, key=lambda key: (-groups[key], key))[:3]
    parts = [f"{groups[key]:,} became {key[1]} at step {key[0]:,}" for key in sorted(most)]
    more = len(groups) - len(most)
    return f"Of {n_matrices:,} matrices {'; '.join(parts)}{f'; and {more:,} changes more' if more else ''}."
