"""The grid of `matrix_sensitivity`: each candidate alone at level after level, measured by restarting, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.levels import COLLAPSED, Estimate, numbers
from analysis.interventions.measuring import LOSS, Measured
from analysis.interventions.restarting import Restarting
from analysis.interventions.skipping import blocks_around
from analysis.interventions.sweep import Baseline, Point
from analysis.sensitivity.choices import headline, prunings, tolerances, words
from analysis.spec import UserError
from analysis.stats.paired import resolved
from analysis.tasks import Losses

if TYPE_CHECKING:
    from analysis.interventions.pruning import WeightPruning
    from analysis.interventions.scope import Scope
    from analysis.sensitivity.candidates import Candidate
    from analysis.sensitivity.matrix_sensitivity import MatrixSensitivityConfig as Settings
    from analysis.tasks import Task

GRID, REFINED = "grid", "refined"
_NARROW = 0.02
"""Bracket of a drop point that is not halved any further."""


@dataclass
class Measurement:
    """One candidate: its points by level, how many of its weights were zero at each, and why each was measured."""

    points: dict[float, Point] = field(default_factory=dict)
    n_zero: dict[float, int] = field(default_factory=dict)
    stage: dict[float, str] = field(default_factory=dict)

    def drop_above(self, last: float) -> None:
        """Forget the points at higher levels."""
        for level in [level for level in self.points if level > last]:
            del self.points[level], self.n_zero[level], self.stage[level]

    def arrays(self) -> dict[str, np.ndarray]:
        """As `of_arrays` takes them."""
        flat = {f"{i}/{key}": values for i, point in enumerate(self.points.values()) for key, values in point.arrays().items()}
        levels = list(self.points)
        zeros, refined = [self.n_zero[level] for level in levels], [self.stage[level] == REFINED for level in levels]
        return flat | {"levels": np.array(levels), "n_zero": np.array(zeros, np.int64), "refined": np.array(refined)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Measurement:
        """What `arrays` gave."""
        made = cls()
        for i, (zero, refined) in enumerate(zip(arrays["n_zero"].tolist(), arrays["refined"].tolist())):
            point = Point.of_arrays({key.partition("/")[2]: values for key, values in arrays.items() if key.startswith(f"{i}/")})
            made.points[point.level], made.n_zero[point.level] = point, int(zero)
            made.stage[point.level] = REFINED if refined else GRID
        return made


@dataclass(frozen=True)
class Grid:
    """What is held throughout a run."""

    config: Settings
    subject: Any
    task: Task
    scope: Scope
    pruning: WeightPruning
    levels: tuple[float, ...]
    """The fixed ones, ascending, without 0."""
    group_levels: tuple[float, ...]
    restarting: Restarting

    @classmethod
    def of(cls, config: Settings, subject: Any) -> Grid:
        """Everything that the settings ask for; every refusal comes before the first pass."""
        from analysis.interventions.scope import weight_scope
        from analysis.tasks import choose_task

        found = prunings(config.method, "unstructured", config.group, config.include, config.only, config.seed, 1)
        if len(found) > 1:
            raise UserError(f"method must be one, got {config.method!r}; run it once for each.")
        if config.split == "all" and found[0].needs:
            raise UserError(f"split must be report or choice where a method is calibrated, got all with {config.method}.")
        task = choose_task(subject, config.task, split=config.split, seed=config.seed)
        scope = weight_scope(subject.model, include=found[0].include, only=config.only)
        restarting = Restarting(
            subject.model, task, task.batch_size(config.batch_tokens), blocks_around(subject.model, scope.members), stack=config.stack
        )
        levels, more = (_levels(getattr(config, name), name) for name in ("levels", "group_levels"))
        return cls(config, subject, task, scope, found[0], levels, more, restarting)

    def baseline(self, report: Callable[[float], None] = lambda share: None) -> Baseline:
        """The dense model, measured now."""
        return Baseline.of(Measured({LOSS: self.restarting.dense(report)}), self.config.seed)

    def eps(self, baseline: Baseline) -> float:
        """The tolerance of drop points."""
        losses = baseline.measured[LOSS]
        return headline(tolerances(self.config.eps, self.task, float(losses.total.sum() / losses.n.sum())))

    def levels_of(self, candidate: Candidate) -> tuple[float, ...]:
        """The fixed levels of this kind."""
        return self.levels if candidate.kind == "matrix" else self.group_levels

    def first_batch(self) -> Any:
        """What the model is run on to see its structure."""
        return next(iter(self.task.batches(2))).inputs

    def measure(self, candidate: Candidate, baseline: Baseline, eps: float, report: Callable[[float], None]) -> Measurement:
        """The fixed levels upwards until the loss has collapsed; then the bracket of the drop point is halved where noise allows."""
        made = Measurement()
        levels, stack = self.levels_of(candidate), max(1, self.config.stack)
        for first in range(0, len(levels), stack):
            self._add(made, candidate, levels[first : first + stack], GRID, lambda share: report(share / 2))
            gone = [level for level, one in estimates(made.points.values(), baseline).items() if one.value > self.collapsed(eps)]
            if gone:
                made.drop_above(gone[0])  # or how many levels lie in a pass would decide what is measured
                break
        for _ in range(self.config.refine):
            middle = _between(estimates(made.points.values(), baseline), eps)
            if middle is None:
                break
            self._add(made, candidate, (middle,), REFINED, lambda share: report(0.5 + share / 2))
        return made

    def collapsed(self, eps: float) -> float:
        """The increase above which nothing more is to be learned."""
        return {"relative error": 1.0}.get(self.task.unit, COLLAPSED if self.task.knows_right else 20 * eps)

    def _add(self, made: Measurement, candidate: Candidate, levels: Sequence[float], stage: str, report: Callable[[float], None]) -> None:
        found = [candidate.at(level) for level in levels]
        losses = self.restarting.measure([change for change, _ in found], candidate.block, report)
        for level, (_, n_zero), one in zip(levels, found, losses):
            made.points[level] = Point(level, Measured({LOSS: one.by_document()}))
            made.n_zero[level], made.stage[level] = n_zero, stage


def estimates(points: Iterable[Point], baseline: Baseline) -> dict[float, Estimate]:
    """The increase at each measured level, and 0 at level 0."""
    found = {point.level: baseline.estimate(baseline.increase(point.measured)) for point in points}
    return {0.0: Estimate(0.0, 0.0, 0.0, 0.0)} | dict(sorted(found.items()))


def _between(curve: Mapping[float, Estimate], eps: float) -> float | None:
    """The middle of the levels around the crossing; None where there is none, it is narrow, or noise hides it."""
    levels = sorted(curve)
    above = next((i for i, level in enumerate(levels) if curve[level].value > eps), None)
    if above is None or above == 0:
        return None
    low, high = levels[above - 1], levels[above]
    hidden = not resolved(curve[low].standard_error, eps)
    return None if hidden or high - low <= _NARROW else round((low + high) / 2, 6)


def _levels(text: str, name: str) -> tuple[float, ...]:
    found = tuple(sorted({level for level in numbers(text, name, 0.0, 1.0) if level > 0}))
    if not found:
        raise UserError(f"{name} must hold a level above 0, got {text!r}; write for example 0.3, 0.5, 0.7.")
    return found


def asked(units: str) -> list[str]:
    """The kinds of candidates that were asked for."""
    found = words(units)
    if not found:
        raise UserError(f"units must name at least one of matrices, heads, ffn, sublayers, blocks, got {units!r}; name some.")
    return found


def document_sums(losses: Losses, documents: np.ndarray) -> np.ndarray:
    """Sums of the loss of these documents, infinite where a position's is."""
    found = losses.by_document()
    at = np.searchsorted(found.document, documents)
    return np.where(found.n_endless[at] > 0, np.inf, found.total[at])
