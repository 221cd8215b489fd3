"""The one way to run an analysis: from a page, the command line, a test or a cluster.

1. Check the config, open the declared inputs, ask the analysis whether it can answer.
2. The run key is the hash of slug, version, settings that change numbers, and the fingerprints of what is read.
3. A sealed run of that key is the answer: the store is the cache.
4. Otherwise take the key's lock, continue its unfinished parts or begin a new attempt.
5. Drive the generator. Rows and accumulator states are committed unit by unit, all or nothing.
6. Seal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.executors.assignment import Executor, Opening, Report, serving, undivided
from analysis.given_sae import NOT_MODELS
from analysis.spec import Analysis, IncompatibleSubject, Table, UserError, settings_of
from store import Attempt, RunInfo, Store, TableLayout

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ProgressCallback = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """How far a run is: what it does, units done of units in all, and the seconds left (None while unknown)."""

    what: str
    done: float
    total: float
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        """Done over total, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Work:
    """What a running analysis is handed: the units still to do, a place for states and facts, and progress.

    ``for name in work.units(names, what="windows")`` yields the units that no earlier attempt has finished. Rows the
    analysis yields and states it saves while a unit is open are committed together when the next unit begins, so a run
    killed at any moment goes on at the unit it was in. Rows yielded outside units belong to the last one, ``finish``.
    """

    def __init__(
        self, attempt: Attempt, analysis: Analysis, progress: ProgressCallback | None = None, executor: Executor | None = None
    ) -> None:
        self._attempt = attempt
        self._analysis = analysis
        self._executor = executor
        self._progress = progress or (lambda _: None)
        self._done = attempt.done()
        self._unit = "finish"
        self._rows: dict[str, list[pa.Table]] = {}
        self._state: Mapping[str, np.ndarray] | None = None
        self._what, self._position, self._total = "starting", 0, 1
        self._began, self._fresh_from = time.monotonic(), 0
        self.facts: dict[str, Any] = {}
        """Facts for the provenance that only running can tell (tokens seen, tokens masked, ...)."""

    def units(self, names: Sequence[str], what: str, expected: int = 0) -> Iterator[str]:
        """The names not yet done, in order; progress counts all of them.

        ``expected``: where names become known one after the other, by calls of their own, about how many there will be in all.
        """
        if self._unit != "finish":
            raise RuntimeError("units cannot be nested")
        names, done = list(names), self._attempt.done()
        todo = [n for n in names if f"{what}/{n}" not in done]
        goes_on = bool(expected) and what == self._what
        position = sum(unit.startswith(f"{what}/") for unit in done) if expected else len(names) - len(todo)
        self._what, self._position, self._total = what, position, max(expected, position + len(todo))
        if not goes_on:
            self._began, self._fresh_from = time.monotonic(), self._position
        self.report(0.0)
        for name in todo:
            self._unit = f"{what}/{name}"
            yield name
            self._commit()
            self._position += 1
            self.report(0.0)

    def computed(self, names: Sequence[str], what: str, here: Callable[[str, Report], Any]) -> Iterator[tuple[str, Any]]:
        """The units still to do, each with its value: from workers where the run has any (`Analysis.cells`), else from ``here``."""
        names, done = list(names), self._attempt.done()
        self.expect([name for name in names if f"{what}/{name}" not in done])
        for name in self.units(names, what):
            yield name, self.compute(name, here)

    @property
    def workers(self) -> int:
        """How many cells are computed beside this process; 0 where it computes all of them itself."""
        return 0 if self._executor is None else self._executor.workers

    def expect(self, cells: Sequence[str]) -> None:
        """Say which cells will be asked for, in which order; a guess that is wrong costs time only."""
        if self._executor is not None:
            self._executor.submit(cells)

    def compute(self, cell: str, here: Callable[[str, Report], Any]) -> Any:
        """The value of a cell: from a worker, or from ``here``, the same function in this process."""
        return here(cell, self.report) if self._executor is None else self._executor.result(cell, self.report)

    def save_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep accumulator arrays with the open unit."""
        self._state = arrays

    def states(self, what: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """States of the finished units of one kind, one at a time, in the order they were finished."""
        for unit, state in self._attempt.states():
            kind, _, name = unit.partition("/")
            if kind == what:
                yield name, state

    def report(self, share: float) -> None:
        """Tell which share of the open unit is done."""
        done = self._position + share
        fresh = done - self._fresh_from
        left = (time.monotonic() - self._began) / fresh * (self._total - done) if fresh > 0 else None
        self._progress(Progress(self._what, done, self._total, left))

    @property
    def files(self) -> Path:
        """A folder for files that are no tables (an SAE, masks): kept over kills, sealed beside the run as `store.Store.files`.

        It is written to by whoever resumes, too, so what is written must be right whichever unit a kill fell into; what is there
        when the run is sealed stays.
        """
        return self._attempt.files_folder

    def take(self, table: str, rows: Mapping[str, Any]) -> None:
        """Check rows against the declaration and keep them for the open unit (called by the runner)."""
        self._rows.setdefault(table, []).append(self._analysis.table(table).arrow(rows))

    def finish(self) -> None:
        """Commit what was yielded outside units."""
        if "finish" not in self._done:
            self._commit()

    def _commit(self) -> None:
        self._attempt.commit(self._unit, self._rows, self._state)
        self._unit, self._rows, self._state = "finish", {}, None


# ---------------------------------------------------------------------------------------------------------------------


def run_key(analysis: Analysis, config: Any, inputs: Mapping[str, Any]) -> str:
    """Identity of a run, 16 hex digits: what was asked, how, of what. Same key, same numbers."""
    settings = {s.name: getattr(config, s.name) for s in settings_of(type(config)) if s.result}
    reads = ("weights", "tokenizer", "data") if analysis.reads_data else ("weights",)
    prints = {role: {k: v for k, v in subject.fingerprints.items() if k in (*reads, *NOT_MODELS)} for role, subject in inputs.items()}
    dtypes = {role: subject.dtype for role, subject in inputs.items()}
    identity = [analysis.slug, analysis.version, settings, prints, dtypes]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def run(
    analysis: Analysis,
    inputs: Mapping[str, Any],
    config: Any,
    store: Store,
    *,
    force: bool = False,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    executor: Executor | None = None,
    opening: Opening | None = None,
) -> RunInfo:
    """Answer the question: the sealed run, made now or found.

    ``force`` answers it anew although a sealed run exists; with ``resume`` too, an unfinished answer of that kind goes on.
    ``executor``: what computes the costly units, by default this process; ``opening`` gives the same inputs in its workers.

    Raises `IncompatibleSubject` with the sentence why this subject cannot answer, `store.RunLocked` where the same run
    is being made elsewhere, `store.NoSpace` where it could not be written (its parts stay, and a rerun goes on).
    """
    if executor is not None and analysis.cells is None:
        raise UserError(undivided(analysis.slug))
    missing = [role for role in analysis.inputs if role not in inputs]
    if missing:
        raise UserError(f"{analysis.slug} needs the input {missing[0]!r}; give it with --with {missing[0]}=REF.")
    for role, subject in inputs.items():
        reason = None if role in NOT_MODELS else analysis.why_not(subject)
        if reason:
            raise IncompatibleSubject(reason)
    key = run_key(analysis, config, inputs)
    if not force and (found := store.current(key)):
        store.tidy(key)
        return found
    record = _record(analysis, inputs, config)
    with store.begin(key, record, force=force and not resume) as attempt:
        if not force and (found := store.current(key)):  # made by another process while we waited for nothing but the lock
            return found
        began = time.monotonic()
        with serving(executor, analysis.slug, config, inputs, opening):
            work = Work(attempt, analysis, progress, executor)
            for table, rows in analysis.run(config, inputs, work):
                work.take(table, rows)
        work.finish()
        if progress is not None:
            progress(Progress("sealing", 0, 0))
        record |= {"finished": _now(), "seconds": round(time.monotonic() - began, 3), "facts": work.facts}
        path = attempt.seal([layout_of(t) for t in analysis.tables], record)
    return store.find(str(path))


def layout_of(table: Table) -> TableLayout:
    """A declared table as the store wants it: schema, comments, order."""
    return TableLayout(
        name=table.name,
        comment=f"{table.meaning} Key: {', '.join(table.key)}.",
        columns={c.name: c.comment for c in table.columns},
        schema=table.arrow_schema,
        order=table.order or table.key,
        summary=table.summary,
    )


def _record(analysis: Analysis, inputs: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Provenance known before the run: everything needed to trace a number."""
    model = inputs[analysis.inputs[0]]
    data = model.data if analysis.reads_data else None
    return {
        "slug": analysis.slug,
        "title": analysis.title,
        "version": analysis.version,
        "kind": analysis.kind,
        "sources": [dataclasses.asdict(s) for s in analysis.sources],
        "model": model.name,
        "model_label": model.label,
        "model_source": str(model.source),
        "model_facts": model.facts,
        "data": data.name if data is not None else None,
        "data_facts": data.facts if data is not None else None,
        "config": dataclasses.asdict(config),
        "seed": getattr(config, "seed", None),
        "fingerprints": {role: subject.fingerprints for role, subject in inputs.items()},
        "dtype": model.dtype,
        "device": model.device,
        "versions": versions(),
        "commit": commit(),
        "started": _now(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a number depends on."""
    names = ("torch", "transformers", "transformer-lens", "sae-lens", "numpy", "numba", "duckdb", "pyarrow", "scikit-learn")
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in names}


def commit() -> str | None:
    """Commit of this checkout, with ``+changes`` where the tree differs from it; None outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if dirty.strip() else "")


def _now() -> str:
    return datetime.now(UTC).isoformat()
