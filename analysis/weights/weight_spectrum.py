"""How many directions carry each weight matrix, what cheaper parts would lose, and where are outliers?

1. One tensor at a time, as matrices [outputs, inputs]: stacks of experts one by one, convolutions flattened, embeddings too.
   A tall matrix is read in slices, from which its Gram matrix is summed; nothing is skipped for its size.
2. Singular values: all up to a shorter side, the largest beyond it, and said so; stable, effective and numerical rank; energy; errors.
3. At an equal share of the parameters: low rank, sparse, sparse plus low rank, dense times sparse.
4. Outliers by magnitude, and whether they gather in rows or columns.

Errors are of the weights alone: a layer's output may suffer more or less, which only its inputs tell.
Sources: METHODS A16 (factorisation), A17 (outliers).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from analysis.spec import Analysis, Figure, Source, setting
from analysis.stats.threads import in_order
from analysis.weights.columns import SIZE
from analysis.weights.matrices import Matrix, matrices_of
from analysis.weights.values import notes_of, refusal
from analysis.weights.weight_sparsity import role_of
from analysis.weights.weight_spectrum_figures import FIGURES
from analysis.weights.weight_spectrum_tables import CURVES, LAYER_SPECTRA, RANKS, SPECTRA, TABLES

SMALL = 1 << 22
"""Weights of a matrix up to which torch keeps to one thread, and several are measured beside each other: singular values and fits are
many small steps, for each of which threads would wait for each other (measured: docs/benchmarks-weights.md)."""
MAX_ERRORS = (0.1, 0.05, 0.01)
_MEASURES = ("stable_rank_ratio", "effective_rank_share", "n_outliers")


@dataclass(frozen=True, kw_only=True)
class WeightSpectrumConfig:
    """Settings of `weight_spectrum`."""

    limit: int = setting(4096, help="All singular values up to this shorter side; beyond it the largest only", ge=1, le=1 << 20)
    largest: int = setting(256, help="Singular values computed where not all are", ge=1, le=1 << 14)
    seed: int = setting(0, help="Seed of the randomised singular values and of the factorisations", ge=0, le=2**32 - 1)
    sigmas: float = setting(6.0, help="An outlier is a weight beyond so many standard deviations of its matrix", ge=0.0, le=1000.0)
    parameters: float = setting(0.5, help="Share of a matrix' parameters that its cheaper parts may hold", unit="share", ge=0.0, le=1.0)
    factorise: int = setting(1 << 22, help="Matrices of up to so many weights are factorised; 0 for none", unit="weights", ge=0, le=1 << 40)
    rows: int = setting(128, help="Rows of a matrix that are fitted as dense times sparse", unit="rows", ge=16, le=1 << 20)


def needs(subject: Any) -> str | None:
    """There must be a matrix that can be read."""
    if (why := refusal(subject)) is not None or any(t.matrix_shape and t.numel for t in subject.tensors()):
        return why
    return f"{subject.label} has no weights with two or more axes, so there is no spectrum; give a checkpoint with matrices."


def run(config: WeightSpectrumConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the five tables; a unit per tensor."""
    tensors = {t.name: t for t in inputs["model"].tensors() if t.matrix_shape and t.numel and t.kind != "norm"}
    before = {name for name, _ in work.states("tensors")}
    with closing(measured_in_order([t for t in tensors.values() if t.name not in before], config)) as rows:
        for name in work.units(list(tensors), what="tensors"):
            measured: list[list[float | None]] = []
            n = tensors[name].matrix_shape[0]
            for number, (row, *others) in enumerate(islice(rows, n), start=1):
                yield "spectra", {column: [value] for column, value in row.items()}
                yield from others
                measured.append([row[column] for column in _MEASURES])
                work.report(number / n)
            work.save_state(_state(measured))
    states = dict(work.states("tensors"))
    work.facts |= {"scope": "every matrix, tied ones once; vectors left out", "sigmas": config.sigmas, "parameters": config.parameters}
    work.facts["values"] = notes_of(inputs["model"], list(tensors.values()))
    yield "layer_spectra", _layer_spectra(tensors, states)


def measured_in_order(tensors: Sequence[Any], config: WeightSpectrumConfig) -> Generator[list[Any]]:
    """What `measure` gives of every matrix of these, in order; those of moderate size beside each other."""
    import torch

    jobs = (
        (lambda t=tensor, m=matrix: list(measure(t, m, config)), matrix.shape[0] * matrix.shape[1] <= SMALL)
        for tensor in tensors
        for matrix in matrices_of(tensor)
    )
    yield from in_order(jobs, torch.get_num_threads())


def measure(tensor: Any, matrix: Matrix, config: WeightSpectrumConfig) -> Iterator[Any]:
    """First the row of `spectra`, then (table, rows) of the others."""
    place = {"tensor": tensor.name, "matrix": matrix.index, "layer": tensor.layer, "role": role_of(tensor)}
    row: dict[str, Any] = {column.name: None for column in SPECTRA.columns}
    from analysis.stats.spectrum import break_even_rank

    n_out, n_in = matrix.shape
    row |= place | {"kind": tensor.kind, "n_out": n_out, "n_in": n_in, "exact": False, "n_computed": 0}
    row["break_even_rank"] = break_even_rank(n_out, n_in)
    largest = matrix.largest()
    if largest * (n_out * n_in) ** 0.5 > SIZE[1]:
        row["missing"] = _unmeasured(matrix, largest)
        yield row
        return
    matrix = matrix.in_range(largest)
    spectrum = matrix.spectrum(config.limit, config.largest, config.seed)
    row |= _spectrum_row(spectrum, tensor.dtype, matrix.unit) | _outlier_row(matrix, config.sigmas)
    yield row
    yield "spectrum_curves", _curve(place, spectrum, matrix.unit)
    yield "spectrum_ranks", _ranks(place, spectrum)
    if n_out * n_in <= config.factorise:
        from analysis.weights.factorising import factorisations

        yield "factorisations", factorisations(place, matrix.whole(), spectrum, config.parameters, config.rows, config.seed)


def _unmeasured(matrix: Matrix, largest: float) -> str:
    n_bad = matrix.n_nonfinite()
    if n_bad:
        return f"{n_bad:,} of its weights are NaN or infinite, so that it has no singular values."
    return f"Its weights reach {largest:.3g}, and sums of such numbers cannot be held; divide the checkpoint by a constant."


def _spectrum_row(spectrum: Any, dtype: str, unit: float) -> dict[str, Any]:
    import torch

    from analysis.stats import spectrum as s

    stable, effective, off = s.stable_rank(spectrum), s.effective_rank(spectrum), s.errors(spectrum)
    even = s.break_even_rank(*spectrum.shape)
    short = None if spectrum.exact else f"Only the {spectrum.n_computed:,} largest of {spectrum.size:,} singular values were computed."
    return {
        "method": spectrum.method,
        "exact": spectrum.exact,
        "n_computed": spectrum.n_computed,
        "frobenius": spectrum.square_sum**0.5 * unit,
        "largest": float(spectrum.values[0]) * unit,
        "stable_rank": stable,
        "stable_rank_ratio": None if stable is None else stable / s.random_stable_rank(*spectrum.shape),
        "effective_rank": effective,
        "effective_rank_share": None if effective is None else effective / spectrum.size,
        "numerical_rank": s.numerical_rank(spectrum, torch.finfo(getattr(torch, dtype)).eps),
        "break_even_error": float(off[even]) if even < len(off) else None,
        "missing": "All of its weights are zero." if stable is None else short,
    }


def _outlier_row(matrix: Matrix, sigmas: float) -> dict[str, Any]:
    from analysis.stats.outliers import count_outliers, crowding

    found = count_outliers(matrix.slices, sigmas)
    return {
        "n_outliers": found.n,
        "outlier_share": found.n / (matrix.shape[0] * matrix.shape[1]),
        "outlier_rows": crowding(found.rows),
        "outlier_columns": crowding(found.columns),
    }


def _curve(place: dict[str, Any], spectrum: Any, unit: float) -> dict[str, list[Any]]:
    from analysis.stats import spectrum as s

    share, off, top = s.energy(spectrum), s.errors(spectrum), float(spectrum.values[0])
    rows: dict[str, list[Any]] = {column.name: [] for column in CURVES.columns}
    for rank in s.rank_grid(spectrum.n_computed):
        value = float(spectrum.values[rank - 1])
        values = {
            "rank": rank,
            "rank_share": rank / spectrum.size,
            "value": value * unit,
            "relative_value": value / top if top > 0 else 0.0,
            "energy": float(share[rank - 1]),
            "error": float(off[rank]),
            "parameter_ratio": _parameter_ratio(rank, spectrum.shape),
        }
        for column, one in (place | values).items():
            rows[column].append(one)
    return rows


def _ranks(place: dict[str, Any], spectrum: Any) -> dict[str, list[Any]]:
    from analysis.stats.spectrum import rank_for_error

    rows: dict[str, list[Any]] = {column.name: [] for column in RANKS.columns}
    for error in MAX_ERRORS:
        rank = rank_for_error(spectrum, error)
        ratio = None if rank is None else _parameter_ratio(rank, spectrum.shape)
        for column, one in (place | {"max_error": error, "rank": rank, "parameter_ratio": ratio}).items():
            rows[column].append(one)
    return rows


def _parameter_ratio(rank: int, shape: tuple[int, int]) -> float:
    return rank * (shape[0] + shape[1]) / (shape[0] * shape[1])


# ---------------------------------------------------------------------------------------------------------------------
# Per block


def _state(measured: list[list[float | None]]) -> dict[str, Any]:
    """Numbers [matrices, measures] and where there are any."""
    import numpy as np

    known = np.array([[value is not None for value in row] for row in measured])
    return {"values": np.array([[value or 0.0 for value in row] for row in measured], np.float64), "known": known}


def _layer_spectra(tensors: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, list[Any]]:
    import numpy as np

    groups: dict[tuple[int, str], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.layer is not None:
            groups.setdefault((tensor.layer, tensor.kind), []).append(name)
    rows: dict[str, list[Any]] = {c.name: [] for c in LAYER_SPECTRA.columns}
    for (layer, kind), names in sorted(groups.items()):
        values, known = (np.concatenate([states[name][part] for name in names]) for part in ("values", "known"))
        sizes = np.concatenate([[tensors[n].numel / len(states[n]["values"])] * len(states[n]["values"]) for n in names])
        means = [float(values[known[:, i], i].mean()) if known[:, i].any() else None for i in (0, 1)]
        finite = known[:, 2]
        share = float(values[finite, 2].sum() / sizes[finite].sum()) if finite.any() else None
        for column, value in zip(rows, (layer, kind, len(values), *means, share), strict=True):
            rows[column].append(value)
    return rows


WEIGHT_SPECTRUM = Analysis(
    slug="weight_spectrum",
    title="Weight spectrum",
    question="How many directions carry each weight matrix, what would cheaper parts lose, and where are its outliers?",
    version=2,
    kind="static",
    sources=(
        Source("Greenformers", "Cahyawijaya 2021 (break-even rank, error of low rank)", "C"),
        Source("DSFormer", "Chand et al. 2023, arXiv 2312.13211 (shape of dense times sparse; the fit is ours)", "3"),
        Source("SpQR", "Dettmers et al. 2023, arXiv 2306.03078 (outlier weights; here by magnitude)", "C"),
        Source("The effective rank", "Roy and Vetterli, EUSIPCO 2007", "K"),
    ),
    config=WeightSpectrumConfig,
    tables=TABLES,
    run=run,
    figures=tuple(Figure(*figure) for figure in FIGURES),
    needs=needs,
)
