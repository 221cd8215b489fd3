"""What executors are tried on, openable in any process: tiny seeded models, and an analysis whose cells sleep, fail and die on demand.

Worker processes find the analysis through SPARSESCOPE_EXTRA_ANALYSES=tests.executor_cases:DIVIDED.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.spec import Analysis, Column, Source, Table, UserError, setting
from tests.toy import FakeSubject


@dataclass(frozen=True, kw_only=True)
class DividedConfig:
    """Settings of the divided analysis."""

    units: int = setting(6, help="Units", ge=1, le=1000)
    seconds: float = setting(0.0, help="Time per unit", unit="seconds", ge=0, le=60)
    folder: str = setting("", help="Folder that gets a line per unit begun: its name and the process", result=False)
    die_at: int = setting(-1, help="Unit whose process is killed", ge=-1, le=1000, result=False)
    deaths: int = setting(1, help="How often", ge=0, le=100, result=False)
    refuse_at: int = setting(-1, help="Unit that cannot be measured", ge=-1, le=1000, result=False)
    fail_at: int = setting(-1, help="Unit that divides by zero", ge=-1, le=1000, result=False)


SQUARES = Table(
    "squares",
    "A row per unit.",
    ("unit",),
    (Column("unit", "int", "Unit, from 0", range=(0, 1e6)), Column("square", "int", "Its square", range=(0, 1e12))),
)


def compute(config: DividedConfig, name: str, report: Any) -> np.ndarray:
    """The square of a unit's number, and whatever the config asks for on the way."""
    if config.folder:
        with Path(config.folder, "begun").open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
    for i in range(10):
        time.sleep(config.seconds / 10)
        report(i / 10)
    if int(name) == config.die_at and len(list(Path(config.folder).glob("died-*"))) < config.deaths:
        Path(config.folder, f"died-{time.monotonic_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if int(name) == config.refuse_at:
        raise UserError(f"unit {name} must be measurable, got one that is not; leave it out.")
    if int(name) == config.fail_at:
        raise ZeroDivisionError("division of a unit by zero")
    return np.array(int(name) ** 2)


@contextmanager
def cells(config: DividedConfig, inputs: Any):
    """A unit, by its number."""
    assert inputs["model"].label
    yield partial(compute, config)


def _run(config: DividedConfig, inputs: Any, work: Any) -> Any:
    for name, square in work.computed([str(i) for i in range(config.units)], "units", partial(compute, config)):
        work.save_state({"square": square})
        yield "squares", {"unit": [int(name)], "square": [int(square)]}


DIVIDED = Analysis(
    slug="toy_divided",
    title="Divided squares",
    question="What are the squares, one by one?",
    version=1,
    kind="static",
    sources=(Source("Squares", "docs/decisions (our own)", "O"),),
    config=DividedConfig,
    tables=(SQUARES,),
    run=_run,
    figures=(),
    cells=cells,
)


def nothing(name: str = "toy-model") -> dict[str, Any]:
    """Inputs of the divided analysis: no model at all."""
    return {"model": FakeSubject(name=name)}


def llama(n: int = 24) -> dict[str, Any]:
    """A tiny LLaMA whose weights are worth something, on windows of two documents each: the same in every process."""
    import torch

    from analysis.models import TextWindows, subject_from
    from tests import zoo
    from tests.tasks.test_tasks import FakeTokenizer

    class Tokenizer(FakeTokenizer):
        bos_token_id = cls_token_id = None

    model, _ = zoo.llama()
    for p in model.parameters():
        p.data.mul_(4.0 if p.dim() > 1 else 1.0)
    ids = torch.randint(3, 60, (n, 9), generator=torch.Generator().manual_seed(1))
    return {"model": subject_from(model, data=TextWindows.from_ids(ids, document=np.arange(n) // 2), tokenizer=Tokenizer())}


def another_llama() -> dict[str, Any]:
    """The same with one weight changed, of fingerprints of its own."""
    inputs = llama()
    return {"model": replace(inputs["model"], fingerprints=inputs["model"].fingerprints | {"weights": "other"})}


def no_model() -> dict[str, Any]:
    """A machine that does not have the model."""
    raise UserError("the model must be on this machine, got none; copy it there.")


def dies() -> dict[str, Any]:
    """A machine that has no memory for the model."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
