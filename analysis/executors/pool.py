"""Workers that come and go, and cells that do not get lost: what local processes and actors of a cluster share.

A cell is waiting, at a worker, or done until it is asked for. A worker that dies gives its cell back, to be computed by another; after
`TRIES` deaths the cell is to blame, and says so where it is asked for. One thread listens to all workers; who asks waits for it.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from analysis.executors.assignment import Assignment, Report, Status
from analysis.spec import UserError

TRIES = 3
"""Workers a cell may cost; and workers in a row that may die before they were ready."""
_LISTEN_S = 0.5

log = logging.getLogger("sparsescope.jobs")


@dataclass(frozen=True)
class Event:
    """What a worker says: it is ready; how far it is; a cell's value, or what it raised; refused (an error while opening); gone (why)."""

    worker: int
    kind: Literal["ready", "share", "value", "error", "refused", "gone"]
    value: Any = None


class Pool(ABC):
    """An `Executor` over workers of some kind: subclasses hire, tell, hear and fire them."""

    def __init__(self, workers: int) -> None:
        self._wanted = workers
        self._lock = threading.Condition()
        self._waiting: list[str] = []
        self._listed: frozenset[str] = frozenset()
        self._at: dict[int, str] = {}
        self._ready: set[int] = set()
        self._done: dict[str, Event] = {}
        self._awaited: str | None = None
        self._share = 0.0
        self._deaths: Counter[str] = Counter()
        self._early = self._lost = self._hired = 0
        self._refused: BaseException | None = None
        self._over = False
        self._listening: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    # -- workers, of whatever kind; all called under the lock but for `_hear` ------------------------------------------

    @abstractmethod
    def _hire(self, worker: int) -> None:
        """Begin to make a worker of that number; it says by itself when it is ready."""

    @abstractmethod
    def _tell(self, worker: int, cell: str) -> None:
        """Give it a cell."""

    @abstractmethod
    def _hear(self, seconds: float) -> Sequence[Event]:
        """What workers have said; waits that long for a first word."""

    @abstractmethod
    def _fire(self) -> None:
        """End all of them at once."""

    @abstractmethod
    def _prepare(self, assignment: Assignment) -> None:
        """What comes before the first worker. Raises `UserError` where there can be none."""

    # -- the executor -------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """How many cells are computed at once."""
        return self._wanted

    def start(self, assignment: Assignment) -> None:
        """Let workers open what the run reads."""
        self._prepare(assignment)
        with self._lock:
            for _ in range(self._wanted):
                self._hire_one()
        self._thread = ThreadPoolExecutor(1, "workers")
        self._listening = self._thread.submit(self._listen)

    def submit(self, cells: Sequence[str]) -> None:
        """What will be asked for, in this order; other cells that wait are forgotten."""
        with self._lock:
            known = self._done.keys() | set(self._at.values())
            self._listed = frozenset(cells)
            self._waiting = [cell for cell in dict.fromkeys(cells) if cell not in known]
            self._assign()

    def result(self, cell: str, report: Report) -> Any:
        """The value of a cell, once it is there. Raises what computing it raised."""
        with self._lock:
            self._awaited, self._share = cell, 0.0
            if cell not in self._done and cell not in self._at.values():
                self._waiting = [cell, *(one for one in self._waiting if one != cell)]
                self._assign()
        while (event := self._wait_for(cell)) is None:
            report(self._share)
        with self._lock:
            self._awaited = None
            self._assign()  # there is room for one more that nobody has asked for
        if event.kind == "error":
            raise event.value
        return event.value

    def status(self) -> Status:
        """How many cells wait, are at work, are done."""
        with self._lock:
            return Status(len(self._waiting), len(self._at), len(self._done), len(self._ready), self._lost)

    def cancel(self) -> None:
        """End every worker at once; a second call does nothing."""
        with self._lock:
            if self._over:
                return
            self._over = True
            self._fire()
        if self._thread is not None:
            self._thread.shutdown()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _wait_for(self, cell: str) -> Event | None:
        """The end of a cell, or None after a moment without."""
        with self._lock:
            if cell not in self._done:
                self._check()
                self._lock.wait(_LISTEN_S)
            return self._done.pop(cell, None)

    def _check(self) -> None:
        """Raise where nobody would ever compute anything."""
        if self._refused is not None:
            raise self._refused
        if self._over or self._listening is None:
            raise RuntimeError("an executor must be started and not cancelled to give results")
        if self._listening.done():
            self._listening.result()

    def _hire_one(self) -> None:
        self._hired += 1
        self._hire(self._hired)

    def _assign(self) -> None:
        """Give those who have nothing to do the next cells; not too far ahead, since values stay in memory until they are asked for."""
        for worker in sorted(self._ready - self._at.keys()):
            ahead = len(self._listed & self._done.keys()) >= 2 * self._wanted
            if not self._waiting or (ahead and self._waiting[0] != self._awaited):
                return
            self._at[worker] = self._waiting.pop(0)
            self._tell(worker, self._at[worker])

    def _listen(self) -> None:
        while not self._over:
            events = self._hear(_LISTEN_S)
            with self._lock:
                for event in events if not self._over else ():
                    self._take(event)
                self._lock.notify_all()

    def _take(self, event: Event) -> None:
        if event.kind == "ready":
            self._ready.add(event.worker)
            self._early = 0
        elif event.kind == "share":
            self._share = event.value if self._at.get(event.worker) == self._awaited else self._share
        elif event.kind == "refused":
            self._refused = event.value
        elif event.kind == "gone":
            self._gone(event)
        elif event.worker in self._at:
            self._done[self._at.pop(event.worker)] = event
        self._assign()

    def _gone(self, event: Event) -> None:
        """Its cell goes to another, and a new one is hired."""
        was_ready, cell = event.worker in self._ready, self._at.pop(event.worker, None)
        self._ready.discard(event.worker)
        self._lost += 1
        log.warning("a worker is gone while %s: %s", f"measuring {cell}" if cell else "it had nothing to do", event.value)
        if cell is not None:
            self._deaths[cell] += 1
            if self._deaths[cell] < TRIES:
                self._waiting.insert(0, cell)
            else:
                self._done[cell] = Event(event.worker, "error", UserError(_deadly(cell, event.value)))
        self._early += not was_ready
        if self._early >= TRIES and not self._ready:
            self._refused = UserError(
                f"workers must live until they have opened the model, got {self._early} in a row that did not ({event.value}); "
                "give fewer workers, or a machine with more memory."
            )
        elif self._early < TRIES:
            self._hire_one()


def _deadly(cell: str, why: str) -> str:
    return (
        f"a worker must live through {cell}, got {TRIES} that did not ({why}); give fewer workers, so that each has more memory, "
        "or leave --workers out."
    )
