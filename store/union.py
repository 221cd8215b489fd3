"""Many runs side by side: a locked-down connection with one view per table across the chosen sealed files.

Every view begins with the columns ``run``, ``slug``, ``model``, ``data`` and ``started``, then has the table's own; a
column that only some of the runs have is NULL for the others. Where a table has a column of such a name itself, ours is
called ``run_<name>``. The view ``runs`` shows how each run was made. Only the chosen files are attached: a thousand of
them are a thousand open files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC
from typing import TYPE_CHECKING

from store import sql
from store.attaching import attach, harden, open_memory
from store.errors import StoreError
from store.records import RunInfo, TableInfo

if TYPE_CHECKING:
    import duckdb

MEMORY = "2GB"
_COMMENTS: Mapping[str, str] = {
    "run": "id of the run the row comes from",
    "slug": "the analysis that was run",
    "model": "name of the model that was analysed",
    "data": "name of the data that flowed through it; NULL where only weights were read",
    "started": "when the attempt began, UTC",
}


def connect(runs: Sequence[RunInfo], *, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """The connection for these runs. Close it after use; share it between threads through `.cursor()` only."""
    if not runs:
        raise StoreError("a connection must be to at least one run, got none; name the runs to look at.")
    connection = open_memory(memory)
    with ExitStack() as undo:
        undo.callback(connection.close)
        files = attach(connection, {f"run_{i}": run.path for i, run in enumerate(runs)})
        firsts = {f"run_{i}": _values(run) for i, run in enumerate(runs)}
        for table in dict.fromkeys(table for tables in files.values() for table in tables):
            _create_view(connection, table, {alias: tables[table] for alias, tables in files.items() if table in tables}, firsts)
        harden(connection)
        undo.pop_all()
    return connection


def _values(run: RunInfo) -> dict[str, str]:
    """Our columns for one run, as literals: a condition on them then leaves out the files it rules out."""
    return {
        "run": sql.literal(run.id),
        "slug": sql.literal(run.slug),
        "model": sql.literal(run.model),
        "data": "NULL::VARCHAR" if run.data is None else sql.literal(run.data),
        "started": f"TIMESTAMP {sql.literal(run.started.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}",
    }


def _create_view(
    connection: duckdb.DuckDBPyConnection, table: str, having: Mapping[str, TableInfo], firsts: Mapping[str, Mapping[str, str]]
) -> None:
    view, added = ("runs", ("run",)) if table == "run" else (table, tuple(_COMMENTS))
    own = {column.name: column.comment for info in having.values() for column in info.columns}
    titles = {column: _free_name(column, {name.lower() for name in own}) for column in added}
    pieces = []
    for alias in having:
        ours = ", ".join(f"{firsts[alias][column]} AS {sql.name(titles[column])}" for column in added)
        pieces.append(f"SELECT {ours}, * FROM {alias}.main.{sql.name(table)}")
    connection.execute(f"CREATE VIEW {sql.name(view)} AS {' UNION ALL BY NAME '.join(pieces)}")
    comment = next(iter(having.values())).comment
    connection.execute(f"COMMENT ON VIEW {sql.name(view)} IS {sql.literal(comment)}")
    for column, words in {titles[c]: _COMMENTS[c] for c in added}.items() | own.items():
        connection.execute(f"COMMENT ON COLUMN {sql.name(view)}.{sql.name(column)} IS {sql.literal(words)}")


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"run_{name}"
    return name
