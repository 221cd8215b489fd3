"""Rows of the tables of `matrix_sensitivity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.measuring import LOSS, Measured
from analysis.interventions.sweep import Baseline, Curve, Point
from analysis.sensitivity.grid import Grid, Measurement, document_sums, estimates
from analysis.sensitivity.matrix_tables import AGREEMENT, POINTS, PROXIES, RANKING
from analysis.sensitivity.predicting import UNITS
from analysis.stats.paired import band, rank_intervals
from analysis.stats.proxies import rank_agreement

if TYPE_CHECKING:
    from analysis.sensitivity.candidates import Candidate

Rows = dict[str, list[Any]]


def _empty(table: Any) -> Rows:
    return {column.name: [] for column in table.columns}


def _add(rows: Rows, row: Mapping[str, Any]) -> None:
    for name, values in rows.items():
        values.append(row[name])


def _where(candidate: Candidate) -> dict[str, Any]:
    return {"kind": candidate.kind, "tensor": candidate.tensor, "layer": candidate.layer, "role": candidate.role}


def point_rows(grid: Grid, candidate: Candidate, made: Measurement, baseline: Baseline) -> Rows:
    """Rows of `matrix_points`."""
    rows, found = _empty(POINTS), estimates(made.points.values(), baseline)
    dense = float(baseline.resample.value(document_sums(baseline.measured[LOSS], baseline.documents)))
    alone = baseline.resample.n_documents == 1
    for level in sorted(made.points):
        one, finite = found[level], bool(np.isfinite(found[level].value))
        ends = {"low": one.low, "high": one.high, "stderr": one.standard_error}
        row = _where(candidate) | {
            "level": level,
            "n_weights": candidate.n,
            "achieved": made.n_zero[level] / candidate.n,
            "already_zero": candidate.n_already_zero / candidate.n,
            "stage": made.stage[level],
            "method": grid.pruning.method.name if candidate.kind == "matrix" else "magnitude",
            "task": grid.task.name,
            "split": grid.task.split,
            "unit": grid.task.unit,
            "value": dense + one.value if finite else None,
            "delta": one.value if finite else None,
            "resolved": not finite or (not alone and (one.low > 0 or one.high < 0)),
            "n": int(baseline.resample.counts.sum()),
            "n_documents": baseline.resample.n_documents,
            **(ends if finite and not alone else dict.fromkeys(ends)),
        }
        _add(rows, row)
    return rows


def loss_rows(candidate: Candidate, made: Measurement, baseline: Baseline) -> dict[str, Any]:
    """Rows of `matrix_losses`."""
    levels, documents = sorted(made.points), baseline.documents
    dense, n = document_sums(baseline.measured[LOSS], documents), len(documents)
    sums = [document_sums(made.points[level].measured[LOSS], documents) for level in levels]
    return {
        "kind": [candidate.kind] * n * len(levels),
        "tensor": [candidate.tensor] * n * len(levels),
        "level": np.repeat(levels, n),
        "document": np.tile(documents, len(levels)),
        "n": np.tile(baseline.resample.counts.astype(np.int64), len(levels)),
        "loss_sum": [float(x) if np.isfinite(x) else None for one in sums for x in one],
        "dense_sum": np.tile(dense, len(levels)),
    }


def area_sums(made: Measurement, levels: Sequence[float], baseline: Baseline) -> np.ndarray:
    """Area under the increase over 0 and the fixed levels by the trapezoid rule, over the last level; by document [D].

    A level that was not measured, since the loss had collapsed before, counts as the last one that was.
    """
    at = np.array([0.0, *levels])
    curve = [np.zeros(len(baseline.documents))]
    for level in levels:
        curve.append(baseline.increase(made.points[level].measured) if level in made.points else curve[-1])
    widths = np.diff(at)[:, None]
    return (widths * (np.array(curve[1:]) + np.array(curve[:-1])) / 2).sum(axis=0) / at[-1]


def ranking_rows(grid: Grid, every: Sequence[Candidate], known: Mapping[str, Measurement], baseline: Baseline, eps: float) -> Rows:
    """Rows of `matrix_ranking`: measured ones by rank, kind by kind, then the others."""
    rows = _empty(RANKING)
    for kind in dict.fromkeys(candidate.kind for candidate in every):
        some = [candidate for candidate in every if candidate.kind == kind]
        measured = [candidate for candidate in some if candidate.unit in known]
        if measured:
            _rank(grid, measured, known, baseline, eps, rows)
        for candidate in some:
            if candidate.unit not in known:
                empty = dict.fromkeys(rows) | _where(candidate) | {"n_weights": candidate.n, "eps": eps}
                _add(rows, empty | {"words": "not measured, only predicted"})
    return rows


def _rank(grid: Grid, some: Sequence[Candidate], known: Mapping[str, Measurement], baseline: Baseline, eps: float, rows: Rows) -> None:
    sums = np.stack([area_sums(known[one.unit], grid.levels_of(one), baseline) for one in some])
    value, means = baseline.resample.value(sums), baseline.resample.means(sums)
    low, high = band(means)
    best, worst = rank_intervals(-means)
    order = np.argsort(-value, kind="stable")
    rank = {int(i): 1 + int((value > value[i]).sum()) for i in order}
    alone = baseline.resample.n_documents == 1
    for i in order.tolist():
        candidate, finite = some[i], bool(np.isfinite(value[i]))
        row = _where(candidate) | {
            "n_weights": candidate.n,
            "area": float(value[i]) if finite else None,
            "low": float(low[i]) if finite and not alone else None,
            "high": float(high[i]) if finite and not alone else None,
            "rank": rank[i],
            "rank_low": None if alone else int(min(best[i], rank[i])),
            "rank_high": None if alone else int(max(worst[i], rank[i])),
            "eps": eps,
            **_drop(known[candidate.unit], baseline, eps),
            **lowering(known[candidate.unit], baseline),
            "note": _note(known[candidate.unit], grid.levels_of(candidate), baseline),
        }
        _add(rows, row)


def _drop(made: Measurement, baseline: Baseline, eps: float) -> dict[str, Any]:
    dense = Point(0.0, Measured({LOSS: baseline.measured[LOSS].by_document()}))
    curve = Curve.of([dense, *made.points.values()], baseline)
    drop, alone = curve.drop_point(eps), baseline.resample.n_documents == 1
    reached = drop.answer == "reached"
    return {
        "answer": drop.answer,
        "drop": drop.point.level if reached else None,
        "drop_low": drop.low.level if reached and not alone else None,
        "drop_high": drop.high.level if reached and not alone and drop.high.reached else None,
        "words": drop.words,
        "last_level": float(curve.levels[-1]),
    }


def lowering(made: Measurement, baseline: Baseline) -> dict[str, float | None]:
    """The level at which removing it helps most, and by how much the loss falls; None where no interval lies below 0."""
    found = [(one.value, level) for level, one in estimates(made.points.values(), baseline).items() if one.high < 0]
    value, level = min(found) if found and baseline.resample.n_documents > 1 else (None, None)
    return {"lowers": value, "lowers_at": level}


def _note(made: Measurement, levels: Sequence[float], baseline: Baseline) -> str | None:
    left = [level for level in levels if level not in made.points]
    notes = [baseline.resample.note] if baseline.resample.note else []
    if left:
        notes.append(f"stopped before {left[0]:g}, since the loss had collapsed; levels not measured count as the last one measured")
    return "; ".join(notes) or None


# ---------------------------------------------------------------------------------------------------------------------
# Predictions beside measurements


def proxy_rows(
    grid: Grid, matrices: Sequence[Candidate], known: Mapping[str, Measurement], baseline: Baseline, predicted: Mapping[str, np.ndarray]
) -> tuple[Rows, Rows]:
    """Rows of `matrix_proxies` and `proxy_agreement`. predicted: [members of the scope, levels] by proxy, NaN where there is none."""
    proxies, agreement = _empty(PROXIES), _empty(AGREEMENT)
    place = {member.name: row for row, member in enumerate(grid.scope.members)}
    for proxy, values in predicted.items():
        for column, level in enumerate(grid.levels):
            found: list[tuple[float, np.ndarray]] = []
            for candidate in matrices:
                value = float(values[place[candidate.tensor], column])
                if not np.isfinite(value):
                    continue
                made = known.get(candidate.unit)
                sums = None if made is None or level not in made.points else baseline.increase(made.points[level].measured)
                delta = None if sums is None else float(baseline.resample.value(sums))
                if sums is not None:
                    found.append((value, sums))
                finite = delta is not None and np.isfinite(delta)
                row = {"proxy": proxy, **_where(candidate), "level": level, "value": value, "unit": UNITS[proxy]}
                _add(proxies, row | {"delta": delta if finite else None})
            if found:
                _add(agreement, {"proxy": proxy, "kind": "matrix", "level": level, **_agreement(found, baseline)})
    return proxies, agreement


def _agreement(found: Sequence[tuple[float, np.ndarray]], baseline: Baseline) -> dict[str, Any]:
    sums = np.stack([one for _, one in found])
    draws = None if baseline.resample.n_documents == 1 else baseline.resample.means(sums)
    made = rank_agreement([value for value, _ in found], baseline.resample.value(sums), draws)
    return {"spearman": made.value, "low": made.low, "high": made.high, "n": made.n, "words": made.words}
