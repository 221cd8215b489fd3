"""Is every sealed file what it was when it was sealed? Reads all of it: for after a copy, a crash or years on a disk.

Of each file: it opens; it has one row that describes a run, under its own name; the tables are those that row lists, with as many rows,
a comment on every table and column, and nothing else inside; every value can be read (blocks of a DuckDB file carry checksums); the files
beside it are those listed, by size and hash. Nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from store import sql
from store.errors import StoreError
from store.files import files_beside
from store.reading import ALIAS
from store.seal import RUN_COLUMNS

if TYPE_CHECKING:
    from store.reading import Pool, Reader
    from store.store import Store

RUN = "run"


@dataclass(frozen=True)
class Verdict:
    """What checking one file found."""

    path: Path
    bytes: int
    rows: int
    words: str
    """What is wrong with it, in a sentence; empty where nothing is."""


def check(store: Store) -> Iterator[Verdict]:
    """Every sealed file of a store, and what lies beside none; in the order of their names."""
    for path in sorted(store.runs_folder.glob("*.duckdb")):
        if not path.name.startswith("."):
            yield verdict(store.pool, path)
    for folder in sorted(store.runs_folder.glob("*.files")):
        if not folder.with_suffix(".duckdb").exists():
            words = f"the files of a run must lie beside its sealed file, got {folder.name} alone; copy the sealed file there, too."
            yield Verdict(folder, 0, 0, words)


def verdict(pool: Pool, path: Path) -> Verdict:
    """One file, all of it."""
    size = path.stat().st_size
    try:
        run = verified(pool, path)
        if path.stem != f"{run['key']}-{run['attempt']}":
            raise StoreError(f"{path.name} must be named as the run it holds, got run {run['key']}-{run['attempt']}; rename it.")
    except StoreError as error:
        return Verdict(path, size, 0, str(error))
    return Verdict(path, size, sum(about["rows"] for about in run["tables"].values()), "")


def verified(pool: Pool, path: Path) -> dict[str, Any]:
    """What a sealed file says of its run, after all that is said above but for its name. Raises `StoreError` for what is wrong."""
    from store.store import run_row

    with pool.reader(path) as reader:
        run = run_row(reader)
        _check_shape(reader, run)
        for name in reader.tables:
            _read_all(reader, name)
    check_files(path, run)
    return run


def listed(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The files beside a run, as it lists them. Raises `StoreError` for names that lead out of its folder."""
    found = list(run.get("files") or [])
    for one in found:
        name = PurePosixPath(str(one["name"]))
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise StoreError(f"files of a run must be named inside its folder, got {one['name']!r}; do not use this run.")
    return found


def _check_shape(reader: Reader, run: Mapping[str, Any]) -> None:
    """Columns of the run's row; tables, rows and comments; nothing that is no table."""
    where, again = reader.path.name, "copy it again from where it was sealed."
    missing = sorted(set(RUN_COLUMNS) - {column.name for column in reader.table(RUN).columns} - {"files"})  # older runs list no files
    if missing:
        raise StoreError(f"{where} must describe its run in full, got no {', '.join(missing)}; {again}")
    declared, there = run["tables"], {name for name in reader.tables if name != RUN}
    if set(declared) != there:
        raise StoreError(f"{where} must hold the tables it lists, got {_difference(set(declared), there)}; {again}")
    for name, about in declared.items():
        table = reader.table(name)
        if table.rows != about["rows"]:
            raise StoreError(f"table {name} of {where} must have {about['rows']:,} rows, got {table.rows:,}; {again}")
        bare = [column.name for column in table.columns if not column.comment] + ([] if table.comment else ["the table itself"])
        if bare:
            raise StoreError(f"table {name} of {where} must say what its columns are, got no comment on {', '.join(bare)}; {again}")
    other = reader.ask("SELECT view_name AS name FROM duckdb_views() WHERE database_name = ? AND NOT internal", [ALIAS]).to_pylist()
    if other:
        raise StoreError(f"{where} must hold tables only, got the view {other[0]['name']!r}; do not use this file.")


def _difference(declared: set[str], there: set[str]) -> str:
    parts = [f"no {', '.join(sorted(declared - there))}"] if declared - there else []
    return " and ".join(parts + ([f"{', '.join(sorted(there - declared))} besides"] if there - declared else []))


def _read_all(reader: Reader, table: str) -> None:
    """Every block of every column is read, and DuckDB compares its checksum."""
    columns = ", ".join(sql.name(column.name) for column in reader.table(table).columns)
    reader.ask(f"SELECT bit_xor(hash({columns})) FROM {sql.name(ALIAS)}.main.{sql.name(table)}", [])


def check_files(path: Path, run: Mapping[str, Any]) -> None:
    """The files beside, by size and hash, and none more."""
    names = {str(one["name"]) for one in listed(run)}
    folder = files_beside(path, run)
    if folder is None:
        return
    for one in run["files"]:
        if sha256(folder / one["name"]) != one["sha256"]:
            raise StoreError(f"{folder.name}/{one['name']} must be as it was sealed, got other contents; copy the folder again.")
    more = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    extra = [name for name in more if name not in names]
    if extra:
        raise StoreError(f"{folder.name} must hold what its run lists, got {extra[0]} besides; move it elsewhere.")


def sha256(path: Path) -> str:
    """Of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
