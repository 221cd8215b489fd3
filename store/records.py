"""The plain values that go into the store and come out of it. Nothing here touches a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import pyarrow as pa

Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains"]
OPS: tuple[str, ...] = get_args(Op)
Status = Literal["sealed", "missing", "unreadable", "duplicate"]


@dataclass(frozen=True)
class TableLayout:
    """How one table of a run is sealed: its types, its words and the order of its rows."""

    name: str
    comment: str
    columns: Mapping[str, str]
    """Column name to its comment; exactly the names of ``schema``."""
    schema: pa.Schema
    order: tuple[str, ...] = ()
    """Columns the sealed rows are sorted by; the order of committing where empty."""
    summary: bool = False
    """Small (per layer or per run): its rows are copied into the catalogue, so that lists need not open the file."""


@dataclass(frozen=True)
class RunInfo:
    """One run as the catalogue knows it."""

    id: str
    """``<key>-<attempt>``; where the file cannot be read, its name."""
    key: str
    attempt: int
    slug: str
    version: int
    model: str
    data: str | None
    config: Mapping[str, Any]
    status: Status
    words: str
    """Why a run is not simply there: its file is gone, cannot be read, or doubles another. Empty for sealed runs."""
    started: datetime
    finished: datetime
    """Both UTC, with their time zone."""
    seconds: float
    """Time spent working, all sessions of the attempt together."""
    path: Path
    size: int
    """Of the sealed file and the files kept beside it, in bytes."""
    current: bool
    """Whether this is the attempt that counts for its key: the newest sealed one."""
    rows: Mapping[str, int]
    """Number of rows of every table."""
    provenance: Mapping[str, Any] = field(repr=False)
    summaries: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)
    """Rows of the small tables, by table name."""


@dataclass(frozen=True)
class Filter:
    """One condition on a column of a stored table.

    ``=`` and ``!=`` with None ask for missing and present values; ``!=`` keeps rows whose value is missing. ``in`` takes
    a sequence. ``contains`` looks for a piece of text, upper and lower case alike, or for a member of a list.
    """

    column: str
    op: Op
    value: Any


@dataclass(frozen=True)
class Order:
    """One column to sort by; missing values come last either way."""

    column: str
    descending: bool = False


@dataclass(frozen=True)
class Lookup:
    """Columns that another table of the same run has for a row: at most one row there may fit the keys and conditions."""

    table: str
    on: tuple[str, ...]
    """Key columns, by the same names in both tables."""
    columns: tuple[tuple[str, str], ...]
    """Pairs of a column's name there and its name here; one that is there already is replaced. NULL where no row fits."""
    where: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """A column made by dividing two others; NULL where the divisor is 0. One that is there already is replaced."""

    name: str
    numerator: str
    denominator: str
    comment: str = ""


@dataclass(frozen=True)
class Case:
    """A column of labels: that of the first branch whose conditions all hold. One that is there already is replaced."""

    name: str
    branches: tuple[tuple[tuple[Filter, ...], str], ...]
    otherwise: str
    comment: str = ""


Derived = Lookup | Ratio | Case
"""A step that adds or replaces columns of a table for one question; steps are taken in order, each sees the ones before."""


@dataclass(frozen=True)
class ColumnInfo:
    """A column as the sealed file itself describes it."""

    name: str
    type: str
    """DuckDB's name of the type, e.g. ``BIGINT`` or ``DOUBLE[]``."""
    comment: str
    optional: bool


@dataclass(frozen=True)
class TableInfo:
    """A table as the sealed file itself describes it."""

    name: str
    comment: str
    rows: int
    columns: tuple[ColumnInfo, ...]


def to_json(value: Any) -> str:
    """``value`` as JSON text; numpy scalars and arrays, paths, times and sets become what they stand for."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")
