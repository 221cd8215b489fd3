"""An analysis that takes its time, for tests of jobs: it reads no weights, and says in a file which units it began.

Child processes find it through SPARSESCOPE_EXTRA_ANALYSES=tests.slow:SLOW.
"""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from analysis.spec import Analysis, Column, Source, Table, setting


@dataclass(frozen=True, kw_only=True)
class SlowConfig:
    """Settings of the slow analysis."""

    units: int = setting(4, help="Units", ge=1, le=1000)
    seconds: float = setting(0.0, help="Time per unit", unit="seconds", ge=0, le=60)
    trace: str = setting("", help="File that gets a line per unit begun", result=False)
    fail_at: int = setting(-1, help="Unit that divides by zero", ge=-1, le=1000, result=False)
    stubborn: bool = setting(False, help="Leave a helper process behind and ignore SIGTERM", result=False)


SQUARES = Table(
    "squares",
    "A row per unit.",
    ("unit",),
    (Column("unit", "int", "Unit, from 0", range=(0, 1e6)), Column("square", "int", "Its square", range=(0, 1e12))),
)


def _run(config: SlowConfig, inputs: Any, work: Any) -> Any:
    if config.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Its parent ends at once: the helper is nobody's child any more, but still of the job's process group.
        subprocess.run(["sh", "-c", f"sleep 300 & echo $! > '{config.trace}'"], check=True)
    for name in work.units([str(i) for i in range(config.units)], what="units"):
        if config.trace:
            with open(config.trace, "a") as file:
                file.write(f"{name}\n")
        if int(name) == config.fail_at:
            yield "squares", {"unit": [1 // 0], "square": [0]}
        time.sleep(config.seconds)
        yield "squares", {"unit": [int(name)], "square": [int(name) ** 2]}


SLOW = Analysis(
    slug="toy_slow",
    title="Slow squares",
    question="What are the squares?",
    version=1,
    kind="static",
    sources=(Source("Squares", "docs/decisions (our own)", "O"),),
    config=SlowConfig,
    tables=(SQUARES,),
    run=_run,
    figures=(),
)
