"""Running the child process: what it may use, what it may see, and how long.

Always: ``python -I``, no environment, limits on memory, processor time, file sizes and descriptors, a wall clock, a process group
that is killed whole, and no network where the system lets the child leave it. Where bubblewrap works it adds: no network for certain,
own processes and users, a read-only file system with the home folders hidden, one writable folder, and no privileges.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.models.files.header import Refused, quoted, size_words

HERE = Path(__file__).resolve().parent
NEEDED = (HERE.parents[2], Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent)
"""Folders that the child reads: this program and Python's libraries."""
BUBBLEWRAP = "SPARSESCOPE_BUBBLEWRAP"
"""Set it to 0 to do without bubblewrap."""
_HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media", "/srv", "/opt")
_MAX_ANSWER = 2**20
_REFUSED = 3
_PROBE_S = 10.0


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    memory: int
    """Bytes of address space."""
    cpu_s: int
    wall_s: float
    file: int
    """Bytes of one file it writes."""
    descriptors: int = 256

    def as_rlimits(self) -> dict[str, int]:
        """By the names of `resource`."""
        return {"AS": self.memory, "CPU": self.cpu_s, "FSIZE": self.file, "NOFILE": self.descriptors, "CORE": 0}


def limits_for(n_bytes: int) -> Limits:
    """For converting a torch file of ``n_bytes``: torch itself takes 1 GB of addresses; the file may be mapped or read, and copied."""
    seconds = 60 + n_bytes // (20 * 10**6)
    return Limits(4 * 10**9 + 4 * n_bytes, seconds, 3.0 * seconds, 2 * n_bytes + 64 * 10**6)


@functools.lru_cache(maxsize=1)
def bubblewrap() -> str | None:
    """Path of a bubblewrap that works here; None where there is none (or the system forbids it, as in many containers)."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    command = _wrapped(program, HERE, [])
    try:
        done = subprocess.run([*command, sys.executable, "-I", "-c", ""], env={}, capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # what there is does not work: that is the question
    return program if done.returncode == 0 else None


def _wrapped(program: str, out: Path, reads: Sequence[Path]) -> list[str]:
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    command += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    hidden = [place for place in _HIDDEN if os.path.isdir(place) and not os.path.islink(place)]
    for place in hidden:
        command += ["--tmpfs", place]
    needed = [*NEEDED, *(one.resolve() for one in reads)]
    for place in dict.fromkeys(map(str, needed)):
        if any(place.startswith(f"{one}/") for one in hidden):
            command += ["--ro-bind", place, place]
    place = str(out.resolve())
    return [*command, "--bind", place, place, "--chdir", place]


def run(module: str, file: Path, out: Path, limits: Limits, *, how: dict[str, Any], strict: bool = True, wrap: bool | None = None) -> None:
    """Let ``module.convert(file, out, **how)`` run in a child, which writes into ``out`` and nowhere else.

    ``strict``: nothing may be started after the libraries are loaded (not for libraries that need threads). ``wrap``: with
    bubblewrap or without; by default with it where it works. Raises `Refused` with the child's sentence, or one about how it ended.
    """
    program = bubblewrap() if wrap is not False and os.environ.get(BUBBLEWRAP) != "0" else None
    if wrap and program is None:
        raise Refused("the closed process must be wrapped by bubblewrap, got none that works here; install bubblewrap.")
    task = {
        "file": str(file.resolve()), "out": str(out.resolve()), "module": module, "beside": str(HERE), "limits": limits.as_rlimits(),
        "how": how, "strict": strict, "alone": program is None,
    }  # fmt: skip
    prefix = _wrapped(program, out, [file]) if program else []
    process = subprocess.Popen(
        [*prefix, sys.executable, "-I", "-B", str(HERE / "child.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd=out,
        start_new_session=True,
    )
    try:
        said, complaints = _listen(process, json.dumps(task).encode(), limits.wall_s)
    finally:
        _end(process)
    if process.returncode != 0:
        raise _why(file, process.returncode, said, complaints, limits)


def _listen(process: subprocess.Popen[bytes], task: bytes, wall_s: float) -> tuple[bytes, bytes]:
    """What the child says on both of its outputs, until it ends, says too much, or its time is over."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        process.stdin.write(task)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it listened; how is read from its exit status
    until = time.monotonic() + wall_s
    said = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    open_ones = set(said)
    while open_ones and (left := until - time.monotonic()) > 0:
        for one in select.select(list(open_ones), [], [], left)[0]:
            chunk = os.read(one, 65_536)
            said[one] = (said[one] + chunk)[-_MAX_ANSWER:]
            if not chunk:
                open_ones.discard(one)
    if not open_ones:
        process.wait(max(1.0, until - time.monotonic()))
    return said[process.stdout.fileno()], said[process.stderr.fileno()]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group, and wait for it."""
    with contextlib.suppress(ProcessLookupError):  # where all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _why(file: Path, status: int, said: bytes, complaints: bytes, limits: Limits) -> Refused:
    """The sentence for a child that did not finish."""
    if status == _REFUSED:
        sentence = _sentence(said)
        if sentence is not None:
            return Refused(f"{file} {sentence}.")
    text = complaints.decode("utf-8", "replace")
    signalled = status - 128 if status > 128 else -status
    if signalled in (signal.SIGXCPU, signal.SIGKILL):
        return Refused(
            f"{file} must be converted within {limits.cpu_s} s of processor time and {size_words(limits.memory)} of memory, got "
            "one that was not; "
            "do not use a file from this source, or convert it yourself to safetensors."
        )
    if "MemoryError" in text or "alloc" in text.lower():
        return Refused(
            f"{file} must fit into {size_words(limits.memory)} of memory when it is opened, got one that does not; "
            "do not use a file from this source, or convert it yourself to safetensors."
        )
    last = (text.strip().splitlines() or [f"exit status {status}"])[-1]
    return Refused(
        f"{file} must be convertible in a closed process, got one that ended it ({quoted(last)}); convert it yourself to safetensors."
    )


def _sentence(said: bytes) -> str | None:
    """What the child gives as its reason, which may be the file's own words: one printable line."""
    try:
        found = json.loads(said)
    except ValueError:
        return None
    text = found.get("refused") if isinstance(found, dict) else None
    if not isinstance(text, str):
        return None
    return "".join(c if c.isprintable() else " " for c in text)[:2_000].rstrip(".")
