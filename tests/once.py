"""A run that many tests look at is computed once in a process: who asks again gets a copy of its sealed file.

A copy is as old as the run first made. A test that asks for the newest of several runs makes them itself, with `analysis.runner.run`.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.runner import ProgressCallback, run, run_key
from analysis.spec import Analysis
from store import RunInfo, Store


@functools.cache
def _shelf() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="runs-of-tests"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_KEPT: dict[tuple[str, ...], Path] = {}
"""By key and by the names that stand in a run without being part of its key."""


def run_once(analysis: Analysis, inputs: Mapping[str, Any], config: Any, store: Store, progress: ProgressCallback | None = None) -> RunInfo:
    """As `analysis.runner.run`; whoever follows its progress sees it made."""
    if progress is not None:
        return run(analysis, inputs, config, store, progress=progress)
    key = run_key(analysis, config, inputs)
    names = (key, *(f"{role}={getattr(one, 'name', '')}/{getattr(one, 'label', '')}" for role, one in sorted(inputs.items())))
    if store.current(key) is not None:
        return run(analysis, inputs, config, store)
    if names not in _KEPT:
        made = run(analysis, inputs, config, store)
        if made.id == f"{key}-1":
            kept = _shelf() / str(len(_KEPT))
            kept.mkdir()
            _copy(store.runs_folder, kept, made.id)
            _KEPT[names] = kept
        return made
    _copy(_KEPT[names], store.runs_folder, f"{key}-1")
    return store.find(f"{key}-1")


def _copy(source: Path, target: Path, name: str) -> None:
    """First the files beside it, then the sealed file."""
    target.mkdir(parents=True, exist_ok=True)
    if (source / f"{name}.files").exists():
        shutil.copytree(source / f"{name}.files", target / f"{name}.files")
    shutil.copy2(source / f"{name}.duckdb", target)
