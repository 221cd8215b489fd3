"""Reading sealed runs: hardened read-only connections, pooled, and queries made of checked names and bound values.

A file is attached to an in-memory database of its own, which is then locked down: no file system, no extensions, no
settings. So another program in this process may open the same file with other settings. A connection is only ever used
through `.cursor()`: threads that share one without it get each other's answers.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import sql
from store.attaching import attach, cannot_open, counted, harden, open_memory
from store.derive import PLACE, Source, source, stored
from store.errors import StoreError
from store.records import OPS, ColumnInfo, Derived, Filter, Order, TableInfo

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

ALIAS = "sealed"
MEMORY_EACH = "512MB"
OPEN_FILES = 16
"""Sealed files kept open per process; the one unused longest is closed first."""


@dataclass(frozen=True)
class _Open:
    connection: duckdb.DuckDBPyConnection
    tables: Mapping[str, TableInfo]
    memo: dict[Any, Any] = field(default_factory=dict)
    """What queries found out about the file once, such as the order of its rows."""


_ABANDONED: list[object] = []
"""Connections a forked child has inherited. Their threads stayed behind: they can be neither used nor closed there."""


class Pool:
    """The sealed files this process has open, the least recently used closed first. Safe to use from any thread."""

    def __init__(self, capacity: int = OPEN_FILES) -> None:
        self._capacity = capacity
        self._mutex = threading.Lock()
        self._open: OrderedDict[tuple[str, int, int, int], _Open] = OrderedDict()
        self._process = os.getpid()

    @contextmanager
    def reader(self, path: Path) -> Iterator[Reader]:
        """A reader of one file with a cursor of its own. Any failure of DuckDB in the block becomes a sentence."""
        import duckdb

        cursor, one = self._cursor(path)
        try:
            yield Reader(path, cursor, one.tables, one.memo)
        except (duckdb.IOException, duckdb.InternalError, duckdb.SerializationException) as error:
            raise StoreError(cannot_open(path, str(error))) from error
        except duckdb.Error as error:
            first = str(error).splitlines()[0].rstrip(".")
            raise StoreError(f"{path.name} must be able to answer this query, got {first}; correct the query.") from error
        finally:
            cursor.close()

    def _cursor(self, path: Path) -> tuple[duckdb.DuckDBPyConnection, _Open]:
        """A cursor is made under the mutex. No connection is ever closed by hand, which would end the cursors that other threads have of
        it: forgotten here, it and its file are closed with the last of them."""
        try:
            seen = path.stat()
        except OSError as error:
            raise StoreError(f"{path} must be a sealed run, got {error.strerror}; list the runs that are there.") from error
        key = (os.path.realpath(path), seen.st_ino, seen.st_size, seen.st_mtime_ns)
        with self._mutex:
            if self._process != os.getpid():
                _ABANDONED.append(self._open)
                self._open, self._process = OrderedDict(), os.getpid()
            if key not in self._open:
                self._open[key] = _open(path)
            self._open.move_to_end(key)
            while len(self._open) > self._capacity:
                self._open.popitem(last=False)
            one = self._open[key]
            return one.connection.cursor(), one

    def close(self) -> None:
        """Close every file."""
        with self._mutex:
            self._open.clear()


def _open(path: Path) -> _Open:
    connection = open_memory(MEMORY_EACH)
    with ExitStack() as undo:
        undo.callback(connection.close)
        tables = counted(connection, ALIAS, attach(connection, {ALIAS: path})[ALIAS])
        harden(connection)
        undo.pop_all()
    return _Open(connection, tables)


class Reader:
    """Questions to one sealed file, through one cursor."""

    def __init__(
        self, path: Path, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, TableInfo], memo: dict[Any, Any] | None = None
    ) -> None:
        self.path = path
        self.tables = tables
        self.memo: dict[Any, Any] = {} if memo is None else memo
        self._cursor = cursor

    def table(self, name: str) -> TableInfo:
        """The table of that name, or a sentence that lists those there are."""
        if name not in self.tables:
            raise StoreError(f"the table must be one of {', '.join(self.tables)}, got {name!r}; choose one of {self.path.name}'s.")
        return self.tables[name]

    def ask(self, text: str, values: Sequence[Any]) -> pa.Table:
        """The answer to a query as Arrow; only `store` makes queries."""
        return self._cursor.sql(text, params=list(values)).to_arrow_table()

    def rows(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        where: Sequence[Filter] = (),
        order_by: Sequence[Order | str] = (),
        limit: int | None = None,
        offset: int = 0,
        derive: Sequence[Derived] = (),
    ) -> pa.Table:
        """Rows as Arrow. With ``order_by``, ties are in stored order, so that pages neither overlap nor leave gaps."""
        made = source(self, table, derive) if derive else Source(stored(table), (), self.table(table))
        info, known, place = made.info, made.known, sql.name(PLACE) if derive else "rowid"
        wanted = [checked(info, known, name).name for name in (columns or known)]
        condition, values = conditions(info, known, where)
        text = f"SELECT {', '.join(map(sql.name, wanted))} FROM {made.text}{condition}"
        if order_by:
            orders = [Order(one) if isinstance(one, str) else one for one in order_by]
            terms = [f"{sql.name(checked(info, known, o.column).name)} {'DESC' if o.descending else 'ASC'} NULLS LAST" for o in orders]
            text += f" ORDER BY {', '.join(terms)}, {place}"
        elif derive:
            text += f" ORDER BY {place}"  # a join keeps no order of its own
        return self.ask(text + _page(limit, offset), [*made.values, *values])

    def count(self, table: str, where: Sequence[Filter] = (), derive: Sequence[Derived] = ()) -> int:
        """How many rows fulfil all conditions."""
        if not where:
            return self.table(table).rows
        made = source(self, table, derive) if derive else Source(stored(table), (), self.table(table))
        condition, values = conditions(made.info, made.known, where)
        return self.ask(f"SELECT count(*) FROM {made.text}{condition}", [*made.values, *values])[0][0].as_py()


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Arrow to pandas, where whole numbers and truth values with gaps stay what they are instead of becoming floats."""
    import pandas as pd
    import pyarrow as pa

    nullable: dict[pa.DataType, Any] = {pa.bool_(): pd.BooleanDtype()}
    for bits in (8, 16, 32, 64):
        nullable[getattr(pa, f"int{bits}")()] = getattr(pd, f"Int{bits}Dtype")()
        nullable[getattr(pa, f"uint{bits}")()] = getattr(pd, f"UInt{bits}Dtype")()
    frame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and column.type in nullable:
            frame[name] = column.to_pandas(types_mapper=nullable.get)
    return frame


def _page(limit: int | None, offset: int) -> str:
    for what, value in (("limit", 0 if limit is None else limit), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise StoreError(f"{what} must be a whole number of rows, at least 0, got {value!r}; ask for a page that exists.")
    return (f" LIMIT {limit}" if limit is not None else "") + (f" OFFSET {offset}" if offset else "")


def checked(info: TableInfo, known: Mapping[str, ColumnInfo], name: str) -> ColumnInfo:
    """The column of that name, or a sentence that lists those there are."""
    if name not in known:
        raise StoreError(f"the column must be one of {', '.join(known)}, got {name!r}; choose one of table {info.name}'s.")
    return known[name]


def conditions(info: TableInfo, known: Mapping[str, ColumnInfo], filters: Sequence[Filter]) -> tuple[str, list[Any]]:
    """All filters as one WHERE clause with placeholders (empty without filters), and the values for them."""
    terms: list[str] = []
    values: list[Any] = []
    for one in filters:
        term, bound = _condition(checked(info, known, one.column), one)
        terms.append(term)
        values += bound
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), values


def _condition(column: ColumnInfo, one: Filter) -> tuple[str, list[Any]]:
    """One filter as SQL with placeholders, and the values for them."""
    name = sql.name(column.name)
    # Bound values take part in DuckDB's casts; next to text they must be text, or the column would be cast to a number.
    mark = "CAST(? AS VARCHAR)" if column.type.startswith("VARCHAR") else "?"
    if one.op not in OPS:
        raise StoreError(f"a comparison must be one of {', '.join(OPS)}, got {one.op!r}; choose one of them.")
    if one.op == "in":
        values = [_bound(value) for value in one.value]
        return (f"{name} IN ({', '.join([mark] * len(values))})", values) if values else ("false", [])
    value = _bound(one.value)
    if value is None:
        if one.op not in ("=", "!="):
            raise StoreError(f"{column.name} {one.op} must have a value to compare with, got None; use = or != to ask for missing values.")
        return f"{name} IS {'' if one.op == '=' else 'NOT '}NULL", []
    if one.op == "contains":
        if column.type.endswith("]"):
            return f"list_contains({name}, {mark})", [value]
        return f"contains(lower(CAST({name} AS VARCHAR)), lower(CAST(? AS VARCHAR)))", [value]
    operator = "IS DISTINCT FROM" if one.op == "!=" else one.op
    return f"{name} {operator} {mark}", [value]


def _bound(value: Any) -> Any:
    """A value DuckDB can bind: numpy's scalars as Python's."""
    return value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value
