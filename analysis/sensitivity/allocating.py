"""What an `allocation` run holds: the given grid's curves, the interventions that are compared, and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.levels import numbers
from analysis.interventions.sweep import Baseline, Curve, Point
from analysis.sensitivity.allocation_tables import OUTCOMES, SHARES
from analysis.sensitivity.choices import UNIFORM, prunings, ratio_of, words
from analysis.spec import UnknownName, UserError
from analysis.stats.allocating import allocate, convexified
from analysis.stats.paired import difference

if TYPE_CHECKING:
    from analysis.given_run import GivenRun
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.scope import Scope
    from analysis.sensitivity.allocation import AllocationConfig as Settings
    from analysis.sensitivity.study import Study

ALLOCATED = "allocated"
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def study_of(config: Settings, subject: Any, given: GivenRun) -> tuple[Study, dict[str, WeightPruning]]:
    """What is held throughout a run, and the compared interventions by name, the allocation first."""
    from analysis.interventions.measuring import Evaluation
    from analysis.interventions.scope import weight_scope
    from analysis.sensitivity.essential_sparsity import EssentialSparsityConfig
    from analysis.sensitivity.study import Study
    from analysis.tasks import choose_task

    named = interventions(config.others, config.by, subject, given)
    first, asked = named[ALLOCATED], given.provenance["config"]["task"]
    task = choose_task(subject, asked, split=_other_split(subject, given), seed=config.seed)
    scope = weight_scope(subject.model, include=first.include, only=first.only)
    evaluation = Evaluation(subject.model, task, task.batch_size(config.batch_tokens), seed=config.seed)
    settings = EssentialSparsityConfig(task=asked, seed=config.seed, batch_tokens=config.batch_tokens)
    return Study(settings, subject, task, scope, evaluation, tuple(named.values())), named


def interventions(others: str, by: str, subject: Any, given: GivenRun) -> dict[str, WeightPruning]:
    """By name: the allocation, and what it is compared with; all with the method, scope and seed of the given run."""
    from dataclasses import replace

    from analysis.interventions.ratios import RATIOS
    from analysis.interventions.ratios.allocated import Allocated

    given.must_be_of("matrix_sensitivity", subject)
    old = given.provenance["config"]
    uniform = prunings(old["method"], "unstructured", old["group"], old["include"], old["only"], old["seed"], 1)[0]
    found = {ALLOCATED: replace(uniform, ratio=Allocated(measured_curves(given, by), given.id))}
    known = (UNIFORM, *(ratio.slug for ratio in RATIOS), "global")
    for name in words(others):
        if name not in known:
            raise UnknownName(f"others must be of {', '.join(known)}, got {name!r}; separate several by commas.")
        if name == "global":
            if uniform.method.comparable and not uniform.method.updates:
                found[name] = replace(uniform, scope="global")
        else:
            found[name] = replace(uniform, ratio=ratio_of(name))
    return found


def measured_curves(given: GivenRun, by: str) -> Curves:
    """Hulls of the matrices that the run measured, of the mean increase or of its upper end. Raises `UserError` where it measured none."""
    points = given.read("matrix_points")
    points = points[points["kind"] == "matrix"].sort_values(["tensor", "level"])
    if not len(points):
        raise UserError(f"the run must have measured matrices, got {given.id}, which has none; run matrix_sensitivity with units=matrices.")
    column = "high" if by == "upper" and points["high"].notna().any() else "delta"
    return {
        str(tensor): convexified(rows["level"].to_numpy(), rows[column].fillna(np.inf).to_numpy())
        for tensor, rows in points.groupby("tensor")
    }


def _other_split(subject: Any, given: GivenRun) -> str:
    """Documents that the allocation was not chosen on: report for a grid of choice, choice for a grid of report."""
    split = given.provenance["config"]["split"]
    other = {"choice": "report", "report": "choice"}.get(split)
    if other is None:
        raise UserError(f"the run must be of the choice or the report split, got {given.id}, which is of {split}; measure one of those.")
    data = given.provenance["fingerprints"]["model"].get("data")
    if data != subject.fingerprints.get("data"):
        raise UserError(
            f"the data must be those of the run {given.id}, so that its documents can be kept apart, got others; "
            "give the same --data, n_tokens, window and seed."
        )
    return other


def check_seed(config: Settings, given: GivenRun) -> None:
    """Splits are drawn by the seed: with another one they would overlap."""
    if config.seed != given.provenance["config"]["seed"]:
        raise UserError(f"seed must be that of the run {given.id}, {given.provenance['config']['seed']}, got {config.seed}; set it.")


def targets(text: str, scope: Scope, curves: Curves) -> tuple[float, ...]:
    """The overall levels. Raises `UserError` for one beyond what was measured."""
    found = tuple(sorted({level for level in numbers(text, "levels", 0.0, 1.0) if level > 0}))
    for level in found[-1:]:
        try:
            allocate(*_hulls(scope, curves), level)
        except ValueError as error:
            raise UserError(str(error)) from error
    return found


def _hulls(scope: Scope, curves: Curves) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[int]]:
    dense = (np.array([0.0]), np.array([0.0]))
    return [curves.get(member.name, dense) for member in scope.members], [member.n for member in scope.members]


def share_rows(scope: Scope, curves: Curves, levels: Sequence[float]) -> tuple[dict[str, list[Any]], dict[float, float]]:
    """Rows of `allocation`, and the predicted increase of each level."""
    rows: dict[str, list[Any]] = {column.name: [] for column in SHARES.columns}
    hulls, sizes = _hulls(scope, curves)
    predicted = {}
    for level in levels:
        shares, predicted[level] = allocate(hulls, sizes, level)
        for member, share, (s, loss) in zip(scope.members, shares.tolist(), hulls):
            row = (level, member.name, member.layer, member.role, member.n, share, float(np.interp(share, s, loss)), member.name in curves)
            for values, value in zip(rows.values(), row, strict=True):
                values.append(value)
    return rows, predicted


def outcome_rows(
    found: Mapping[str, Curve], baseline: Baseline, predicted: Mapping[float, float], split: str, unit: str
) -> dict[str, list[Any]]:
    """Rows of `allocation_outcomes`."""
    rows: dict[str, list[Any]] = {column.name: [] for column in OUTCOMES.columns}
    ours = {point.level: point for point in found[ALLOCATED].points}
    for level in predicted:
        for name, curve in {"dense": None, **found}.items():
            point = None if curve is None else next((p for p in curve.points if p.level == level), None)
            if name == ALLOCATED or (curve is not None and point is None) or level not in ours:
                continue
            row = {"level": level, "other": name, "split": split, "unit": unit, "predicted": predicted[level]}
            row |= _difference(ours[level], point, baseline)
            for column, values in rows.items():
                values.append(row[column])
    return rows


def _difference(ours: Point, other: Point | None, baseline: Baseline) -> dict[str, Any]:
    one = baseline.increase(ours.measured)
    two = np.zeros_like(one) if other is None else baseline.increase(other.measured)
    n = {"n": int(baseline.resample.counts.sum()), "n_documents": baseline.resample.n_documents}
    if not np.isfinite(one).all() or not np.isfinite(two).all():
        return n | dict.fromkeys(("difference", "low", "high")) | {"words": "not comparable: a loss is infinite"}
    gap = difference(baseline.resample, one, two)
    alone = baseline.resample.n_documents == 1
    said = {"the first is smaller": "the allocation is better", "the second is smaller": "the other is better"}
    words = "no interval: one document" if alone else said.get(gap.words, gap.words)
    ends = {"low": None, "high": None} if alone else {"low": gap.low, "high": gap.high}
    return n | {"difference": gap.value, "words": words, **ends}
