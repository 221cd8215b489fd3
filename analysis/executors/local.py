"""Workers on this machine: processes of their own, each with the model in its memory and its share of the cores."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from analysis.executors.assignment import Assignment
from analysis.executors.pool import Event, Pool
from analysis.executors.threads import Threads, threads_each

ROOT = Path(__file__).resolve().parent.parent.parent

_END_S = 2.0
"""For a process that has closed its connection to write its last words."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    said: list[Any] = field(default_factory=list)


class LocalExecutor(Pool):
    """So many processes of this machine. They inherit group, niceness and environment, and end with the process that has made them."""

    def __init__(self, workers: int, threads: int | None = None) -> None:
        """``threads`` of each worker, and of this process while they work; by default its share of the cores."""
        super().__init__(workers)
        self._threads = Threads(threads_each(workers) if threads is None else threads)
        self._team: dict[int, _Worker] = {}
        self._given = b""

    @property
    def pids(self) -> list[int]:
        """Of the workers there are now."""
        with self._lock:
            return [one.process.pid for one in self._team.values()]

    def cancel(self) -> None:
        """End every worker at once, and give this process its threads back."""
        super().cancel()
        self._threads.back()

    def _prepare(self, assignment: Assignment) -> None:
        self._given = assignment.packed()
        self._threads.take()

    def _hire(self, worker: int) -> None:
        ours, theirs = (Connection(one.detach()) for one in socket.socketpair())
        places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "analysis.executors.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=dict(os.environ) | self._threads.environment | {"PYTHONPATH": places},
            stdin=subprocess.DEVNULL,
            stdout=2,  # the last line on stdout is the path of the run, and nobody else's
        )
        theirs.close()
        self._team[worker] = _Worker(worker, process, ours)
        with suppress(OSError):  # it is dead already: `_hear` finds the connection closed
            ours.send(sys.path)
            ours.send(self._given)

    def _tell(self, worker: int, cell: str) -> None:
        with suppress(OSError):  # as above
            self._team[worker].connection.send(cell)

    def _hear(self, seconds: float) -> Sequence[Event]:
        with self._lock:
            by_connection = {one.connection: one for one in self._team.values()}
        return [self._next(by_connection[one]) for one in wait(list(by_connection), seconds) if isinstance(one, Connection)]

    def _next(self, one: _Worker) -> Event:
        try:
            kind, value = one.connection.recv()
        except (EOFError, OSError):
            with self._lock:
                self._team.pop(one.number, None)
            one.connection.close()
            return Event(one.number, "gone", _how(one.process))
        return Event(one.number, kind, value)

    def _fire(self) -> None:
        for one in self._team.values():
            one.process.kill()
        for one in self._team.values():
            one.process.wait()


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended whose connection is closed."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    process.kill()
    code = process.wait()
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
