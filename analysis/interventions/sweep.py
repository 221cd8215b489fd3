"""Sweep: one intervention at many levels becomes a curve of paired differences from the dense model.

    baseline = Baseline.of(evaluation.dense())                    # once for all interventions: they share documents and draws
    with intervention.on(subject, calibration) as held:
        for point in sweep(held, evaluation, baseline, levels):   # point by point; each is a unit of work
            ...

Splits: what an intervention needs is measured on calibration, what is picked is picked on choice, every number comes from report;
whoever builds task and calibration sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.interventions.levels import Estimate, Levels
from analysis.interventions.measuring import LOSS, Evaluation, Measured, Tokens
from analysis.interventions.spec import Applied, Cost, Held
from analysis.spec import UserError
from analysis.stats.drops import DropPoint, drop_draws, drop_point
from analysis.stats.paired import Resample, band
from analysis.tasks import Losses

ACCURACY = "accuracy"
UnitOf = Callable[[str, int], Iterable[object]]
"""From a level's name and about how many levels there will be to an iterable that gives one item, or none where the unit is done."""


@dataclass(frozen=True)
class Point:
    """One level, measured."""

    level: float
    measured: Measured
    applied: Applied | None = None
    """None for a point read back from an earlier session: its rows are stored already."""
    cost: Cost | None = None
    kept_achieved: float | None = None
    """Of a point read back; None where it was stored without."""

    @property
    def achieved(self) -> float | None:
        """Measured share removed, zeros of the dense model included; None where it is not known."""
        return self.kept_achieved if self.applied is None else self.applied.achieved

    @property
    def name(self) -> str:
        """Of its unit of work."""
        return level_name(self.level)

    def arrays(self) -> dict[str, np.ndarray]:
        """The measurement as arrays, as `of_arrays` takes them."""
        flat = {f"metric/{name}/{key}": values for name, losses in self.measured.items() for key, values in losses.arrays().items()}
        for place, tokens in self.measured.tokens.items():
            flat |= {f"tokens/{place}/{key}": values for key, values in vars(tokens).items()}
        known = {} if self.achieved is None else {"achieved": np.array(self.achieved)}
        if self.cost is not None:
            known["cost"] = np.frombuffer(self.cost.as_text().encode(), np.uint8)
        return flat | known | {"level": np.array(self.level)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Point:
        """What `arrays` gave: without what was applied, of which the share and the cost are kept."""
        found: dict[str, dict[str, dict[str, np.ndarray]]] = {"metric": {}, "tokens": {}}
        for name, values in arrays.items():
            if name not in ("level", "achieved", "cost"):
                kind, _, rest = name.partition("/")
                whose, _, key = rest.rpartition("/")
                found[kind].setdefault(whose, {})[key] = values
        metrics = {name: Losses.of_arrays(parts) for name, parts in found["metric"].items()}
        tokens = {int(place): Tokens(**parts) for place, parts in found["tokens"].items()}
        achieved = float(arrays["achieved"]) if "achieved" in arrays else None
        cost = Cost.of_text(arrays["cost"].tobytes().decode()) if "cost" in arrays else None
        return cls(float(arrays["level"]), Measured(metrics, tokens), cost=cost, kept_achieved=achieved)


def level_name(level: float) -> str:
    """A level as text, the same for the same level."""
    return f"{level:.6f}"


@dataclass(frozen=True)
class Baseline:
    """The dense model, and the documents and draws that everything is compared on."""

    measured: Measured
    documents: np.ndarray
    """int64 [D]: those with a scored position; axis of all sums."""
    resample: Resample

    @classmethod
    def of(cls, measured: Measured, seed: int = 0) -> Baseline:
        """From a measurement of the dense model, whose loss must be finite everywhere."""
        dense = measured[LOSS].by_document()
        if dense.n_endless.any():
            raise UserError(
                f"the dense model's loss must be finite, got {int(dense.n_endless.sum()):,} positions where it is infinite or no number; "
                "leave those documents out, or use a wider number type."
            )
        if not dense.n.any():
            raise UserError("the data must hold a position to be scored, got none; give a longer text or more examples.")
        kept = dense.n > 0
        return cls(measured, dense.document[kept], Resample.of(dense.n[kept], seed))

    def increase(self, measured: Measured) -> np.ndarray:
        """Loss minus dense loss, summed over each document [D]; infinite where the loss is."""
        now, dense = (self._sums(one[LOSS]) for one in (measured, self.measured))
        if not np.array_equal(now.n, dense.n):
            raise ValueError("losses can be subtracted only where both are of the same positions; use the same evaluation for both.")
        return np.where(now.n_endless > 0, np.inf, now.total - dense.total)

    def lost(self, measured: Measured) -> np.ndarray:
        """Positions that were right and are no more, minus those that have become right, of each document [D]."""
        now, dense = (self._sums(one[LOSS]) for one in (measured, self.measured))
        return (dense.n_right - now.n_right).astype(np.float64)

    def _sums(self, losses: Losses) -> Losses:
        found = losses.by_document()
        at = np.searchsorted(found.document, self.documents)
        return Losses(**{name: values[at] for name, values in found.arrays().items()})

    def estimate(self, sums: np.ndarray) -> Estimate:
        """Mean per position of sums over documents [D], with its interval from the shared draws."""
        low, high = band(self.resample.means(sums[None]))
        error = 0.0 if not sums.any() else float(self.resample.standard_errors(sums[None])[0])
        return Estimate(float(self.resample.value(sums)), float(low[0]), float(high[0]), error)


def sweep(
    held: Held,
    evaluation: Evaluation,
    baseline: Baseline,
    levels: Levels,
    *,
    known: Sequence[Point] = (),
    dense: Measured | None = None,
    unit: UnitOf = lambda name, expected: (name,),
    report: Callable[[float], None] = lambda share: None,
    at: Callable[[float], Point] | None = None,
    expect: Callable[[Iterator[float]], None] = lambda levels: None,
) -> Iterator[Point]:
    """Measure level after level until `levels` has enough, or at the only levels there are; yields the new points.

    ``known``: points measured before; they are not repeated, and the levels chosen are those that would have been. ``dense``: taken for
    the measurement at level 0 where given; where not, level 0 is measured anew, which shows the noise floor. ``at``: gives the points,
    where they are not measured here; ``expect`` is told before each which levels will be wanted, as far as can be told.
    """
    curve = {point.level: baseline.estimate(baseline.increase(point.measured)) for point in known}
    plan = levels if held.levels is None else Levels(levels.tolerances, tuple(sorted(held.levels)))
    while (level := plan.next(curve)) is not None:
        before = len(curve)
        for _ in unit(level_name(level), plan.expected(curve)):
            expect(plan.ahead(curve))
            point = at(level) if at else point_of(held, evaluation, level, dense if level == 0.0 else None, report)
            curve[level] = baseline.estimate(baseline.increase(point.measured))
            yield point
        if len(curve) == before:
            raise RuntimeError(f"level {level} is marked as done, but its measurement is not among the known points")


def point_of(held: Held, evaluation: Evaluation, level: float, dense: Measured | None, report: Callable[[float], None]) -> Point:
    """One level, applied and measured; ``dense``: taken for its measurement where given."""
    applied = held.at(level)
    measured = evaluation.measure(report, again=lambda: held.at(level)) if dense is None else dense
    return Point(level, measured, _counted(held, applied), _cost(held, applied))


def _counted(held: Held, applied: Applied) -> Applied:
    """With the share that was counted while the model ran, where only running tells it."""
    share = held.measured_share()
    return applied if share is None else replace(applied, achieved=share)


def _cost(held: Held, applied: Applied) -> Cost:
    """What is left, from what was counted in the live model; planned anew only where nothing was, since that reads every score."""
    layout = held.facts.get("structure")
    return Cost(applied.level, applied.counts, layout) if applied.counts and layout else held.cost(applied.level)


@dataclass(frozen=True)
class Curve:
    """All points of one intervention, in order of the level."""

    points: tuple[Point, ...]
    baseline: Baseline
    steps: bool = False
    """Whether there is nothing between its levels: patterns N of M."""

    @classmethod
    def of(cls, points: Iterable[Point], baseline: Baseline, steps: bool = False) -> Curve:
        """Sorted by level."""
        return cls(tuple(sorted(points, key=lambda point: point.level)), baseline, steps)

    @property
    def levels(self) -> np.ndarray:
        """[levels], ascending."""
        return np.array([point.level for point in self.points])

    def achieved_at(self, level: float) -> float | None:
        """Share removed at a level, linear between the measured ones; None where one of them is not known."""
        known = [point.achieved for point in self.points]
        return None if None in known else float(np.interp(level, self.levels, np.array(known, np.float64)))

    def sums(self, metric: str = LOSS) -> np.ndarray:
        """Increase of the loss, or accuracy lost, by document [levels, D]."""
        of = {LOSS: self.baseline.increase, ACCURACY: self.baseline.lost}[metric]
        return np.stack([of(point.measured) for point in self.points])

    def drop_point(self, eps: float, metric: str = LOSS) -> DropPoint:
        """s*(eps) with its interval."""
        return drop_point(self.levels, self.sums(metric), eps, self.baseline.resample, self.steps)

    def drop_draws(self, eps: float, metric: str = LOSS) -> tuple[np.ndarray, np.ndarray]:
        """s*(eps) in every draw, for differences between curves on the same baseline."""
        return drop_draws(self.levels, self.baseline.resample.means(self.sums(metric)), eps, self.steps)


def perplexity(loss: float) -> float | None:
    """exp of a mean loss per token in nats; None beyond 1e300, where only the loss itself can be written."""
    return math.exp(loss) if loss <= math.log(1e300) else None
