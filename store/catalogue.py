"""The catalogue: what is known about runs, in one SQLite file that many processes read and write.

What it says of runs is derived from the sealed files: deleted, it is rebuilt from them, and only the history of jobs,
readers' labels (which can be exported) and their saved queries are lost. WAL mode, one short transaction per write, a
connection per operation (so threads and forked children need no care). The schema grows by appending to `_MIGRATIONS`;
jobs (`store.jobs`), models (`store.models`), labels (`store.labels`) and queries (`store.queries`) have tables of their
own beside these two, with a run's ``id`` as the link.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from store.errors import StoreError, is_no_space, no_space
from store.files import bytes_beside
from store.listing import KEPT_RUNS, KEPT_SUMMARIES, Kept, Summaries, make_info, moment
from store.records import RunInfo, to_json

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        file TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        id TEXT NOT NULL, key TEXT NOT NULL, attempt INTEGER NOT NULL,
        slug TEXT NOT NULL, version INTEGER NOT NULL, model TEXT NOT NULL, data TEXT,
        status TEXT NOT NULL, words TEXT NOT NULL,
        started TEXT NOT NULL, finished TEXT NOT NULL, seconds REAL NOT NULL,
        provenance TEXT
    );
    CREATE INDEX runs_by_key ON runs (key, attempt);
    CREATE INDEX runs_by_id ON runs (id);
    CREATE TABLE summaries (
        file TEXT NOT NULL REFERENCES runs (file) ON DELETE CASCADE, name TEXT NOT NULL, rows TEXT NOT NULL,
        PRIMARY KEY (file, name)
    );
    """,
    """
    CREATE TABLE jobs (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        spec TEXT NOT NULL, origin TEXT NOT NULL, resumes TEXT,
        status TEXT NOT NULL, words TEXT NOT NULL,
        submitted TEXT NOT NULL, started TEXT, finished TEXT, heartbeat TEXT, stop_asked TEXT,
        host TEXT NOT NULL, pid INTEGER NOT NULL, process_start REAL NOT NULL,
        what TEXT NOT NULL, done REAL NOT NULL, total REAL NOT NULL, seconds_left REAL,
        key TEXT, run TEXT
    );
    CREATE INDEX jobs_by_status ON jobs (status, place);
    CREATE TABLE models (
        ref TEXT PRIMARY KEY, name TEXT NOT NULL, label TEXT NOT NULL, source TEXT NOT NULL, task TEXT, dtype TEXT NOT NULL,
        fingerprints TEXT NOT NULL, facts TEXT NOT NULL, seen TEXT NOT NULL
    );
    CREATE TABLE needs (
        ref TEXT NOT NULL REFERENCES models (ref) ON DELETE CASCADE, slug TEXT NOT NULL, version INTEGER NOT NULL, words TEXT,
        PRIMARY KEY (ref, slug)
    );
    """,
    "CREATE TABLE removed (key TEXT PRIMARY KEY, attempt INTEGER NOT NULL);",
    """
    CREATE TABLE labels (
        owner TEXT NOT NULL, unit TEXT NOT NULL, text TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (owner, unit)
    );
    """,
    """
    ALTER TABLE labels ADD COLUMN kind TEXT NOT NULL DEFAULT 'latent';
    ALTER TABLE labels ADD COLUMN note TEXT NOT NULL DEFAULT '';
    ALTER TABLE labels ADD COLUMN model TEXT NOT NULL DEFAULT '';
    CREATE TABLE IF NOT EXISTS queries (name TEXT PRIMARY KEY, text TEXT NOT NULL, changed TEXT NOT NULL);
    """,
    """
    CREATE INDEX IF NOT EXISTS runs_by_stamp ON runs (status, file, size, mtime_ns);
    CREATE INDEX IF NOT EXISTS runs_by_slug ON runs (slug);
    """,
)
"""Statement i brings the schema from version i to i + 1. Only ever append."""

_CURRENT = """
    status = 'sealed' AND attempt = (SELECT max(attempt) FROM runs AS r WHERE r.key = runs.key AND r.status = 'sealed')
"""
"""The attempt that counts is the newest sealed one: a rule, so there is nothing to get out of step."""


_STATE = ("file", "size", "mtime_ns", "status", "words")
"""What may change of a run that was listed before, its file first; beside these whether it is the current one."""

_WRITE = "BEGIN IMMEDIATE"
_LOOK_AGAIN = "UPDATE runs SET mtime_ns = 0 WHERE status = 'duplicate'"
"""What doubled a file that is gone is looked at anew by the next `Store.reconcile`."""


class FileStamp(NamedTuple):
    """What tells whether a file is still the one that was catalogued."""

    size: int
    mtime_ns: int


class Catalogue:
    """The SQLite file. Every method is one short transaction."""

    def __init__(self, path: Path, runs_folder: Path) -> None:
        self.path = path
        self._runs_folder = runs_folder
        self._made, self._summaries = Kept(KEPT_RUNS), Kept(KEPT_SUMMARIES)
        with self._connected():
            pass

    @contextmanager
    def _connected(self, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is committed at the end; the file and its schema are made on demand.

        Who is going to write says so at the start (`_WRITE`): a reader that turns writer half-way does not wait for others
        but fails.
        """
        try:
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
                self._prepare(connection)
                connection.execute("PRAGMA synchronous = normal")
                connection.execute("PRAGMA foreign_keys = on")
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
        except sqlite3.Error as error:
            if is_no_space(error):
                raise no_space(self.path.parent, 1_000_000, "sealed runs are kept and found again") from error
            raise StoreError(
                f"{self.path} must be a catalogue that can be read and written, got {error}; "
                "if it is damaged, move it away: it is made anew from the sealed runs."
            ) from error

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that only reads, for the tables beside the runs."""
        return self._connected()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that writes, for the tables beside the runs; committed at the end, undone by an exception."""
        return self._connected(_WRITE)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = _version(connection)
        if version == len(_MIGRATIONS):
            return
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"{self.path} must have schema version {len(_MIGRATIONS)} or older, got {version}; update the program that reads it."
            )
        # Changing to WAL does not wait for other connections as ordinary writes do; the folder's lock lets one in at a time.
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            connection.execute("PRAGMA journal_mode = wal")
            for number in range(_version(connection), len(_MIGRATIONS)):
                connection.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
        finally:
            os.close(folder)

    def stamps(self) -> dict[str, FileStamp]:
        """Every catalogued file that was there when last looked at, with its stamp."""
        with self._connected() as connection:
            connection.row_factory = None  # a plain row of a thousand takes a fifth of the time
            rows = connection.execute("SELECT file, size, mtime_ns FROM runs WHERE status <> 'missing'").fetchall()
        return {file: FileStamp(size, mtime_ns) for file, size, mtime_ns in rows}

    def add(self, file: str, stamp: FileStamp, run: Mapping[str, Any], summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Enter a sealed file, or enter it anew. ``run`` is its row of table ``run``, JSON columns decoded."""
        name = f"{run['key']}-{run['attempt']}"
        with self._connected(_WRITE) as connection:
            twin = connection.execute(
                "SELECT file FROM runs WHERE id = ? AND status = 'sealed' AND file <> ? ORDER BY file", [name, file]
            ).fetchone()
            status, words = "sealed", ""
            if twin:
                status = "duplicate"
                words = f"a run must be in the store once, got {name} in both {twin['file']} and {file}; remove one of the files."
            entry = {name: run[name] for name in ("key", "attempt", "slug", "version", "model", "data", "seconds")}
            entry |= {"file": file, "size": stamp.size, "mtime_ns": stamp.mtime_ns, "id": name, "status": status, "words": words}
            entry |= {"started": _text(run["started"]), "finished": _text(run["finished"]), "provenance": to_json(run)}
            _replace(connection, entry)
            connection.executemany(
                "INSERT INTO summaries VALUES (?, ?, ?)", [(file, table, to_json(list(kept))) for table, kept in summaries.items()]
            )

    def add_unreadable(self, file: str, stamp: FileStamp, words: str) -> None:
        """Remember a file in the runs folder that is no sealed run, with the sentence that says why."""
        now = _text(datetime.now(UTC))
        name = file.removesuffix(".duckdb")
        entry = {"file": file, "size": stamp.size, "mtime_ns": stamp.mtime_ns, "id": name, "key": name, "attempt": 0}
        entry |= {"slug": "", "version": 0, "model": "", "data": None, "status": "unreadable", "words": words}
        entry |= {"started": now, "finished": now, "seconds": 0.0, "provenance": None}
        with self._connected(_WRITE) as connection:
            _replace(connection, entry)

    def mark_missing(self, files: Sequence[str]) -> None:
        """Say of these files that they are gone; what was known about them stays. What doubled them is looked at again."""
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
        words = "the file {} must be in {}, got nothing there on {}; copy it back or run the analysis again."
        said = [(words.format(file, self._runs_folder, now), file) for file in files]
        with self._connected(_WRITE) as connection:
            connection.executemany("UPDATE runs SET status = 'missing', words = ? WHERE file = ?", said)
            connection.execute(_LOOK_AGAIN)

    def runs(self, where: Mapping[str, Any] | None = None, *, current_only: bool = False, summaries: bool = True) -> list[RunInfo]:
        """Runs whose columns have the given values, newest first. Those listed before are not decoded again (`store.listing`)."""
        conditions = [f"{column} = :{column}" for column in where or {}] + ([_CURRENT] if current_only else [])
        condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        text = f"SELECT {', '.join(_STATE)}, ({_CURRENT}) AS current FROM runs {condition} ORDER BY finished DESC, id"
        with self._connected() as connection:
            states = [tuple(row) for row in connection.execute(text, dict(where or {}))]
            known = {state: self._made.get(state) for state in states}
            for state in (one for one, made in known.items() if made is None):
                row = connection.execute("SELECT * FROM runs WHERE file = ?", [state[0]]).fetchone()
                known[state] = self._made.put(state, self._info(row, bool(state[-1])))
        runs = [_as_it_is(made) for state in states if (made := known[state]) is not None]
        return runs if summaries else [replace(run, summaries={}) for run in runs]

    def last_attempt(self, key: str) -> int:
        """The highest attempt number this key was ever catalogued with, removed ones too; 0 where there is none."""
        text = "SELECT coalesce(max(attempt), 0) FROM (SELECT key, attempt FROM runs UNION ALL SELECT * FROM removed) WHERE key = ?"
        with self._connected() as connection:
            return connection.execute(text, [key]).fetchone()[0]

    def remove(self, file: str, key: str, attempt: int) -> None:
        """Forget a file that has been deleted. Its number stays taken: a run's id never means another one later."""
        with self._connected(_WRITE) as connection:
            connection.execute("DELETE FROM runs WHERE file = ?", [file])
            connection.execute(
                "INSERT INTO removed VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET attempt = max(attempt, ?2)", [key, attempt]
            )
            connection.execute(_LOOK_AGAIN)

    def _info(self, row: sqlite3.Row, current: bool) -> RunInfo:
        file = row["file"]
        return make_info(
            json.loads(row["provenance"]) if row["provenance"] else dict(row) | {"config": {}, "tables": {}},
            path=self._runs_folder / file,
            size=row["size"],
            name=row["id"],
            status=row["status"],
            words=row["words"],
            current=current,
            summaries=Summaries((file, row["size"], row["mtime_ns"]), self._summaries, lambda: self._summaries_of(file)),
        )

    def _summaries_of(self, file: str) -> dict[str, str]:
        """JSON of the small tables of a file; nothing where it is no longer in the store."""
        with self._connected() as connection:
            return {row["name"]: row["rows"] for row in connection.execute("SELECT * FROM summaries WHERE file = ?", [file])}


def _as_it_is(run: RunInfo) -> RunInfo:
    """The run with the size it has now: its files, which lie beside it, may have come or gone since it was listed last."""
    if not run.provenance.get("files"):
        return run
    try:
        size = os.stat(run.path).st_size + bytes_beside(run.path, run.provenance)
    except FileNotFoundError:
        return run
    return run if size == run.size else replace(run, size=size)


def _replace(connection: sqlite3.Connection, entry: Mapping[str, Any]) -> None:
    connection.execute("DELETE FROM runs WHERE file = :file", entry)
    connection.execute(f"INSERT INTO runs ({', '.join(entry)}) VALUES ({', '.join(':' + column for column in entry)})", entry)


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _text(value: datetime | str) -> str:
    return moment(value).isoformat()
