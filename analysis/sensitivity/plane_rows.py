"""Rows of the tables that only `sparsity_plane` has: costs at every operating point, choice, fronts, what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.combined import Combined
from analysis.interventions.cost import DenseCost, PointCost
from analysis.interventions.spec import Cost
from analysis.sensitivity.curve_rows import point_rows
from analysis.sensitivity.plane_tables import CHOICE, COMBINATIONS, COSTS, FRONTS, LIST, NOT_APPLICABLE, PLANE_DROPS
from analysis.sensitivity.tables import FIRST
from analysis.stats.pareto import pareto_front

if TYPE_CHECKING:
    from analysis.interventions.entry import Entry
    from analysis.interventions.spec import Intervention
    from analysis.interventions.sweep import Baseline, Point
    from analysis.tasks import Task

Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class Placed:
    """One intervention of the plane: its line in the catalogue and the value made of it."""

    entry: Entry
    made: Intervention
    seed: int
    levels: tuple[float, ...] | None = None
    """Its own, where it was named with them."""
    parts: tuple[str, str] | None = None
    """Of a combination: the slugs of the two."""

    @property
    def key(self) -> dict[str, Any]:
        """What tells its curve apart."""
        from analysis.interventions.pruning import WeightPruning

        made = self.made if isinstance(self.made, WeightPruning) else None
        return {
            "method": self.entry.slug,
            "structure": made.structure.slug if made else "",
            "scope": made.group if made else "",
            "seed": self.seed,
            "data": FIRST,
        }

    @property
    def place(self) -> dict[str, Any]:
        """Columns that say what it is."""
        return {"target": self.entry.target, "runs_on": self.entry.runs_on}


def plane_point_rows(
    placed: Placed, point: Point, baseline: Baseline, task: Task, dense: DenseCost, units: Mapping[str, str]
) -> dict[str, Any]:
    """Rows of `curve_points`."""
    assert point.applied is not None  # only a point of this session has rows to be written
    rows = point_rows(placed.key, placed.made.kind, point, baseline, task, dense, units)
    n = len(rows["level"])
    recall = None if point.cost is None else point.cost.facts.get("recall")
    same = placed.place | {"denominator": point.applied.denominator, "recall": recall}
    return rows | {name: [value] * n for name, value in same.items()}


def costs_at(cost: PointCost) -> Iterator[tuple[str, int, float, str]]:
    """Phase, batch, value and unit of everything a point costs."""
    yield "prefill", 1, cost.flops, "FLOP"
    for batch, moved in (cost.decode_bytes or {}).items():
        yield "decode", batch, moved, "bytes"
    yield "resident", 1, cost.resident_bytes, "bytes"


def cost_rows(placed: Placed, point: Point, baseline: Baseline, dense: Sequence[DenseCost]) -> Rows:
    """Rows of `plane_costs`. dense: of every context."""
    assert point.cost is not None
    rows: Rows = {column.name: [] for column in COSTS.columns}
    loss = _increase(point, baseline)
    for whole in dense:
        full = {(phase, batch): value for phase, batch, value, _ in costs_at(whole.at(Cost(0.0)))}
        for phase, batch, value, unit in costs_at(whole.at(point.cost)):
            row = {"method": placed.entry.slug, "seed": placed.seed, "level": point.level, "context": whole.context, "phase": phase}
            row |= {"batch": batch, "absolute": value, "unit": unit, "share": value / full[phase, batch], "achieved": point.achieved}
            _add(rows, row | placed.place | loss)
    return rows


def choice_rows(placed: Placed, point: Point, baseline: Baseline) -> Rows:
    """Rows of `choice_points`: one."""
    found, losses = _increase(point, baseline), point.measured["loss"]
    rows: Rows = {column.name: [] for column in CHOICE.columns}
    row = {"method": placed.entry.slug, "seed": placed.seed, "level": point.level, "delta": found["delta"], "n": int(losses.n.sum())}
    error = baseline.estimate(baseline.increase(point.measured)).standard_error if found["low"] is not None else None
    _add(rows, row | {"stderr": error, "n_documents": baseline.resample.n_documents})
    return rows


def front_rows(points: Sequence[tuple[Placed, Point, Point]], report: Baseline, choice: Baseline, dense: Sequence[DenseCost]) -> Rows:
    """Rows of `fronts`. points: each with its measurement on the report and on the choice documents."""
    rows: Rows = {column.name: [] for column in FRONTS.columns}
    picked = [np.inf if (delta := _increase(chosen, choice)["delta"]) is None else delta for _, _, chosen in points]
    shown = [_increase(point, report) for _, point, _ in points]
    for runs_on in dict.fromkeys(placed.entry.runs_on for placed, _, _ in points):
        own = [i for i, (placed, _, _) in enumerate(points) if placed.entry.runs_on == runs_on]
        for whole in dense:
            full = list(costs_at(whole.at(Cost(0.0))))
            spent = [list(costs_at(whole.at(_cost(points[i][1])))) for i in own]
            for k, (phase, batch, value, _) in enumerate(full):
                shares = [one[k][2] / value for one in spent]
                losses = [picked[i] for i in own]
                on_front = pareto_front([1.0, *shares], [0.0, *losses])[1:]
                for i, share, is_on in zip(own, shares, on_front, strict=True):
                    placed, point, _ = points[i]
                    if not is_on or point.level == 0:
                        continue
                    row = {"runs_on": runs_on, "context": whole.context, "phase": phase, "batch": batch, "method": placed.entry.slug}
                    row |= {"seed": placed.seed, "level": point.level, "target": placed.entry.target, "share": share}
                    _add(rows, row | shown[i] | {"choice_delta": picked[i]})
    return rows


def combination_rows(points: Sequence[tuple[Placed, Point]], report: Baseline) -> Rows:
    """Rows of `combinations`: each cell of a grid beside the sum of what its two interventions do alone, on the same draws."""
    rows: Rows = {column.name: [] for column in COMBINATIONS.columns}
    alone = {(placed.entry.slug, point.level): point for placed, point in points}
    for placed, point in points:
        if placed.parts is None or not isinstance(placed.made, Combined) or point.level == 0:
            continue
        one, other = placed.parts
        singles = [alone.get((one, point.level)), alone.get((placed.entry.slug, 0.0))]
        row = {"method": one, "level": point.level, "other": other, "other_level": placed.made.at, "seed": placed.seed}
        row |= _increase(point, report) | {
            name: None if single is None else _increase(single, report)["delta"]
            for name, single in zip(("delta_method", "delta_other"), singles, strict=True)
        }
        _add(rows, row | _excess(point, singles, report))
    return rows


def _excess(point: Point, singles: Sequence[Point | None], report: Baseline) -> dict[str, float | None]:
    """How much more both cost together than one by one, and its interval."""
    known = [one for one in singles if one is not None]
    if len(known) < len(singles) or any(one.measured["loss"].n_endless.any() for one in (point, *known)):
        return dict.fromkeys(("excess", "excess_low", "excess_high"))
    found = report.estimate(report.increase(point.measured) - sum(report.increase(one.measured) for one in known))
    alone = report.resample.n_documents == 1
    return {"excess": found.value, "excess_low": None if alone else found.low, "excess_high": None if alone else found.high}


def drop_rows_of(rows: Mapping[str, list[Any]], by_slug: Mapping[str, Placed]) -> Rows:
    """Rows of `drop_points` with what each intervention is."""
    places = [by_slug[method].place for method in rows["method"]]
    found = dict(rows) | {name: [place[name] for place in places] for name in ("target", "runs_on")}
    return {column.name: found[column.name] for column in PLANE_DROPS.columns}


def list_rows(asked: Sequence[Placed], refused: Mapping[str, str]) -> Rows:
    """Rows of `interventions`."""
    rows: Rows = {column.name: [] for column in LIST.columns}
    for one in asked:
        row = {"method": one.entry.slug, "title": one.made.title, "line": one.entry.line, "kind": one.made.kind} | one.place
        row |= {"needs": ", ".join(sorted(one.made.needs)), "evidence": ", ".join(dict.fromkeys(s.evidence for s in one.entry.sources))}
        row |= {"notes": " ".join(one.made.notes) or None}
        reason = refused.get(one.entry.slug)
        _add(rows, row | {"is_measured": reason is None, "reason": reason})
    return rows


def refused_rows(asked: Sequence[Placed], refused: Mapping[str, str]) -> Rows:
    """Rows of `not_applicable`."""
    rows: Rows = {column.name: [] for column in NOT_APPLICABLE.columns}
    for one in asked:
        if one.entry.slug in refused:
            _add(rows, {"method": one.entry.slug, "target": one.entry.target, "reason": refused[one.entry.slug]})
    return rows


def _cost(point: Point) -> Cost:
    assert point.cost is not None, "a point without its cost cannot be placed"
    return point.cost


def _increase(point: Point, baseline: Baseline) -> dict[str, float | None]:
    """Increase of the loss and its interval; None where a loss is infinite or no number, and where there is one document."""
    if point.measured["loss"].n_endless.any():
        return dict.fromkeys(("delta", "low", "high"))
    found = baseline.estimate(baseline.increase(point.measured))
    alone = baseline.resample.n_documents == 1
    return {"delta": found.value, "low": None if alone else found.low, "high": None if alone else found.high}


def _add(rows: Rows, row: Mapping[str, Any]) -> None:
    for name, values in rows.items():
        values.append(row[name])
