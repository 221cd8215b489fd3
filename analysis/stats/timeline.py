"""One number over the checkpoints of a series: abrupt jumps (METHODS A1), the cubic pruning schedule (A4), phases.

Lists of equal length, in order of the steps; nothing here knows what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

FACTOR = 3.0
"""How many times its neighbours a jump must be."""
LEAST = 0.05
"""Smallest jump that is called abrupt, in the unit of the values (5 points of a share)."""
FEWEST = 4
"""Checkpoints needed to tell a jump from its neighbours on both sides or at an end."""
BEGUN, ENDED = 0.005, 1e-5
"""Share of a schedule's whole rise within which it counts as not begun, and as ended: it begins steeply and ends flat."""
LEAST_RISE = 0.01
"""Smallest rise of sparsity that is called a schedule."""

Direction = Literal["falls", "rises", "flat"]


class Jump(NamedTuple):
    """The largest rise from one checkpoint to the next."""

    size: float
    place: int
    """Of the later checkpoint."""


def largest_jump(values: Sequence[float]) -> Jump | None:
    """max over t of g_(t+1) - g_t, and the first t + 1 where it is; negative where the values only fall, None for one value.

    Source: METHODS A1 [O]; g = [.10, .12, .11, .45, .46] gives .34 at index 3.
    """
    rises = [b - a for a, b in zip(values, values[1:])]
    return Jump(max(rises), rises.index(max(rises)) + 1) if rises else None


def is_abrupt(values: Sequence[float], steps: Sequence[int], *, factor: float = FACTOR, least: float = LEAST) -> bool | None:
    """Whether the largest jump stands out; None with fewer than `FEWEST` checkpoints.

    It must be at least `least`, and more than `factor` times the changes beside it, both as they are and per step of training: in a
    smooth series neighbours are alike, and where a checkpoint is missing the rate is. A jump spread over two intervals is smooth at
    this resolution. Our rule: neither the paper nor its code has one.
    """
    jump = largest_jump(values)
    if jump is None or len(values) < FEWEST:
        return None
    if jump.size < least:
        return False
    spans = [b - a for a, b in zip(steps, steps[1:])]
    changes = [abs(b - a) for a, b in zip(values, values[1:])]
    at = jump.place - 1
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(changes)]
    plain = all(changes[at] > factor * changes[i] for i in beside)
    return plain and all(changes[at] / spans[at] > factor * changes[i] / spans[i] for i in beside)


def cubic(step: float, begin: float, end: float, initial: float, final: float) -> float:
    """s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))^3 between t0 and t1, s_i before, s_f after. Source: Zhu and Gupta 2017; METHODS A4."""
    if step <= begin:
        return initial
    return final if step >= end else final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3


def linear(step: float, begin: float, end: float, initial: float, final: float) -> float:
    """The straight line between the same ends: what a cubic schedule must be told from."""
    return initial + (final - initial) * min(1.0, max(0.0, (step - begin) / (end - begin)))


class Schedule(NamedTuple):
    """A rise of sparsity beside the cubic schedule with the same ends."""

    begin: int
    end: int
    initial: float
    final: float
    deviation: float
    """max over checkpoints of |s_t - cubic(t)|."""
    place: int
    """Of the checkpoint where that is."""
    linear_deviation: float
    n_between: int
    """Checkpoints strictly between begin and end: without one, every schedule fits."""


def schedule(steps: Sequence[int], sparsities: Sequence[float]) -> Schedule | None:
    """From the last checkpoint before the rise to the first at its end; None where sparsity rises by less than `LEAST_RISE`.

    The ends are read off the series (within `BEGUN` and `ENDED` of the rise), not fitted: METHODS A4
    says what to report, not how to find them.
    """
    initial, final = sparsities[0], sparsities[-1]
    rise = final - initial
    if rise < LEAST_RISE:
        return None
    ended = next(i for i, s in enumerate(sparsities) if s >= final - ENDED * rise)
    begun = max(i for i, s in enumerate(sparsities[:ended]) if s <= initial + BEGUN * rise)
    ends = (steps[begun], steps[ended], initial, final)
    off = [abs(s - cubic(t, *ends)) for t, s in zip(steps, sparsities)]
    straight = max(abs(s - linear(t, *ends)) for t, s in zip(steps, sparsities))
    return Schedule(*ends, max(off), off.index(max(off)), straight, ended - begun - 1)


class Phase(NamedTuple):
    """Consecutive checkpoints over which a number moves one way; the last of one phase is the first of the next."""

    first: int
    last: int
    direction: Direction


def phases(values: Sequence[float], tolerance: float) -> list[Phase]:
    """The turning points of a series: moves back by at most `tolerance` are no turn. One flat phase where it never moves by more.

    Our rule; for the PQ Index the phases fall, rise, fall are Diao et al.'s hypothesis about pruning (ICLR 2023).
    """
    if len(values) < 2:
        return []
    turns: list[int] = []
    sign, extreme, low, high = 0, 0, 0, 0
    for i, value in enumerate(values):
        if sign == 0:  # which way is not known yet: both extremes are kept
            low, high = (i if value < values[low] else low), (i if value > values[high] else high)
            sign = 1 if value - values[low] > tolerance else -1 if values[high] - value > tolerance else 0
            extreme = i
        elif sign * (value - values[extreme]) > 0:
            extreme = i
        elif sign * (values[extreme] - value) > tolerance:
            turns.append(extreme)
            sign, extreme = -sign, i
    if sign == 0:
        return [Phase(0, len(values) - 1, "flat")]
    marks = [0, *turns, len(values) - 1]
    names: tuple[Direction, Direction] = ("rises", "falls")
    last = len(turns)
    return [Phase(a, b, names[(sign < 0) ^ ((last - k) % 2)]) for k, (a, b) in enumerate(zip(marks, marks[1:]))]
