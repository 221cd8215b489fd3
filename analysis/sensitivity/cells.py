"""Levels of a sweep as cells: one level of one intervention on all data, wherever it is computed.

A cell is named ``first/number/level``: number of the first data set that asked for it, of the intervention, and the level. Level 0 is
one only where it is measured anew; elsewhere it is the dense model's, known to who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.sides import DENSE, Side
from analysis.sensitivity.study import calibration_for

if TYPE_CHECKING:
    from analysis.interventions.levels import Levels
    from analysis.interventions.spec import Held, Intervention
    from analysis.interventions.sweep import Point
    from analysis.sensitivity.study import Study

Report = Callable[[float], None]
Coming = Sequence[tuple[int, "Levels"]]
"""Curves that are measured next, by number."""


def cell_name(first: int, number: int, level: float) -> str:
    """Of a level; the level is told in full."""
    return f"{first}/{number}/{level!r}"


def points_at(held: Held, sides: Sequence[Side], level: float, dense: bool, report: Report) -> dict[str, Point]:
    """One level, applied once, measured on all of these data; ``dense``: as the dense model was measured on them."""
    from analysis.interventions.sweep import point_of

    first, *others = sides
    n = len(sides)
    point = point_of(held, first.evaluation, level, first.known[DENSE].measured if dense else None, share_of(report, 0, n))
    return {first.name: point} | {one.name: one.beside(point, dense, share_of(report, k, n)) for k, one in enumerate(others, 1)}


def share_of(report: Report, i: int, n: int) -> Report:
    """Progress inside of what has n equal parts."""
    return lambda share: report((i + share) / n)


class Cells:
    """What a worker holds of a sweep: the model, its data, and one intervention at a time. Use it in a ``with`` statement."""

    def __init__(self, study: Study, sides: Sequence[Side], made: Sequence[Intervention]) -> None:
        self._study, self._sides, self._made = study, sides, made
        self._number, self._held = -1, ExitStack()
        self._now: Any = None

    def __enter__(self) -> Cells:
        for side in self._sides:
            if side.evaluation.needs_dense:
                side.evaluation.dense()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __call__(self, cell: str, report: Report) -> dict[str, Point]:
        """The points of a cell, by name of the data."""
        first, number, level = cell.split("/")
        self._hold(int(number))
        return points_at(self._now, self._sides[int(first) :], float(level), False, report)

    def _hold(self, number: int) -> None:
        if number == self._number:
            return
        self._held.close()
        self._number = -1
        made, calibrations = self._made[number], self._study.calibrations
        for key in [key for key in calibrations if key[0] != made.needs]:
            del calibrations[key]  # second moments are as large as the weights
        self._now = self._held.enter_context(made.on(self._study.subject, calibration_for(self._study, made)))
        self._number = number


class Asking:
    """The levels of one curve, computed by workers where the run has any, else here."""

    def __init__(self, held: Held, sides: Sequence[Side], first: int, number: int, anew: bool, work: Any, coming: Coming) -> None:
        self._held, self._sides, self._first, self._number = held, sides, first, number
        self._anew, self._work, self._coming = anew, work, coming

    def points(self, level: float) -> dict[str, Point]:
        """By name of the data."""
        if level == 0.0 and not self._anew:
            return points_at(self._held, self._sides, level, True, self._work.report)
        cell = cell_name(self._first, self._number, level)
        return self._work.compute(cell, lambda _, report: points_at(self._held, self._sides, level, False, report))

    def expect(self, levels: Iterator[float]) -> None:
        """Announce the levels to come, and behind them those of the curves to come: as many as workers can take twice."""
        if self._work.workers:
            mine = (cell_name(self._first, self._number, level) for level in levels if level > 0 or self._anew)
            later = (cell_name(0, number, level) for number, plan in self._coming for level in plan.ahead({}) if level > 0)
            self._work.expect(list(islice(chain(mine, later), 2 * self._work.workers)))
