"""The line in front of the machine: so many jobs at a time as it has slots, by default one, whatever stores they belong to.

A slot is a lock of the system on a file in the cache folder, which all stores share; it is free the moment its holder
dies. Within a store the oldest waiting job comes first; between stores, whoever asks first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.jobs.processes import this_host
from analysis.models import cache_folder
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.jobs.desk import Jobs
    from store import Job

SLOTS = "SPARSESCOPE_SLOTS"
_POLL_S = 0.3
_MOST_S = 3.0
"""Those further back look less often."""


class Slot:
    """One slot, held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def slots() -> int:
    """How many jobs may run on this machine at once."""
    text = os.environ.get(SLOTS, "1")
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise UserError(f"{SLOTS} must be between 1 and 64, got {text!r}; set it to the number of jobs this machine may run at once.")
    return int(text)


def take() -> Slot | None:
    """A free slot, at once; None where all are taken."""
    folder = cache_folder() / "slots"
    folder.mkdir(exist_ok=True)
    for number in range(slots()):
        descriptor = os.open(folder / f"{this_host()}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return Slot(descriptor)
    return None


def wait(jobs: Jobs, job: Job, tell: Callable[[str], None]) -> Slot:
    """A slot, as soon as this job is first in line and one is free; ``tell`` is given the reason for every wait, once.

    Raises `KeyboardInterrupt`, as if by Ctrl-C, where the job has been cancelled meanwhile.
    """
    told = ""
    while True:
        live = jobs.list(("queued", "running"))
        if job.id not in {one.id for one in live}:
            raise KeyboardInterrupt
        ahead = [one for one in live if one.status == "queued" and one.place < job.place]
        slot = None if ahead else take()
        if slot is not None:
            return slot
        words = _reason(len(ahead), [one for one in live if one.status == "running"])
        if words != told:
            tell(words)
            told = words
        time.sleep(min(_MOST_S, _POLL_S * (1 + len(ahead))))


def _reason(n_ahead: int, running: list[Job]) -> str:
    work = "; ".join(f"{one.slug or 'inspection'} of {one.model} is running (job {one.id})" for one in running)
    before = f"; {n_ahead} more before this one" if n_ahead else ""
    return f"waiting for the machine: {work or 'another job has it'}{before}"
