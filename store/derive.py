"""Queries beyond plain rows: columns made for one question, and aggregates. Names are checked, values are bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from store import sql
from store.errors import StoreError
from store.records import Case, ColumnInfo, Derived, Filter, Lookup, Ratio, TableInfo

if TYPE_CHECKING:
    import pyarrow as pa

    from store.reading import Reader

PLACE = "#place"
"""The stored position of a row, kept through every step: ties are in stored order."""


@dataclass(frozen=True)
class Source:
    """What comes behind FROM, the values its placeholders stand for, and its columns."""

    text: str
    values: tuple[Any, ...]
    info: TableInfo
    in_order: bool = True
    """Whether its rows come in stored order by themselves."""

    @property
    def known(self) -> dict[str, ColumnInfo]:
        """The columns by name."""
        return {column.name: column for column in self.info.columns}


def source(reader: Reader, table: str, derive: Sequence[Derived]) -> Source:
    """A table with the columns of every step."""
    info = reader.table(table)
    found = Source(f'(SELECT *, rowid AS "{PLACE}" FROM {stored(table)})', (), info)
    for step in derive:
        if isinstance(step, Lookup):
            found = _lookup(reader, found, step)
        elif isinstance(step, Ratio):
            found = _ratio(found, step)
        else:
            found = _case(found, step)
    return found


def stored(table: str) -> str:
    """A table of the sealed file as SQL names it."""
    from store.reading import ALIAS

    return f"{ALIAS}.main.{sql.name(table)}"


def _lookup(reader: Reader, before: Source, step: Lookup) -> Source:
    from store.reading import checked, conditions

    there = reader.table(step.table)
    known = {column.name: column for column in there.columns}
    wanted = [(checked(there, known, name), here) for name, here in step.columns]
    if not wanted or not step.on:
        raise StoreError(f"a lookup must name keys and columns, got none; name those of table {step.table}.")
    condition, values = conditions(there, known, step.where)
    for key in step.on:
        checked(there, known, key)
        checked(before.info, before.known, key)
    keys = [sql.name(key) for key in step.on]
    names = ", ".join(f"{sql.name(column.name)} AS {sql.name(f'there {i}')}" for i, (column, _) in enumerate(wanted))
    joined = " AND ".join(f"b.{key} = l.{key}" for key in keys)
    columns = {here: (f"l.{sql.name(f'there {i}')}", ColumnInfo(here, c.type, c.comment, True)) for i, (c, here) in enumerate(wanted)}
    in_order = before.in_order and _side_by_side(reader, before.info.name, step, joined, condition, values)
    if in_order:
        origin = f"{before.text} b POSITIONAL JOIN (SELECT {names} FROM {stored(step.table)}{condition}) l"
    else:
        origin = f"{before.text} b LEFT JOIN (SELECT {', '.join(keys)}, {names} FROM {stored(step.table)}{condition}) l ON {joined}"
    return replace(_with(before, origin, columns, (*before.values, *values), "b."), in_order=in_order)


def _side_by_side(reader: Reader, table: str, step: Lookup, joined: str, condition: str, values: Sequence[Any]) -> bool:
    """Whether row i of the table has its match in row i of what is looked up, for every row.

    Then the rows need no search, which takes ten times as long. Sealed files never change, so every file is checked once.
    """
    question = (table, step)
    if question not in reader.memo:
        keys = ", ".join(map(sql.name, step.on))
        looked_up = f"(SELECT {keys} FROM {stored(step.table)}{condition})"
        text = (
            f"SELECT coalesce(bool_and(coalesce({joined}, false)), false) "
            f"FROM (SELECT {keys} FROM {stored(table)}) b POSITIONAL JOIN {looked_up} l"
        )
        reader.memo[question] = bool(reader.ask(text, values)[0][0].as_py())
    return reader.memo[question]


def _ratio(before: Source, step: Ratio) -> Source:
    from store.reading import checked

    over, under = (sql.name(checked(before.info, before.known, name).name) for name in (step.numerator, step.denominator))
    column = ColumnInfo(step.name, "DOUBLE", step.comment, True)
    return _with(before, before.text, {step.name: (f"CAST({over} AS DOUBLE) / nullif({under}, 0)", column)}, before.values)


def _case(before: Source, step: Case) -> Source:
    from store.reading import conditions

    text, values = "CASE", []
    for filters, label in step.branches:
        condition, bound = conditions(before.info, before.known, filters)
        if not condition:
            raise StoreError(f"a branch of {step.name} must have a condition, got none for {label!r}; make it the last label.")
        text += f" WHEN {condition.removeprefix(' WHERE ')} THEN ?"
        values += [*bound, label]
    column = ColumnInfo(step.name, "VARCHAR", step.comment, False)
    return _with(before, before.text, {step.name: (f"{text} ELSE ? END", column)}, (*values, step.otherwise, *before.values))


def _with(before: Source, origin: str, made: Mapping[str, tuple[str, ColumnInfo]], values: Sequence[Any], prefix: str = "") -> Source:
    """``before`` with columns replaced where there are some of that name, else added behind."""
    known = before.known
    replaced = ", ".join(f"{text} AS {sql.name(name)}" for name, (text, _) in made.items() if name in known)
    added = "".join(f", {text} AS {sql.name(name)}" for name, (text, _) in made.items() if name not in known)
    text = f"(SELECT {prefix}*{f' REPLACE ({replaced})' if replaced else ''}{added} FROM {origin})"
    columns = {name: column for name, column in known.items()} | {name: column for name, (_, column) in made.items()}
    info = TableInfo(before.info.name, before.info.comment, before.info.rows, tuple(columns.values()))
    return Source(text, tuple(values), info, before.in_order)


# ---------------------------------------------------------------------------------------------------------------------


def grouped(reader: Reader, table: str, by: Sequence[str], where: Sequence[Filter], derive: Sequence[Derived]) -> pa.Table:
    """Rows per combination of ``by``."""
    from store.reading import checked, conditions

    made = source(reader, table, derive)
    names = ", ".join(sql.name(checked(made.info, made.known, name).name) for name in by)
    condition, values = conditions(made.info, made.known, where)
    text = f"SELECT {names}, count(*) AS n_rows FROM {made.text}{condition} GROUP BY {names} ORDER BY {names}"
    return reader.ask(text, [*made.values, *values])


def limits(
    reader: Reader, table: str, columns: Sequence[str], where: Sequence[Filter], derive: Sequence[Derived]
) -> dict[str, tuple[float, float] | None]:
    """Smallest and largest value per column."""
    from store.reading import checked, conditions

    made = source(reader, table, derive)
    names = [sql.name(checked(made.info, made.known, name).name) for name in columns]
    condition, values = conditions(made.info, made.known, where)
    text = f"SELECT {', '.join(f'min({n}), max({n})' for n in names)} FROM {made.text}{condition}"
    row = [column[0].as_py() for column in reader.ask(text, [*made.values, *values]).columns]
    pairs = zip(row[::2], row[1::2], strict=True)
    return {name: None if low is None else (low, high) for name, (low, high) in zip(columns, pairs, strict=True)}


def cells(
    reader: Reader,
    table: str,
    axes: tuple[str, str],
    columns: Sequence[str],
    log_x: bool,
    shape: tuple[int, int],
    where: Sequence[Filter],
    derive: Sequence[Derived],
) -> pa.Table:
    """The first row of every occupied cell, and how many rows share it."""
    from store.reading import checked, conditions

    made = source(reader, table, derive)
    names = [sql.name(checked(made.info, made.known, name).name) for name in dict.fromkeys((*axes, *columns))]
    x, y = names[:2]
    condition, values = conditions(made.info, made.known, [*where, *(Filter(axis, "!=", None) for axis in axes)])
    place, at = sql.name(PLACE), f"CASE WHEN {x} > 0 THEN log10({x}) END" if log_x else x
    text = (
        f"WITH placed AS (SELECT {x}, {y}, {place}, {at} AS gx FROM {made.text}{condition}), "
        f"ends AS (SELECT min(gx) AS x0, max(gx) AS x1, min({y}) AS y0, max({y}) AS y1 FROM placed), "
        f"first AS (SELECT min({place}) AS place, count(*) AS n_rows FROM placed, ends "
        f"GROUP BY coalesce({_cell('gx', 'x', shape[0])}, -1) * {int(shape[1]) + 1} + coalesce({_cell(y, 'y', shape[1])}, -1)) "
        f"SELECT {', '.join(names)}, n_rows FROM {made.text} AS made JOIN first ON made.{place} = first.place ORDER BY first.place"
    )
    return reader.ask(text, [*made.values, *values, *made.values])


def _cell(value: str, axis: str, n: int) -> str:
    """The number of the cell along one axis; NULL where there is no place."""
    return f"least({int(n) - 1}, CAST(floor({int(n)} * ({value} - {axis}0) / nullif({axis}1 - {axis}0, 0)) AS BIGINT))"
