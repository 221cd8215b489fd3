"""What the tests of the store share: a store in a fresh folder, and a child process that runs trials and gets killed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from store import Store

HARNESS = Path(__file__).with_name("harness.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HARNESS.parents[2])}


@pytest.fixture(scope="session")
def harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("store_harness", HARNESS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path / "results")
    yield one
    one.close()


@pytest.fixture(scope="module")
def trial() -> Iterator[Callable[..., tuple[int, float]]]:
    """Runs one trial in a child process: its exit status (-9 where it was killed) and its seconds."""
    server = subprocess.Popen(
        [sys.executable, str(HARNESS), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert server.stdin
    assert server.stdout

    def ask(
        folder: Path, key: str, *, units: int = 3, rows: int = 50, kill_at: float | None = None, files: bool = False
    ) -> tuple[int, float]:
        order = {"folder": str(folder), "key": key, "units": units, "rows": rows, "kill_at": kill_at, "files": files}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        status, seconds = json.loads(server.stdout.readline())
        return status, seconds

    yield ask
    server.stdin.close()
    server.wait()


@pytest.fixture
def child() -> Callable[[str], subprocess.Popen[str]]:
    """Starts a Python program in another process, with the tests' harness importable."""

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        environment = ENVIRONMENT | {"PYTHONPATH": f"{HARNESS.parents[2]}{os.pathsep}{HARNESS.parent}"}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    return start
