"""Sealed files attached to an in-memory database of their own, which is then locked down: no file system, extensions or settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from store import sql
from store.errors import StoreError
from store.records import ColumnInfo, TableInfo

if TYPE_CHECKING:
    import duckdb


def harden(connection: duckdb.DuckDBPyConnection) -> None:
    """Switch off files, extensions and settings for good. What is attached stays attached.

    Switching off external access alone leaves a hole: DuckDB then still allows every path that is attached, also for
    writing, and ``COPY ... TO`` the sealed file itself would replace it. Hence the file system is switched off as well.
    """
    for setting in ("enable_external_access", "autoinstall_known_extensions", "allow_community_extensions"):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")


def open_memory(memory: str) -> duckdb.DuckDBPyConnection:
    """A private in-memory database that never spills to disk, with room for ``memory`` and a few threads."""
    import duckdb

    threads = max(1, min(4, os.cpu_count() or 1))
    return duckdb.connect(":memory:", config={"memory_limit": memory, "threads": threads, "temp_directory": ""})


def attach(connection: duckdb.DuckDBPyConnection, paths: Mapping[str, Path]) -> dict[str, dict[str, TableInfo]]:
    """Attach sealed files under their names for reading: the tables of each with comments and types, from the files themselves.

    Raises `StoreError`, a sentence, for a file that is no sealed run. Row counts are left at 0: `counted` fills them in.
    """
    import duckdb

    for alias, path in paths.items():
        if not path.is_file():
            raise StoreError(f"{path} must be a sealed run, got no such file; list the runs that are there.")
        try:
            connection.execute(f"ATTACH {sql.literal(str(path))} AS {sql.name(alias)} (READ_ONLY)")
        except duckdb.Error as error:
            raise StoreError(cannot_open(path, str(error))) from error
    found = _described(connection, paths)
    for alias, path in paths.items():
        run = found[alias].get("run")
        if run is None or not {"key", "attempt", "slug", "tables"} <= {column.name for column in run.columns}:
            raise StoreError(f"{path} must be a sealed run, got a DuckDB file without a table that describes one; choose another file.")
    return found


def _described(connection: duckdb.DuckDBPyConnection, aliases: Iterable[str]) -> dict[str, dict[str, TableInfo]]:
    """What every attached file holds. Both questions go through all files at once: each of them reads all there are anyway."""
    columns: dict[tuple[str, str], list[ColumnInfo]] = {}
    for alias, table, name, kind, comment, optional in connection.execute(
        "SELECT database_name, table_name, column_name, data_type, comment, is_nullable FROM duckdb_columns() "
        "WHERE schema_name = 'main' AND NOT internal ORDER BY database_name, table_oid, column_index"
    ).fetchall():
        columns.setdefault((alias, table), []).append(ColumnInfo(name, kind, comment or "", bool(optional)))
    found: dict[str, dict[str, TableInfo]] = {alias: {} for alias in aliases}
    for alias, table, comment in connection.execute(
        "SELECT database_name, table_name, comment FROM duckdb_tables() "
        "WHERE schema_name = 'main' AND NOT internal ORDER BY database_name, table_oid"
    ).fetchall():
        if alias in found:
            found[alias][table] = TableInfo(table, comment or "", 0, tuple(columns[alias, table]))
    return found


def counted(connection: duckdb.DuckDBPyConnection, alias: str, tables: Mapping[str, TableInfo]) -> dict[str, TableInfo]:
    """The tables of an attached file with the number of their rows."""
    found = {}
    for table, info in tables.items():
        row = connection.execute(f"SELECT count(*) FROM {sql.name(alias)}.main.{sql.name(table)}").fetchone()
        found[table] = replace(info, rows=row[0] if row else 0)
    return found


def cannot_open(path: Path, reason: str) -> str:
    """Why DuckDB did not read a file, as a sentence."""
    if "Conflicting lock" in reason:
        return f"{path} must not be open for writing, got another program that has it open so; close it there."
    first = reason.splitlines()[0].rstrip(".!")
    return f"{path} must be a sealed run that can be read, got {first}; copy it again or run the analysis again."
