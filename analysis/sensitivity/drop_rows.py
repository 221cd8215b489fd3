"""Rows of drop points and of their differences, from whole curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.interventions.measuring import LOSS
from analysis.interventions.structures import structure_of
from analysis.interventions.sweep import ACCURACY, Curve
from analysis.sensitivity.choices import ONE_POINT, headline
from analysis.sensitivity.curve_rows import curve_label, metric_names
from analysis.sensitivity.tables import DIFFERENCES, DROPS, FIRST
from analysis.stats.drops import ENOUGH_DRAWS, DropPoint, drop_difference, drop_spread, sharpest_bend
from analysis.stats.paired import rank_intervals
from analysis.tasks import Task

Rows = dict[str, list[Any]]
APART = 0.005
"""How far the share asked for and the achieved one may lie apart without a word."""


@dataclass(frozen=True)
class NamedCurve:
    """A curve and what tells it apart."""

    key: Mapping[str, Any]
    curve: Curve
    is_drawn: bool = False
    """Whether another seed or calibration sample gives another one."""

    @property
    def label(self) -> str:
        """For lists and legends."""
        return curve_label(self.key)

    @property
    def without_seed(self) -> tuple[tuple[str, Any], ...]:
        """What it has in common with the other draws of its method."""
        return tuple((name, value) for name, value in self.key.items() if name != "seed")


def drop_rows(curves: Sequence[NamedCurve], eps: Sequence[float], task: Task) -> Rows:
    """Rows of `drop_points`: of the loss at every tolerance, of accuracy at one point."""
    asked = [(LOSS, one, task.unit) for one in eps]
    if ACCURACY in metric_names(task, {}):
        asked.append((ACCURACY, ONE_POINT, "share of positions"))
    found = [(one, metric, at, unit, one.curve.drop_point(at, metric)) for one in curves for metric, at, unit in asked]
    hidden = {
        drop.eps for one, metric, *_, drop in found if metric == LOSS and drop.answer == "not resolvable" and one.key["data"] == FIRST
    }
    shown = headline(eps, hidden)
    draws: dict[Any, list[DropPoint]] = {}
    for one, metric, at, _, drop in found:
        draws.setdefault((one.without_seed, metric, at), []).append(drop)
    rows: Rows = {column.name: [] for column in DROPS.columns}
    for one, metric, at, unit, drop in found:
        numbers = _drop(drop, one.curve, metric) | _drawn(one, draws[one.without_seed, metric, at])
        if one.curve.steps:
            numbers["words"] = _last_pattern(drop, one)
        if numbers["n_draws"] is not None and numbers["n_draws"] < ENOUGH_DRAWS:
            numbers["note"] = "; ".join(part for part in (numbers["note"], numbers["draws_words"]) if part)
        row = {**one.key, "metric": metric, "eps": at, "unit": unit, "is_headline": metric == LOSS and at == shown, **numbers}
        for name, values in rows.items():
            values.append(row[name])
    return rows


def _drawn(one: NamedCurve, drops: Sequence[DropPoint]) -> dict[str, Any]:
    if not one.is_drawn:
        return dict.fromkeys(("n_draws", "draws_sd", "draws_low", "draws_high", "draws_words"))
    spread = drop_spread(drops)
    return {
        "n_draws": spread.n,
        "draws_sd": spread.sd,
        "draws_low": spread.low,
        "draws_high": spread.high,
        "draws_words": spread.words,
    }


def _drop(drop: DropPoint, curve: Curve, metric: str) -> dict[str, Any]:
    reached, alone = drop.answer == "reached", drop.n_documents == 1
    sums = curve.sums(metric)
    bend = None if curve.steps else sharpest_bend(curve.levels, curve.baseline.resample.value(sums))
    achieved = curve.achieved_at(drop.point.level) if reached else None
    return {
        "answer": drop.answer,
        "level": drop.point.level if reached else None,
        "low": drop.low.level if reached and not alone else None,
        "high": drop.high.level if reached and not alone and drop.high.reached else None,
        "achieved": achieved,
        "raw": drop.raw.level if drop.raw.reached else None,
        "below": drop.bracket[0] if reached else None,
        "above": drop.bracket[1] if reached else None,
        "last_level": float(curve.levels[-1]),
        "stderr": drop.standard_error if not alone and np.isfinite(drop.standard_error) else None,
        "n_documents": drop.n_documents,
        "words": drop.words,
        "note": "; ".join(note for note in (drop.note, _apart(drop, achieved)) if note) or None,
        "bend": bend.level if bend is not None and bend.reached else None,
    }


def _last_pattern(drop: DropPoint, one: NamedCurve) -> str:
    """The answer where there are patterns only: the last one within, and those whose interval holds the tolerance."""
    levels = one.curve.levels.tolist()
    names = {level: "{} of {} kept".format(*(structure_of(one.key["structure"]).pattern_at(level) or ())) for level in levels}
    if not drop.point.reached:
        said = f"all patterns are within, to {names[levels[-1]]}"
    elif drop.point.level == 0:
        said = f"no pattern is within, from {names[levels[1]]}"
    else:
        said = f"{names[drop.point.level]} is the last pattern within"
    if drop.n_documents == 1:
        return f"{said}, no interval (one document)"
    undecided = [names[level] for level in levels if drop.low.level < level <= drop.high.level]
    return f"{said}; undecided: {', '.join(undecided)}, whose 95 % interval holds the tolerance" if undecided else said


def _apart(drop: DropPoint, achieved: float | None) -> str:
    """That s* is of the share asked for, where another share was zero: weights without data stay, others were zero before."""
    if achieved is None or abs(achieved - drop.point.level) <= APART:
        return ""
    return (
        f"s*({drop.eps:g}) is of the share asked for, {100 * drop.point.level:.1f} %; there {100 * achieved:.1f} % of the scope were zero"
    )


def difference_rows(curves: Sequence[NamedCurve], eps: float) -> Rows:
    """Rows of `drop_differences`: pairs on the same data, with ranks; then each curve on the first data beside itself on the second."""
    rows: Rows = {column.name: [] for column in DIFFERENCES.columns}
    draws = [one.curve.drop_draws(eps) for one in curves]
    for data in dict.fromkeys(one.key["data"] for one in curves):
        here = [i for i, one in enumerate(curves) if one.key["data"] == data]
        ranks = _ranks([draws[i] for i in here])
        for a, b in combinations(range(len(here)), 2):
            found = [None] * 4 if ranks is None else [int(end[place]) for place in (a, b) for end in ranks]
            _add(rows, curves[here[a]], curves[here[b]], eps, draws[here[a]], draws[here[b]], True, found)
    for i, j in combinations(range(len(curves)), 2):
        one, other = dict(curves[i].key), dict(curves[j].key)
        if one.pop("data") != other.pop("data") and one == other:
            _add(rows, curves[i], curves[j], eps, draws[i], draws[j], False, [None] * 4)
    return rows


def _ranks(draws: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Best and worst rank of each; None where one does not cross its tolerance in nearly every draw."""
    if any((~reached).mean() >= 0.025 for _, reached in draws):  # noqa: PLR2004 - the tail of a 95 % interval
        return None
    return rank_intervals(-np.stack([levels for levels, _ in draws], axis=1))


def _add(rows: Rows, one: NamedCurve, other: NamedCurve, eps: float, a: Any, b: Any, is_paired: bool, ranks: Sequence[int | None]) -> None:
    gap = drop_difference(a, b)
    words = gap if isinstance(gap, str) else f"{gap.value:+.3g}, 95 % interval {gap.low:+.3g} to {gap.high:+.3g}"
    numbers = (None, None, None) if isinstance(gap, str) else (gap.value, gap.low, gap.high)
    row = (one.label, other.label, eps, is_paired, *numbers, words, *ranks)
    for values, value in zip(rows.values(), row, strict=True):
        values.append(value)
