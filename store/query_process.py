"""The process that answers one query: reads a `store.query.Request`, writes a line of JSON and then the rows as an Arrow stream."""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from store.errors import StoreError
from store.query import ANSWER_BYTES, QueryError, Request

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BATCH = 1024


def main() -> int:
    """Answer what standard input asks."""
    request: Request = pickle.load(sys.stdin.buffer)  # written by the process that started this one
    limit(request)
    out = sys.stdout.buffer
    try:
        table, more = answer(request)
    except StoreError as error:
        out.write(json.dumps({"error": str(error), "detail": getattr(error, "detail", "")}).encode() + b"\n")
        return 0
    out.write(json.dumps({"more": more}).encode() + b"\n")
    _write(table, out)
    return 0


def limit(request: Request) -> None:
    """Bound what this process can take of the machine, for the case that nobody is left to end it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default ends the process, whatever a library is doing
    signal.alarm(math.ceil(request.seconds) + 2)
    os.nice(5)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    memory = 3 * request.memory_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def answer(request: Request) -> tuple[pa.Table, bool]:
    """The rows up to the limits, and whether there were more. Raises `StoreError` with a sentence."""
    import duckdb

    from store.union import connect

    with connect(request.runs, memory=f"{request.memory_mb}MB") as connection:
        try:
            check(connection, request.text)
            return _rows(connection, request.text, request.rows)
        except (duckdb.Error, MemoryError, OSError) as error:  # what fails while rows are read comes through Arrow, as an OSError
            if isinstance(error, MemoryError) or "Out of Memory" in str(error):
                raise QueryError(
                    f"a query must get by with {request.memory_mb:,} MB of memory, got one that needs more; filter or aggregate earlier, "
                    "or ask for fewer columns.",
                    str(error),
                ) from error
            raise _refused(error) from error


def check(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Let a single statement through that only asks. Raises `QueryError`, or DuckDB's own error where it cannot be read."""
    import duckdb

    statements = connection.extract_statements(text)  # the module's own would open a second database in the little memory there is
    if len(statements) != 1:
        raise QueryError(f"a query must be one statement, got {len(statements)}; ask them one after the other.")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        name = "a PIVOT that lists no values" if kind == duckdb.StatementType.MULTI else kind.name
        raise QueryError(f"a query must be a SELECT (or WITH, FROM, VALUES, SUMMARIZE, DESCRIBE, SHOW), got {name}; ask with one of them.")


def _refused(error: Exception) -> QueryError:
    whole = str(error)
    first = whole.splitlines()[0].rstrip(" .!")
    return QueryError(f"a query must be one that DuckDB can answer, got {first}; correct it.", whole)


def _rows(connection: duckdb.DuckDBPyConnection, text: str, rows: int) -> tuple[pa.Table, bool]:
    """Read as they come, so that an endless answer stops at the limit instead of being made in memory first."""
    import pyarrow as pa

    reader = connection.sql(text).to_arrow_reader(_BATCH)
    batches, n_rows, n_bytes = [], 0, 0
    for batch in reader:
        batches.append(batch)
        n_rows, n_bytes = n_rows + batch.num_rows, n_bytes + batch.nbytes
        if n_rows > rows or n_bytes > ANSWER_BYTES:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    fits = min(rows, n_rows if n_bytes <= ANSWER_BYTES else int(n_rows * ANSWER_BYTES / n_bytes))
    return _plain(table.slice(0, fits)), n_rows > fits


def _plain(table: pa.Table) -> pa.Table:
    """Names told apart, and decimals as numbers that everybody can draw: sums of whole numbers stay whole where 64 bits hold them."""
    import pyarrow as pa

    names: list[str] = []
    columns: list[Any] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        names.append(_new(name, names))
        if pa.types.is_decimal(column.type):
            column = _number(column)
        elif pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns.append(column)
    return pa.table(columns, names=names)


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if column.type.scale == 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits
            pass
    return column.cast(pa.float64())


def _new(name: str, taken: list[str]) -> str:
    made, number = name, 2
    while made in taken:
        made, number = f"{name} ({number})", number + 1
    return made


def _write(table: pa.Table, out: Any) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)


if __name__ == "__main__":
    sys.exit(main())
