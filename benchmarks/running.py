"""One benchmark as a child process: its results, its words on the screen, and what became of it; killed whole when it takes too long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.listed import Benchmark
from benchmarks.peers import Found
from benchmarks.results import FILE

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark."""

    name: str
    status: str
    """``done``, ``failed`` or ``left out``."""
    reason: str = ""
    """One sentence, where it is not done or something of it is missing."""
    arguments: tuple[str, ...] = ()
    seconds: float = 0.0
    load: float = 0.0
    """Processes that wanted a core when it began, on average over a minute."""
    results: tuple[Mapping[str, Any], ...] = field(default=())


def run(benchmark: Benchmark, arguments: tuple[str, ...], peers: Mapping[str, Found], folder: Path, limit: float | None) -> Outcome:
    """Run it; its output is kept in ``folder`` and shown. ``limit``: its seconds, if any. Ctrl-C kills the child and goes on upwards."""
    gone = [peers[name] for name in benchmark.peers if not peers[name].python]
    reason = "; ".join(f"without {one.name}, which {one.reason}" for one in gone)
    if benchmark.interpreter is not None and peers[benchmark.interpreter[0]].python:
        arguments = (*arguments, benchmark.interpreter[1], peers[benchmark.interpreter[0]].python)
    results, log = folder / f"{benchmark.name}.jsonl", folder / f"{benchmark.name}.log"
    results.unlink(missing_ok=True)
    load, began = os.getloadavg()[0], time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{benchmark.module}", *arguments], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
            env=_environment(results), start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(child)
    said = log.read_text(encoding="utf-8", errors="replace")
    print("".join(f"    {line}\n" for line in said.splitlines()[-40:]), end="", flush=True)
    found = tuple(json.loads(line) for line in results.read_text().splitlines()) if results.is_file() else ()
    if code is None:
        reason = f"stopped after {(limit or 0) / 60:.0f} minutes, which is all that was left for it"
    elif code:
        reason = f"ended with exit status {code}: {_last_words(said)}"
    shown = tuple(word for word in arguments if not word.startswith("/"))  # where an interpreter lies is nobody's business
    return Outcome(benchmark.name, "failed" if code != 0 else "done", reason, shown, time.monotonic() - began, load, found)


def _environment(results: Path) -> dict[str, str]:
    """That of this process, with where results go; nothing asks a network."""
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    return os.environ | offline | {FILE: str(results)}


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and the arms it started, where any is left."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def kept(path: Path) -> list[Outcome]:
    """The outcomes of a run that was interrupted."""
    if not path.is_file():
        return []
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Outcome(**(one | {"arguments": tuple(one["arguments"]), "results": tuple(one["results"])})) for one in read]


def keep(path: Path, outcome: Outcome) -> None:
    """One outcome more, on the disk before anything else happens."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")
        file.flush()
        os.fsync(file.fileno())
