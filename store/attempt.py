"""An attempt at a run: units of work are committed one by one, all or nothing, and sealed at the end.

<key>-<attempt>.partial/
    record.json            what was asked for, and when the attempt began
    part-000001/           one committed unit
        meta.json          the unit's name, rows per table, seconds since this session began
        table-0.parquet    ... one file per table
        state.npz          arrays of an accumulator, where the unit has one
    files/                 what the analysis writes that is no table (`store.files`)
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import StoreError, is_no_space, no_space
from store.files import INSIDE
from store.folders import partial_path, remove_folder, sync, temporary_path, write_synced
from store.lock import KeyLock
from store.records import TableLayout, to_json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from store.store import Store

_PART = re.compile(r"part-\d{6,}")
RECORD = "record.json"


@dataclass(frozen=True)
class Part:
    """One committed unit."""

    folder: Path
    unit: str
    tables: Mapping[str, Mapping[str, Any]]
    """Table name to ``{"file": ..., "rows": ...}``: a table's name need not be a file's name."""
    arrays: Mapping[str, str]
    """Name of a state array to its name in ``state.npz``."""
    session: str
    seconds: float


class Attempt:
    """One attempt at a run. Holds the key's lock until closed; use it in a ``with`` statement."""

    def __init__(self, store: Store, key: str, number: int, record: Mapping[str, Any], lock: KeyLock) -> None:
        """Made by `Store.begin` only, which has taken the lock. Opens the attempt's folder, or makes it."""
        self.key = key
        self.number = number
        self.folder = partial_path(store.runs_folder, key, number)
        self._store = store
        self._lock = lock
        self._began = time.monotonic()
        self._session = datetime.now(UTC).isoformat()
        if not self.folder.is_dir():
            self._make_folder(record)
        self.record: dict[str, Any] = read_json(self.folder / RECORD)
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover)
        self._parts = read_parts(self.folder)

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back. Committed units are kept for the next attempt to continue."""
        if self._lock.held and not self._parts and self.folder.is_dir():
            remove_folder(self.folder, self.key, self.number)  # nothing was done: leave nothing behind
        self._lock.release()

    def done(self) -> set[str]:
        """Names of the units already committed."""
        return {part.unit for part in self._parts}

    def rows(self, table: str) -> int:
        """Rows committed for a table so far."""
        return sum(part.tables[table]["rows"] for part in self._parts if table in part.tables)

    def commit(self, unit: str, tables: Mapping[str, Sequence[pa.Table]], state: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep a unit's rows and accumulator state, all or nothing; on return they have reached the disk.

        A unit is committed once: a second time is an error, because its rows would be counted twice.
        """
        if not self._lock.held:
            raise StoreError(f"attempt {self.folder.stem} must be open to take unit {unit!r}, got a closed one; begin it again.")
        if unit in self.done():
            raise StoreError(f"a unit must be committed once, got {unit!r} a second time; ask done() which are left.")
        number = 1 + max((int(part.folder.name[5:]) for part in self._parts), default=0)
        folder = self.folder / f"part-{number:06d}"
        files, meta = _encode(unit, tables, state or {})
        meta |= {"session": self._session, "seconds": time.monotonic() - self._began}
        files["meta.json"] = memoryview(to_json(meta).encode())
        self._publish(folder, files)
        self._parts.append(_read_part(folder))

    @property
    def files_folder(self) -> Path:
        """A folder for files of the run that are no tables: kept over kills; what is in it when the run is sealed stays with it."""
        folder = self.folder / INSIDE
        folder.mkdir(exist_ok=True)
        return folder

    def states(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Unit name and state arrays of the committed units that have some, in order, one in memory at a time."""
        import numpy as np

        for part in self._parts:
            if part.arrays:
                with np.load(part.folder / "state.npz", allow_pickle=False) as stored:
                    yield part.unit, {name: stored[inside] for name, inside in part.arrays.items()}

    def files(self, table: str) -> list[Path]:
        """The Parquet files committed for a table, in order."""
        return [part.folder / part.tables[table]["file"] for part in self._parts if table in part.tables]

    def tables(self) -> set[str]:
        """Names of the tables that have rows so far."""
        return {name for part in self._parts for name in part.tables}

    def seconds(self) -> float:
        """Time spent working: every earlier session up to its last commit, and this one up to now."""
        sessions: dict[str, float] = {}
        for part in self._parts:
            sessions[part.session] = max(part.seconds, sessions.get(part.session, 0.0))
        return sum(sessions.values()) - sessions.get(self._session, 0.0) + time.monotonic() - self._began

    def seal(self, layouts: Sequence[TableLayout], provenance: Mapping[str, Any] | None = None) -> Path:
        """Turn what was committed into the sealed file of this attempt, and return its path.

        ``provenance`` is added to the record the attempt was begun with and wins over it. One row of the table ``run``
        holds all of it: a plain value becomes a typed column, anything nested becomes JSON. Without room for the file
        `NoSpace` is raised and the parts are kept, so that beginning the same key again goes straight to sealing.
        """
        from store.seal import seal

        if not self._lock.held:
            raise StoreError(f"attempt {self.folder.stem} must be open to be sealed, got a closed one; begin it again.")
        path = seal(self, layouts, self.record | dict(provenance or {}))
        self._store.register(path)
        entered = self._store.find(path)
        if entered.status != "sealed":
            raise StoreError(entered.words)  # the parts stay: they are all there is, should the file be no good
        self._store.forget_attempts(self.key, up_to=self.number)
        self.close()
        return path

    def _make_folder(self, record: Mapping[str, Any]) -> None:
        made = temporary_path(self.folder.parent, self.key, self.number)
        text = to_json({"started": self._session, **record}).encode()
        try:
            made.mkdir()
            write_synced(made / RECORD, memoryview(text))
            os.rename(made, self.folder)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if is_no_space(error):
                raise no_space(self.folder.parent, len(text), "nothing was lost") from error
            raise
        sync(self.folder.parent)

    def _publish(self, folder: Path, files: Mapping[str, memoryview]) -> None:
        made = folder.with_name(folder.name + ".tmp")
        try:
            made.mkdir()
            for name, data in files.items():
                write_synced(made / name, data)
            sync(made)
            os.rename(made, folder)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if is_no_space(error):
                needed = sum(len(data) for data in files.values())
                raise no_space(self.folder, needed, f"the {len(self._parts)} finished units are kept") from error
            raise
        sync(self.folder)


def _encode(
    unit: str, tables: Mapping[str, Sequence[pa.Table]], state: Mapping[str, np.ndarray]
) -> tuple[dict[str, memoryview], dict[str, Any]]:
    """The files of a part, in memory so that their size is known before the first byte is written, and its meta data."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    files: dict[str, memoryview] = {}
    kept: dict[str, dict[str, Any]] = {}
    for i, (name, pieces) in enumerate(tables.items()):
        if not pieces:
            continue
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, pieces[0].schema, compression="zstd") as writer:
            for piece in pieces:
                writer.write_table(piece)
        kept[name] = {"file": f"table-{i}.parquet", "rows": sum(len(piece) for piece in pieces)}
        files[f"table-{i}.parquet"] = memoryview(sink.getvalue())
    arrays = {name: f"a{i}" for i, name in enumerate(state)}
    if arrays:
        stored = io.BytesIO()
        np.savez(stored, allow_pickle=False, **{arrays[name]: np.asarray(array) for name, array in state.items()})
        files["state.npz"] = stored.getbuffer()
    return files, {"unit": unit, "tables": kept, "arrays": arrays}


def read_parts(folder: Path) -> list[Part]:
    """The committed units of an attempt's folder, in order of committing."""
    return [_read_part(part) for part in sorted(folder.iterdir()) if _PART.fullmatch(part.name)]


def _read_part(folder: Path) -> Part:
    meta = read_json(folder / "meta.json")
    return Part(folder, meta["unit"], meta["tables"], meta["arrays"], meta["session"], meta["seconds"])


def read_json(path: Path) -> dict[str, Any]:
    """A file of an attempt that says what it is."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} must be readable JSON, got {type(error).__name__}; remove the folder {path.parent} to do its part again."
        ) from error
