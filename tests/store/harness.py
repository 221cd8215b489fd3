"""A small run to test with, and child processes that do it: ``python harness.py FOLDER KEY [UNITS [ROWS]]``.

Several trials share one child, which forks for each (before it has opened any database): ``serve`` reads one JSON object
per line (folder, key, units, rows, kill_at) and answers with the child's exit status and duration. ``kill_at`` n kills
the trial with SIGKILL just before the n-th durable step (fsync, rename, removal); a float kills it after so many seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import duckdb  # noqa: F401  (loaded before forking, so that trials are short)
import numpy as np
import pandas  # noqa: F401  (which DuckDB and pyarrow load where they first meet rows)
import pyarrow as pa
import pyarrow.compute  # noqa: F401
import pyarrow.pandas_compat  # noqa: F401
import pyarrow.parquet  # noqa: F401

from store import RunInfo, Store, TableLayout

SCHEMA = pa.schema([pa.field("layer", pa.int64(), False), pa.field("neuron", pa.int64(), False), pa.field("density", pa.float64())])
LAYERS = pa.schema([pa.field("layer", pa.int64(), False), pa.field("dead", pa.int64())])
RECORD = {"slug": "neuron_activity", "version": 1, "model": "tiny", "data": "poems", "config": {"threshold": 0.1}, "seed": 0}
LAYOUTS = (
    TableLayout(
        "neurons",
        "one row per neuron",
        {"layer": "layer, from 0", "neuron": "neuron, from 0", "density": "share of tokens; NULL where none was seen"},
        SCHEMA,
        ("layer", "neuron"),
    ),
    TableLayout("layers", "one row per layer", {"layer": "layer, from 0", "dead": "dead neurons"}, LAYERS, ("layer",), summary=True),
)


def unit_rows(layer: int, rows: int) -> dict[str, list[pa.Table]]:
    """Rows of one layer, in an order that sealing has to undo."""
    neuron = np.arange(rows)[::-1]
    density = np.random.default_rng(layer).random(rows)
    neurons = pa.table({"layer": np.full(rows, layer), "neuron": neuron, "density": density}, schema=SCHEMA)
    return {"neurons": [neurons], "layers": [pa.table({"layer": [layer], "dead": [layer * 2]}, schema=LAYERS)]}


def write_files(folder: Path, done: int) -> None:
    """Files as an analysis that can be killed writes them: each whole or not there, some for good, one as long as it is at work."""
    for name, text in (("note.txt", "a note"), ("sae/weights.bin", "w" * 5000), ("checkpoint", str(done))):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / "new").write_text(text)
        os.replace(folder / "new", folder / name)


def work(store: Store, key: str, *, units: int = 3, rows: int = 50, force: bool = False, files: bool = False) -> Path:
    """The whole run, from wherever it stands."""
    with store.begin(key, RECORD, force=force) as attempt:
        found: RunInfo | None = None if force else store.current(key)
        if found:
            return found.path
        for layer in reversed(range(units)):
            if f"layer {layer}" not in attempt.done():
                if files:
                    write_files(attempt.files_folder, layer)
                attempt.commit(f"layer {layer}", unit_rows(layer, rows), {"sum": np.full(4, layer)})
        if files:
            (attempt.files_folder / "checkpoint").unlink(missing_ok=True)
        return attempt.seal(LAYOUTS, {"versions": {"duckdb": "2"}})


def _kill_before_step(number: int) -> None:
    left = [number]
    for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (shutil, "rmtree")):
        real = getattr(module, name)

        def step(*args: object, real=real, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        setattr(module, name, step)


def _trial(order: dict) -> tuple[int, float]:
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        if isinstance(order.get("kill_at"), int):
            _kill_before_step(order["kill_at"])
        work(Store(order["folder"]), order["key"], units=order["units"], rows=order["rows"], files=order["files"])
        os._exit(0)
    if isinstance(order.get("kill_at"), float):
        time.sleep(order["kill_at"])
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, time.monotonic() - started


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        for line in sys.stdin:
            print(json.dumps(_trial(json.loads(line))), flush=True)
    else:
        work(Store(sys.argv[1]), sys.argv[2])
