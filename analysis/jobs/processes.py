"""Processes of jobs: started in a group of their own, recognised without doubt, stopped whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
NICENESS = 10
GRACE_S = 5.0
"""How long a job may take to stop by itself before it is killed."""
_SAME_S = 0.05
"""A process' start is known to 0.01 s."""
_POLL_S = 0.05

_children: list[subprocess.Popen[bytes]] = []
"""Jobs this process has started, to be reaped when they end; they do not depend on it."""


@dataclass(frozen=True)
class Identity:
    """One process of one machine. The pid alone would be that of another process one day."""

    host: str
    pid: int
    start: float
    """Seconds from the machine's start, which the clock's being set does not change."""


def this_host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def identity(pid: int | None = None) -> Identity:
    """Of the process with that pid, by default this one."""
    import psutil

    process = psutil.Process(pid)
    return Identity(this_host(), process.pid, process.create_time() - psutil.boot_time())


def is_alive(who: Identity) -> bool:
    """Whether that very process of this machine is there and not a zombie."""
    return _process(who) is not None


def _process(who: Identity) -> psutil.Process | None:
    import psutil

    try:
        process = psutil.Process(who.pid)
        same = abs(process.create_time() - psutil.boot_time() - who.start) < _SAME_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:  # ZombieProcess among them
        return None


def start(arguments: list[str], log: Path, environment: dict[str, str]) -> Identity:
    """Start ``python -m analysis ...`` in a session and process group of its own, everything it says going to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "analysis", *arguments],
            cwd=ROOT,
            env=dict(os.environ) | environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(process)
    return identity(process.pid)


def reap() -> None:
    """Let the jobs that this process has started and that have ended disappear from the process table."""
    _children[:] = [child for child in _children if child.poll() is None]


def be_nice() -> None:
    """Give way to whatever else the machine does; pages stay quick."""
    os.nice(NICENESS)


def stop(who: Identity, grace: float = GRACE_S) -> None:
    """SIGTERM to the process and, where it leads a group of its own, to all of it; SIGKILL to what is left after ``grace``.

    A process in somebody else's group (a run in the foreground of a shell or a script) is signalled alone.
    """
    process = _process(who)
    if process is None:
        return
    family = [who, *_descendants(process)]
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + grace
    while is_alive(who) and time.monotonic() < until:
        time.sleep(_POLL_S)
    process = _process(who)
    if process is not None:
        family += _descendants(process)
        _signal(process, signal.SIGKILL)
    for left in family:
        if (process := _process(left)) is not None:
            process.kill()
    until = time.monotonic() + grace
    while is_alive(who) and time.monotonic() < until:
        time.sleep(_POLL_S)
    reap()


def _descendants(process: psutil.Process) -> list[Identity]:
    import psutil

    found = []
    try:
        for child in process.children(recursive=True):
            found.append(identity(child.pid))
    except psutil.NoSuchProcess:
        pass  # it ended while we looked: what is already listed is enough
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    import psutil

    try:
        if os.getsid(process.pid) == os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass  # it has ended by itself
