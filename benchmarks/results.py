"""What a benchmark found, in one form for all: a line of JSON for each comparison, into the file that `make bench` names.

A benchmark prints what it always printed and calls `emit`; run by hand, without that file, `emit` does nothing. A ratio is always ours
over what it is held against, round by round, so that less is better; its median stands with the lowest and the highest round.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "SPARSESCOPE_BENCH_RESULTS"
"""The environment variable that names the file."""

Spread = tuple[float, float, float]
"""Median, lowest, highest."""


@dataclass(frozen=True)
class Result:
    """One thing measured: a time alone, or ours beside something else in the same run."""

    what: str
    """The work, with model and size."""
    arm: str
    """Which of our ways."""
    beside: str = ""
    """What it is held against; empty for a time alone."""
    peer: bool = False
    """Whether `beside` is another program that answers the same question; else it is a floor: what the work costs without ours."""
    rounds: int = 1
    seconds: float | None = None
    beside_seconds: float | None = None
    """Medians over the rounds, by the clock."""
    wall: Spread | None = None
    processor: Spread | None = None
    """Ours over `beside`, round by round: by the clock, and by processor time, which does not count waiting for a core."""
    peak_mb: float | None = None
    beside_peak_mb: float | None = None
    """Largest resident memory of a process that does this alone."""
    worst_seconds: float | None = None
    """Of queries: the 99th percentile, where `seconds` is the median."""
    target: str = ""
    met: bool | None = None
    """None where there is no target."""
    note: str = ""


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest of what the rounds gave."""
    return statistics.median(values), min(values), max(values)


def ratios(ours: Sequence[float], beside: Sequence[float]) -> Spread:
    """The spread of ours over beside, round by round."""
    return spread([a / b for a, b in zip(ours, beside, strict=True)])


def in_turns(
    what: str,
    arm: str,
    beside: str,
    ours: Sequence[tuple[float, float]],
    others: Sequence[tuple[float, float]],
    limit: float | None = None,
    **more: Any,
) -> Result:
    """Two arms that took turns, each round as (seconds, processor seconds). ``limit``: the target of the ratio by the clock."""
    wall = ratios([one[0] for one in ours], [one[0] for one in others])
    processor = ratios([one[1] for one in ours], [one[1] for one in others]) if all(one[1] > 0 for one in others) else None
    target: dict[str, Any] = {} if limit is None else {"target": f"at most {limit:g} x by the clock", "met": wall[0] <= limit}
    return Result(
        what, arm, beside, rounds=len(ours), wall=wall, processor=processor,
        seconds=statistics.median(one[0] for one in ours), beside_seconds=statistics.median(one[0] for one in others), **(target | more),
    )  # fmt: skip


def own_peak_mb() -> float:
    """Largest resident memory of this process so far, in MB. Not getrusage: its high-water mark is inherited from the parent."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def emit(result: Result) -> None:
    """One line more in the file that the environment names; nothing where it names none."""
    if FILE in os.environ:
        with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
