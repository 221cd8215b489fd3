"""Which executor a request asks for, and what this machine can carry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from analysis.executors.assignment import Executor, undivided
from analysis.executors.threads import cores, threads_each
from analysis.spec import Analysis, UserError

LOCAL, RAY = "local", "ray"
EXECUTORS = (LOCAL, RAY)
MISSING = "the executor ray must be installed, got no Ray; run pip install -r requirements-ray.txt."
CLUSTER = "SPARSESCOPE_RAY"
"""Variable with the address of the cluster, where none is given; with it, pages offer the cluster, too."""
AUTO = 0
"""Workers: as many as the machine carries, or one on each node of the cluster."""


@dataclass(frozen=True)
class Choice:
    """Who computes the cells of a run. Never part of its key."""

    executor: str = LOCAL
    workers: int = 1
    address: str = ""

    @property
    def is_alone(self) -> bool:
        """Whether the run's own process computes everything."""
        return self.executor == LOCAL and self.workers == 1

    @property
    def processes(self) -> int:
        """That hold the model on this machine, as far as it is known by now."""
        return 1 + self.workers if self.executor == LOCAL and self.workers > 1 else 1

    @property
    def flags(self) -> str:
        """As on the command line, with a space before each; empty for the default."""
        if self.is_alone:
            return ""
        workers = "auto" if self.workers == AUTO else self.workers
        return f" --executor {self.executor} --workers {workers}" + (f" --address {self.address}" if self.address else "")


def choose(analysis: Analysis, executor: str = LOCAL, workers: Any = None, address: str = "") -> Choice:
    """The choice, checked before anything is started. ``workers``: a number, ``auto``, or nothing: 1 here, auto on a cluster."""
    if executor not in EXECUTORS:
        raise UserError(f"the executor must be {' or '.join(EXECUTORS)}, got {executor!r}; leave it out for this machine.")
    if address and executor != RAY:
        raise UserError(f"an address must be given to the executor ray, got {address!r} with {executor}; add --executor ray.")
    if executor == RAY and find_spec(RAY) is None:
        raise UserError(MISSING)
    place = address or (os.environ.get(CLUSTER, "") if executor == RAY else "")
    choice = Choice(executor, _number(workers, executor), place)
    if not choice.is_alone and analysis.cells is None:
        raise UserError(undivided(analysis.slug))
    if executor == LOCAL and choice.workers > 1:
        threads_each(choice.workers)
    return choice


def _number(workers: Any, executor: str) -> int:
    text = str(workers if workers is not None else "").strip()
    if text == "auto" or (not text and executor == RAY):
        return AUTO
    if not text:
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"workers must be a whole number from 1, or auto, got {workers!r}; leave it out for one process.")
    return int(text)


def carried(each: int, room: int) -> int:
    """How many workers this machine carries beside the process that asks, of so many bytes each; 1 where none fits beside it."""
    return max(1, min(cores(), room // max(1, each) - 1))


def executor_of(choice: Choice, device: str, each: int) -> Executor | None:
    """What computes; None for the process itself. each: bytes a worker needs."""
    if choice.is_alone:
        return None
    if choice.executor == RAY:
        from analysis.executors.cluster import RayExecutor

        return RayExecutor(choice.workers, choice.address, gpus=int(device == "cuda"), memory=each)
    from analysis.executors.local import LocalExecutor

    return LocalExecutor(choice.workers)
