"""Measuring one intervention, level by level, on every data set of a run: the part that all sweeps share.

A unit is one level of one intervention, named ``number/level``; what an earlier session measured is not measured again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.cells import Asking, Coming, share_of
from analysis.sensitivity.sides import DENSE, Side, packed, unpacked
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.levels import Levels
    from analysis.interventions.spec import Held
    from analysis.interventions.sweep import Point
    from analysis.tasks import Task

UNIT = "measuring levels"


def read_back(sides: tuple[Side, ...], work: Any) -> None:
    """What earlier sessions measured; outputs of the dense model are not stored, so where they are compared with, they are made anew."""
    by_name = {side.name: side for side in sides}
    for unit, state in work.states(UNIT):
        for name, point in unpacked(state):
            by_name[name].known[unit] = point
    for side in sides:
        if DENSE in side.known and side.evaluation.needs_dense:
            side.evaluation.dense()


def measure_dense(sides: tuple[Side, ...], expected: int, work: Any) -> Iterator[None]:
    """The dense model on all data; yields once, while its unit is open, where it had not been measured."""
    from analysis.interventions.sweep import Point

    for _ in work.units([DENSE], UNIT, expected):
        for i, side in enumerate(sides):
            side.known[DENSE] = Point(0.0, side.evaluation.dense(share_of(work.report, i, len(sides))))
        work.save_state(packed({side.name: side.known[DENSE] for side in sides}))
        yield


def measure_levels(
    sides: tuple[Side, ...],
    leading: int,
    held: Held,
    levels: Levels,
    number: int,
    n_curves: int,
    work: Any,
    *,
    anew: bool,
    coming: Coming = (),
) -> Iterator[Mapping[str, Point]]:
    """Each level applied once for all data; yields its points by name of the data, while its unit is open.

    The first data choose their levels as if they were alone, so that their numbers are the same with and without others; then the
    next of the ``leading`` ones add those that only they ask for. ``anew``: level 0 is measured, not taken from the dense model.
    ``coming``: the curves after this one, so that workers have something to do at its end.
    """
    from analysis.interventions.sweep import sweep

    names = {name for side in sides for name in side.known if name != DENSE}
    earlier = sum(not name.startswith(f"{number}/") for name in names)
    unit = partial(_unit, work, number, earlier, n_curves)
    for i, side in enumerate(sides[:leading]):
        here = sides[i:]
        asking = Asking(held, here, i, number, anew, work, coming)
        found: dict[str, Point] = {}

        def at(level: float, asking: Asking = asking, side: Side = side) -> Point:
            nonlocal found
            found = asking.points(level)
            return found[side.name]

        known = side.points(number)
        for point in sweep(held, side.evaluation, side.baseline, levels, known=known, unit=unit, at=at, expect=asking.expect):
            for one in here:
                one.known[f"{number}/{point.name}"] = found[one.name]
            work.save_state(packed(found))
            yield found


def levels_of(text: str, eps: tuple[float, ...], resolution: float, task: Task, stops: bool = False) -> Levels:
    """How levels are chosen; where a loss counts as collapsed depends on its unit. ``stops``: fixed ones end there, too."""
    from analysis.interventions.levels import COLLAPSED, Levels

    collapsed = {"relative error": 1.0}.get(task.unit, COLLAPSED if task.knows_right else 20 * max(eps))
    return Levels.of(text, eps, resolution, collapsed, stops)


def reachable(held: Held, levels: Levels, label: str, work: Any) -> Levels:
    """Without the levels that shares per matrix cannot reach; of adaptive ones, none from the first such on."""
    from analysis.interventions.levels import BEYOND, COARSE

    if levels.fixed is not None:
        return replace(levels, fixed=tuple(possible(held, levels.fixed, label, work)))
    grid = (*COARSE, *BEYOND)
    return replace(levels, highest=[one for one, level in zip(possible(held, grid, label, work), grid) if one == level][-1])


def possible(held: Held, levels: Sequence[float], label: str, work: Any) -> list[float]:
    """The levels that can be had, in their order, 0 always; why others cannot goes into the facts."""
    found = []
    for level in levels:
        try:
            held.cost(level)
        except UserError as error:
            work.facts.setdefault("left_out", []).append(f"{label} at {level:g}: {error}")
        else:
            found.append(level)
    return found


def _unit(work: Any, number: int, n_before: int, n_curves: int, name: str, expected: int) -> Iterator[str]:
    """The unit of one level; all curves to come are taken to be as long as this one."""
    return work.units([f"{number}/{name}"], UNIT, 1 + n_before + expected * (n_curves - number))
