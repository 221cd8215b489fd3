"""Sealing: from the committed parts of an attempt to one DuckDB file that explains itself and never changes again.

The file is built in a temporary folder, checkpointed and fsynced, then renamed to a name never used before; its
storage version is old enough for clients of the last long-term release. Every table and every column has a comment.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import files, sql
from store.errors import StoreError, is_no_space, no_space
from store.folders import files_path, sealed_path, sync, temporary_path
from store.records import TableLayout, to_json

if TYPE_CHECKING:
    import duckdb

    from store.attempt import Attempt

STORAGE_VERSION = "v1.5.0"
RESERVED = ("run", "runs")
"""Names of tables the store itself gives: the row that describes a run, and all of those side by side."""
MEMORY = "2GB"
JSON_MARK = "; JSON"
"""Ends the comment of a column of table ``run`` that holds JSON text."""

RUN_COLUMNS: Mapping[str, tuple[str, str]] = {
    "key": ("VARCHAR", "hash of everything the result depends on: question, version, config, seed and inputs"),
    "attempt": ("BIGINT", "which attempt at this key, counted from 1; unit: attempts"),
    "slug": ("VARCHAR", "the analysis that was run"),
    "version": ("BIGINT", "version of the analysis; raised whenever its numbers change meaning"),
    "model": ("VARCHAR", "name of the model that was analysed"),
    "data": ("VARCHAR", "name of the data that flowed through it; NULL where only weights were read"),
    "config": ("VARCHAR", "every setting of the analysis" + JSON_MARK),
    "seed": ("BIGINT", "seed of everything random; NULL where nothing is"),
    "fingerprints": ("VARCHAR", "hashes of the declared inputs, by input" + JSON_MARK),
    "versions": ("VARCHAR", "versions of the libraries used" + JSON_MARK),
    "commit": ("VARCHAR", "commit of the program; NULL where it ran outside a repository"),
    "dtype": ("VARCHAR", "number format of the model's weights; NULL where not recorded"),
    "device": ("VARCHAR", "device the model ran on; NULL where not recorded"),
    "started": ("TIMESTAMP", "when the attempt began, UTC"),
    "finished": ("TIMESTAMP", "when the attempt was sealed, UTC"),
    "seconds": ("DOUBLE", "time spent working, all sessions of the attempt together; unit: s"),
    "tables": ("VARCHAR", "rows, sort order and summary flag of every table" + JSON_MARK),
    "files": ("VARCHAR", "name, bytes and sha256 of every file kept beside the run; NULL where there is none" + JSON_MARK),
}
_REQUIRED = ("slug", "version", "model")


def seal(attempt: Attempt, layouts: Sequence[TableLayout], provenance: Mapping[str, Any]) -> Path:
    """Build, publish and return the sealed file of ``attempt``. Neither the catalogue nor the parts are touched."""
    import duckdb

    runs = attempt.folder.parent
    path = sealed_path(runs, attempt.key, attempt.number)
    _check(attempt, layouts, provenance, path)
    folder = temporary_path(runs, attempt.key, attempt.number)
    built = folder / "run.duckdb"
    kept = files.list_and_sync(attempt.folder / files.INSIDE)
    try:
        folder.mkdir()
        _build(built, folder / "spill", attempt, layouts, _run_row(attempt, layouts, provenance) | {"files": kept or None})
        os.chmod(built, stat.S_IMODE(built.stat().st_mode) & ~0o222)  # a client that opens it carelessly cannot change it
        sync(built)
        if kept:
            files.publish(runs, attempt.key, attempt.number)
        os.replace(built, path)
        sync(runs)
    except (OSError, duckdb.Error) as error:
        if is_no_space(error):
            raise no_space(runs, 2 * _size(attempt), f"all {len(attempt.done())} units are kept and only need sealing") from error
        if isinstance(error, (duckdb.IntegrityError, duckdb.DataError, duckdb.ProgrammingError)):
            raise StoreError(
                f"the rows of {path.stem} must fit their declared tables, got {_first_line(error)}; correct the analysis."
            ) from error
        if isinstance(error, duckdb.Error):
            raise StoreError(
                f"{path} must be possible to build, got {_first_line(error)}; run the same command again: all units are kept."
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not path.exists() and files_path(runs, attempt.key, attempt.number).is_dir():
            files.take_back(runs, attempt.key, attempt.number)
    return path


def _check(attempt: Attempt, layouts: Sequence[TableLayout], provenance: Mapping[str, Any], path: Path) -> None:
    names = [layout.name for layout in layouts]
    for problem, wrong in (
        ("declared once", sorted({n for n in names if names.count(n) > 1})),
        ("declared to be sealed", sorted(attempt.tables() - set(names))),
        (f"named otherwise than {' and '.join(RESERVED)}", sorted(n for n in names if n.lower() in RESERVED)),
    ):
        if wrong:
            raise StoreError(f"every table must be {problem}, got {', '.join(wrong)}; correct the analysis.")
    for layout in layouts:
        if set(layout.columns) != set(layout.schema.names) or not set(layout.order) <= set(layout.columns):
            raise StoreError(
                f"table {layout.name} must have a comment for each of its columns and be sorted by some of them, "
                f"got comments for {sorted(layout.columns)}, columns {sorted(layout.schema.names)}; correct the analysis."
            )
    missing = [field for field in _REQUIRED if provenance.get(field) is None]
    if missing:
        raise StoreError(f"a run must say its slug, version and model, got no {', '.join(missing)}; add them to its record.")
    if path.exists():
        raise StoreError(f"{path} must be a new name, got a file that is there already; begin the run again.")


def _run_row(attempt: Attempt, layouts: Sequence[TableLayout], provenance: Mapping[str, Any]) -> dict[str, Any]:
    tables = {t.name: {"rows": attempt.rows(t.name), "summary": t.summary, "order": list(t.order)} for t in layouts}
    measured = {"finished": datetime.now(UTC), "seconds": attempt.seconds()}
    own = {"key": attempt.key, "attempt": attempt.number, "tables": tables}
    return dict.fromkeys(RUN_COLUMNS) | measured | dict(provenance) | own


def _build(path: Path, spill: Path, attempt: Attempt, layouts: Sequence[TableLayout], run: Mapping[str, Any]) -> None:
    import duckdb

    with duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": str(spill)}) as connection:
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute(f"ATTACH {sql.literal(str(path))} AS sealed (STORAGE_VERSION {sql.literal(STORAGE_VERSION)})")
        connection.execute("USE sealed")
        for layout in layouts:
            _create(connection, layout)
            parts = attempt.files(layout.name)
            if parts:
                _fill(connection, layout, parts)
        _write_run(connection, run)
        connection.execute("CHECKPOINT sealed")
        connection.execute("USE memory")
        connection.execute("DETACH sealed")


def _create(connection: duckdb.DuckDBPyConnection, layout: TableLayout) -> None:
    """The empty table with types from the Arrow schema, NOT NULL where Arrow says so, and all comments."""
    connection.register("schema_of_table", layout.schema.empty_table())
    types = {row[0]: row[1] for row in connection.execute("DESCRIBE SELECT * FROM schema_of_table").fetchall()}
    connection.unregister("schema_of_table")
    columns = [f"{sql.name(f.name)} {types[f.name]}{'' if f.nullable else ' NOT NULL'}" for f in layout.schema]
    connection.execute(f"CREATE TABLE {sql.name(layout.name)} ({', '.join(columns)})")
    _comment(connection, layout.name, layout.comment, layout.columns)


def _fill(connection: duckdb.DuckDBPyConnection, layout: TableLayout, parts: Sequence[Path]) -> None:
    """All parts, sorted. Rows that are equal in ``order`` may change places; a table's key should be part of it."""
    columns = ", ".join(sql.name(column) for column in layout.schema.names)
    order = f" ORDER BY {', '.join(sql.name(column) for column in layout.order)}" if layout.order else ""
    connection.execute(
        f"INSERT INTO {sql.name(layout.name)} ({columns}) SELECT {columns} FROM read_parquet(?){order}",
        [[str(part) for part in parts]],
    )


def _write_run(connection: duckdb.DuckDBPyConnection, run: Mapping[str, Any]) -> None:
    types: dict[str, str] = {}
    comments: dict[str, str] = {}
    values: list[Any] = []
    for column, value in run.items():
        known = RUN_COLUMNS.get(column)
        as_json = known[1].endswith(JSON_MARK) if known else _type_of(value) is None
        types[column] = known[0] if known else _type_of(value) or "VARCHAR"
        comments[column] = known[1] if known else f"recorded with the run: {column}{JSON_MARK if as_json else ''}"
        if as_json and value is not None:
            value = to_json(value)
        elif types[column] == "TIMESTAMP":
            value = _utc(value)
        values.append(str(value) if isinstance(value, Path) else value)
    columns = ", ".join(f"{sql.name(column)} {kind}" for column, kind in types.items())
    connection.execute(f"CREATE TABLE run ({columns})")
    connection.execute(f"INSERT INTO run VALUES ({', '.join('?' * len(values))})", values)
    _comment(connection, "run", "how this run was made: one row", comments)


def _comment(connection: duckdb.DuckDBPyConnection, table: str, comment: str, columns: Mapping[str, str]) -> None:
    """In one transaction: each by itself would wait for the disk."""
    connection.begin()
    connection.execute(f"COMMENT ON TABLE {sql.name(table)} IS {sql.literal(comment)}")
    for column, words in columns.items():
        connection.execute(f"COMMENT ON COLUMN {sql.name(table)}.{sql.name(column)} IS {sql.literal(words)}")
    connection.commit()


def _type_of(value: Any) -> str | None:
    """The column type of a plain value; None for what has to be JSON."""
    if value is None or isinstance(value, (str, Path)):
        return "VARCHAR"
    for kind, column_type in ((bool, "BOOLEAN"), (int, "BIGINT"), (float, "DOUBLE"), (datetime, "TIMESTAMP")):
        if isinstance(value, kind):
            return column_type
    return None


def _utc(value: datetime | str | None) -> datetime | None:
    """A time as UTC without a time zone; one that has none is taken for UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment


def _size(attempt: Attempt) -> int:
    return sum(file.stat().st_size for file in attempt.folder.rglob("*.parquet"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
