"""The store: sealed runs in one folder, found through the catalogue, read through hardened connections.

`Store.begin` starts or continues an attempt (`store.attempt`), which is sealed by `store.seal`. Everything else here
reads. The folder of sealed files is the truth; the catalogue follows it at every look, so a file that was copied in, a
run sealed by another process and a deleted catalogue need no special care.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import files
from store.attempt import Attempt
from store.catalogue import Catalogue, FileStamp, make_info
from store.errors import RunLocked, RunNotFound, StoreError
from store.folders import attempts_of, check_key, partial_path, remove_folder, temporaries
from store.jobs import JobTable
from store.labels import LabelTable
from store.lock import KeyLock
from store.models import ModelInfo, ModelTable
from store.queries import QueryTable
from store.query import Query
from store.questions import Questions, Ref
from store.reading import Pool, Reader
from store.records import RunInfo, TableInfo
from store.removal import remove
from store.seal import JSON_MARK
from store.unfinished import Unfinished, unfinished

if TYPE_CHECKING:
    import duckdb

SUMMARY_ROWS = 10_000
"""A summary table longer than this is not copied into the catalogue: it is no summary."""


class Store(Questions):
    """A folder of runs. Cheap to make, safe to share between threads, safe to have in any number of processes."""

    def __init__(self, folder: Path | str) -> None:
        """Open the store in ``folder``, which is made where it does not exist."""
        self.folder = Path(folder).expanduser().absolute()
        self.runs_folder = self.folder / "runs"
        try:
            self.runs_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store must be a folder that can be written, got {folder} ({error.strerror}); choose another.") from error
        if not os.access(self.runs_folder, os.W_OK | os.X_OK):
            raise StoreError(f"the store must be a folder that can be written, got {folder} without permission; choose another.")
        self.pool = Pool()
        self.catalogue = Catalogue(self.folder / "catalogue.sqlite", self.runs_folder)
        self.jobs = JobTable(self.catalogue, self.folder / "jobs")
        self.known = ModelTable(self.catalogue)
        self.labels = LabelTable(self.catalogue)
        self.queries = QueryTable(self.catalogue)
        self.reconcile()

    def models(self) -> list[ModelInfo]:
        """Every model that was ever opened for this store, the last one first: facts, and who can answer for it."""
        return self.known.all()

    # -- running ------------------------------------------------------------------------------------------------------

    def begin(self, key: str, record: Mapping[str, Any], *, force: bool = False) -> Attempt:
        """Take the key's lock and continue its unfinished attempt, or start a new one.

        ``force`` starts a new one in any case. `RunLocked` is raised where another process, or another thread, works on
        the key. ``record`` says what is asked for (at least ``slug``, ``version``, ``model``; ``data``, ``config``, ...)
        and is kept from the attempt's first begin. Whether the key has been answered already is for the caller to ask
        with `current`; to be safe against another process that has just finished, ask with the lock held.
        """
        check_key(key)
        lock = KeyLock(self.runs_folder / f"{key}.lock")
        with ExitStack() as undo:
            undo.callback(lock.release)
            self._tidy(key)
            unfinished = attempts_of(self.runs_folder, key, ".partial")
            published = attempts_of(self.runs_folder, key, ".duckdb")
            number = 1 + max([*published, *unfinished, self.catalogue.last_attempt(key)], default=0)
            if unfinished and not force:
                number = unfinished[-1]
            attempt = Attempt(self, key, number, record, lock)
            undo.pop_all()
        return attempt

    def tidy(self, key: str) -> None:
        """Remove what dead processes left behind a sealed run: one killed while it cleared its parts away. Leaves a key at work alone."""
        try:
            lock = KeyLock(self.runs_folder / f"{check_key(key)}.lock", name=False)
        except RunLocked:
            return
        self._tidy(key)
        lock.release()

    def _tidy(self, key: str) -> None:
        """Remove what dead processes left: ours to judge for this key, whose lock we hold, and for keys nobody holds."""
        for attempt in attempts_of(self.runs_folder, key, ".partial"):
            if attempt in attempts_of(self.runs_folder, key, ".duckdb"):
                remove_folder(partial_path(self.runs_folder, key, attempt), key, attempt)
        files.tidy(self.runs_folder, key, frozenset(run.attempt for run in self.catalogue.runs({"key": key}, summaries=False)))
        for folder, owner in temporaries(self.runs_folder).items():
            if owner == key:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                lock = KeyLock(self.runs_folder / f"{owner}.lock", name=False)
            except RunLocked:
                continue  # somebody is at work with it
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    def forget_attempts(self, key: str, *, up_to: int) -> None:
        """Remove the unfinished attempts of ``key`` that a sealed one has overtaken. The caller holds the key's lock."""
        for attempt in attempts_of(self.runs_folder, key, ".partial"):
            if attempt <= up_to:
                remove_folder(partial_path(self.runs_folder, key, attempt), key, attempt)

    def current(self, key: str) -> RunInfo | None:
        """The sealed run that answers ``key``: its newest attempt; None where there is none yet."""
        self.reconcile()
        found = self.catalogue.runs({"key": key}, current_only=True)
        return found[0] if found else None

    def unfinished(self, key: str) -> Unfinished | None:
        """What has been committed so far for ``key``, at work or stopped; None where nothing is unfinished."""
        return unfinished(self.runs_folder, check_key(key))

    def remove(self, run: Ref) -> None:
        """Delete a sealed run and its entry for good; also the entry of one whose file is gone. Refuses while its key is worked on."""
        remove(self, self.find(run))

    # -- the catalogue follows the folder -----------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Enter sealed files the catalogue does not know or that have changed, and mark those that are gone.

        Compares names, sizes and times; opens only what is new. The catalogue is read first: a run sealed in between
        is then seen in the folder, and not taken for one that is gone.
        """
        known = self.catalogue.stamps()
        there = {}
        with os.scandir(self.runs_folder) as entries:
            for entry in entries:
                if entry.name.endswith(".duckdb") and not entry.name.startswith("."):
                    seen = entry.stat()
                    there[entry.name] = FileStamp(seen.st_size, seen.st_mtime_ns)
        gone = sorted(known.keys() - there.keys())
        if gone:
            self.catalogue.mark_missing(gone)
            known = self.catalogue.stamps()
        for name in sorted(there):
            if known.get(name) != there[name]:
                self.register(self.runs_folder / name)

    def register(self, path: Path) -> None:
        """Enter one file of the runs folder into the catalogue, from what the file says about itself."""
        seen = path.stat()
        stamp = FileStamp(seen.st_size, seen.st_mtime_ns)
        try:
            run, summaries = self._describe(path)
        except StoreError as error:
            self.catalogue.add_unreadable(path.name, stamp, str(error))
            return
        self.catalogue.add(path.name, stamp, run, summaries)

    def _describe(self, path: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
        """The row of table ``run`` with its JSON decoded, and the rows of the summary tables."""
        with self.pool.reader(path) as reader:
            run = run_row(reader)
            small = [name for name, about in run["tables"].items() if about["summary"] and about["rows"] <= SUMMARY_ROWS]
            return run, {name: reader.rows(name).to_pylist() for name in small}

    # -- reading ------------------------------------------------------------------------------------------------------

    def runs(
        self, *, slug: str | None = None, model: str | None = None, current_only: bool = True, summaries: bool = True
    ) -> list[RunInfo]:
        """Runs from the catalogue, newest first; no sealed file is opened for it.

        ``current_only=False`` adds superseded attempts and those that are missing, unreadable or there twice, each with
        its words. ``summaries=False`` leaves the rows of the small tables out, for long lists.
        """
        self.reconcile()
        where = {name: value for name, value in (("slug", slug), ("model", model)) if value is not None}
        return self.catalogue.runs(where, current_only=current_only, summaries=summaries)

    def find(self, ref: Ref) -> RunInfo:
        """The run meant by a full id, an unambiguous beginning of one, or the path of a sealed file anywhere.

        A beginning that fits several attempts at one key means the current one.
        """
        if isinstance(ref, RunInfo):
            return ref
        if isinstance(ref, Path) or ref.endswith(".duckdb") or os.sep in ref:
            return self._find_file(Path(ref).expanduser().absolute())
        self.reconcile()
        exact = [run for run in self.catalogue.runs({"id": ref}) if run.status != "duplicate"]
        if len(exact) == 1:
            return exact[0]
        known = [run for run in self.catalogue.runs() if run.status != "duplicate"]
        fits = [run for run in known if run.id == ref] or [run for run in known if ref and run.id.startswith(ref)]
        if len({run.key for run in fits}) == 1:
            fits = [run for run in fits if run.current] or fits[:1]
        if len(fits) == 1:
            return fits[0]
        raise RunNotFound(_not_found(ref, fits, known))

    def _find_file(self, path: Path) -> RunInfo:
        if not path.is_file():
            raise RunNotFound(f"a run given by its path must be a sealed file, got {path}, where there is none; list the runs.")
        if path.parent == self.runs_folder:
            self.reconcile()
            for run in self.catalogue.runs({"file": path.name}):
                return run
        run, summaries = self._describe(path)
        name = f"{run['key']}-{run['attempt']}"
        size = path.stat().st_size
        return make_info(run, path=path, size=size, name=name, status="sealed", words="", current=False, summaries=summaries)

    def _path(self, ref: Ref) -> Path:
        run = self.find(ref)
        if run.status in ("missing", "unreadable"):
            raise StoreError(run.words)  # the sentence of the catalogue: why, and what to do
        return run.path

    def table_info(self, run: Ref) -> tuple[TableInfo, ...]:
        """The tables of a run as its file describes them: comments, columns with types and comments, row counts."""
        with self.pool.reader(self._path(run)) as reader:
            declared = list(run_row(reader)["tables"])  # in the order of the declaration, the run's own row last
            return tuple(reader.table(name) for name in [*declared, "run"])

    def provenance(self, run: Ref) -> dict[str, Any]:
        """How a run was made: the row of its table ``run``, JSON columns decoded."""
        with self.pool.reader(self._path(run)) as reader:
            return run_row(reader)

    def files(self, run: Ref) -> Path | None:
        """The folder of a run's files that are no tables; None where it has none, an error where they were not copied with it."""
        info = self.find(run)
        return files.files_beside(self._path(info), info.provenance)

    def connect(self, runs: Ref | Sequence[Ref]) -> duckdb.DuckDBPyConnection:
        """A read-only, locked-down connection with one view per table across the given runs; see `store.union`."""
        from store.union import connect

        refs = [runs] if isinstance(runs, (RunInfo, str, Path)) else runs
        found = {info.id: info for info in map(self.find, refs)}
        for info in found.values():
            self._path(info)
        return connect(list(found.values()))

    def query(self, text: str, **limits: Any) -> Query:
        """A SELECT to the current sealed runs, at work in a process of its own; ``limits`` are those of `store.query.Query`."""
        return Query(self.runs(summaries=False), text, **limits)

    def close(self) -> None:
        """Close the sealed files this store has open."""
        self.pool.close()


def run_row(reader: Reader) -> dict[str, Any]:
    """The one row of table ``run``: JSON decoded, times as ISO text with their zone, so that all of it is JSON again."""
    rows = reader.rows("run").to_pylist()
    if len(rows) != 1:
        raise StoreError(f"{reader.path} must describe one run, got {len(rows)} rows in its table run; copy it again.")
    as_json = [column.name for column in reader.table("run").columns if column.comment.endswith(JSON_MARK)]
    run = {name: value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value for name, value in rows[0].items()}
    try:
        return run | {name: json.loads(run[name]) for name in as_json if run[name] is not None}
    except ValueError as error:
        raise StoreError(f"{reader.path} must describe its run in JSON, got text that is none ({error}); copy it again.") from error


def _not_found(ref: str, fits: Sequence[RunInfo], known: Sequence[RunInfo]) -> str:
    if fits:
        return f"a run must be named without doubt, got {ref!r}, which fits {_names(fits)}; give more of its id."
    near = difflib.get_close_matches(ref, [run.id for run in known], n=5, cutoff=0.4)
    nearest = [run for run in known if run.id in near] or known[:5]
    there = f"the nearest are {_names(nearest)}" if nearest else "the store has no runs yet"
    return f"a run must be given by its id or path, got {ref!r}, which fits none; {there}."


def _names(runs: Sequence[RunInfo]) -> str:
    shown = ", ".join(f"{run.id} ({run.slug} of {run.model})" if run.slug else run.id for run in runs[:5])
    return shown + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
