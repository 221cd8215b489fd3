"""The data sets that one run measures, one or two: what each is asked, and what has been measured on it.

States of work hold both, told apart by the name before the first slash; a level that only one asked for holds that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.tables import FIRST, SECOND_SET
from analysis.spec import UserError

if TYPE_CHECKING:
    import numpy as np

    from analysis.interventions.measuring import Evaluation
    from analysis.interventions.sweep import Baseline, Point
    from analysis.sensitivity.study import Study
    from analysis.tasks import Task

DENSE = "dense"


@dataclass
class Side:
    """One data set."""

    name: str
    """In the column ``data``: first or second."""
    task: Task
    evaluation: Evaluation
    seed: int
    """Of its draws of documents: of its own, since different documents cannot be paired."""
    known: dict[str, Point] = field(default_factory=dict)
    """By unit of work."""

    @cached_property
    def baseline(self) -> Baseline:
        """The dense model on it, once that is known."""
        from analysis.interventions.sweep import Baseline

        return Baseline.of(self.known[DENSE].measured, self.seed)

    @property
    def dense_loss(self) -> float:
        """Mean per position."""
        losses = self.known[DENSE].measured["loss"]
        return float(losses.total.sum() / losses.n.sum())

    @property
    def noise_floor(self) -> float:
        """Largest change of a document's mean loss when the dense model is measured a second time, at level 0 of the first curve."""
        import numpy as np

        again = next((point for point in self.points(0) if point.level == 0.0), None)
        return 0.0 if again is None else float(np.abs(self.baseline.increase(again.measured) / self.baseline.resample.counts).max())

    def points(self, number: int) -> list[Point]:
        """Of one curve, in the order they were measured."""
        return [point for name, point in self.known.items() if name.startswith(f"{number}/")]

    def beside(self, point: Point, dense: bool, report: Callable[[float], None]) -> Point:
        """The same state of the model, measured on this data; ``dense``: known from the dense model."""
        from analysis.interventions.sweep import Point

        measured = self.known[DENSE].measured if dense else self.evaluation.measure(report)
        return Point(point.level, measured, point.applied, point.cost)


def sides_of(study: Study, second: Any = None, named: str = "") -> tuple[Side, ...]:
    """The data of the run, and the second where there is one. Raises `UserError` where the two are not asked the same.

    ``named``: what the setting second_data says."""
    first = Side(FIRST, study.task, study.evaluation, study.config.seed)
    if second is None:
        if named:
            raise UserError(
                f"second_data must come opened where a run is made in Python, got only {named!r}; "
                "give the input second_data, made by analysis.second_data.second_of."
            )
        return (first,)
    task, evaluation = study.asked_of(second)
    if (task.name, task.unit) != (study.task.name, study.task.unit):
        raise UserError(
            f"second_data must be asked the same as the data, {study.task.name} in {study.task.unit}, got {task.name} in {task.unit}; "
            "give data of the same kind, or set the task, for example task=divergence."
        )
    return first, Side(SECOND_SET, task, evaluation, study.config.seed + 1)


def packed(found: Mapping[str, Point]) -> dict[str, np.ndarray]:
    """The state of a unit, from points by the name of their data."""
    return {f"{name}/{key}": values for name, point in found.items() for key, values in point.arrays().items()}


def unpacked(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Point]]:
    """What `packed` was given."""
    from analysis.interventions.sweep import Point

    for name in dict.fromkeys(key.partition("/")[0] for key in state):
        yield name, Point.of_arrays({key.partition("/")[2]: values for key, values in state.items() if key.startswith(f"{name}/")})


def facts_of_second(side: Side, data: Any) -> dict[str, Any]:
    """For the provenance: what the second data are and how many were measured."""
    resample = side.baseline.resample
    return dict(side.task.facts) | {
        "name": data.name,
        "data_facts": data.facts,
        "n_scored": int(resample.counts.sum()),
        "n_documents_measured": resample.n_documents,
        "intervals": resample.note or "over documents, bootstrap",
        "dense_loss": side.dense_loss,
        "noise_floor": side.noise_floor,
    }
