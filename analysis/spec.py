"""How a question is declared: config, inputs, tables, figures and the generator that answers it.

An `Analysis` is a value, not a class to inherit from. From this one declaration come the form, the command-line flags,
the run key, the column comments in DuckDB, the page, the glossary entry and the contract tests; nothing is typed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from analysis.settings import BadConfig, Setting, UnknownName, UserError, make_config, setting, settings_of
from figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Analysis", "BadConfig", "BadRows", "Column", "ColumnType", "EVIDENCE_WORDS", "Evidence", "Figure", "Headline", "IncompatibleSubject",
    "Kind", "Setting", "Source", "Stripe", "Summaries", "Table", "Takes", "UnknownName", "UserError", "make_config", "setting",
    "settings_of",
]  # fmt: skip

ColumnType = Literal["int", "float", "str", "bool", "list[int]", "list[float]", "list[str]"]
Kind = Literal["static", "dynamic", "causal"]
Evidence = Literal["C", "3", "K", "O"]
Takes = Literal["checkpoint", "series"]

EVIDENCE_WORDS: Mapping[str, str] = {
    "C": "definition read in the official code",
    "3": "definition read in the paper's text or a third-party implementation",
    "K": "unverified definition",
    "O": "our own definition",
}


def _arrow_type(column: ColumnType) -> pa.DataType:
    import pyarrow as pa

    plain = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
    return pa.list_(plain[column[5:-1]]) if column.startswith("list") else plain[column]


class IncompatibleSubject(UserError):
    """This analysis cannot be run on this subject; the text says why."""


class BadRows(Exception):
    """An analysis yielded rows its declaration does not allow: a fault of the analysis, not of the user."""


# ---------------------------------------------------------------------------------------------------------------------
# Tables


@dataclass(frozen=True)
class Column:
    """A column: type, unit, meaning and range. The comment in DuckDB and the heading on the page are made of these."""

    name: str
    type: ColumnType
    meaning: str
    unit: str = ""
    range: tuple[float, float] | None = None
    optional: bool = False
    """May be NULL; `meaning` then says when."""
    evidence: Evidence | None = None

    @property
    def comment(self) -> str:
        """Meaning, unit, range and evidence as one line, for ``COMMENT ON COLUMN``."""
        parts = [self.meaning.rstrip(".")]
        if self.unit:
            parts.append(f"unit: {self.unit}")
        if self.range:
            parts.append(f"range: {self.range[0]:g} to {self.range[1]:g}")
        if self.evidence:
            parts.append(EVIDENCE_WORDS[self.evidence])
        return "; ".join(parts)


@dataclass(frozen=True)
class Table:
    """A table of results: its key and its columns. Key columns identify a row and are never NULL."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    summary: bool = False
    """Small (per layer or per run): copied into the catalogue when the run is sealed."""
    order: tuple[str, ...] = ()
    """Columns the sealed table is sorted by; the key where empty."""

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of this table's parts."""
        import pyarrow as pa

        return pa.schema([pa.field(c.name, _arrow_type(c.type), nullable=c.optional) for c in self.columns])

    def arrow(self, rows: Mapping[str, Any]) -> pa.Table:
        """Rows (a mapping of column name to equally long values) as a checked Arrow table.

        Raises `BadRows` for a missing or undeclared column, a NULL where none may be, a NaN (which is never a
        result: use None and say why), or a value outside the declared range.
        """
        import pyarrow as pa

        given, wanted = set(rows), {c.name for c in self.columns}
        if given != wanted:
            raise BadRows(f"table {self.name}: missing {sorted(wanted - given)}, undeclared {sorted(given - wanted)}")
        arrays = []
        for column in self.columns:
            values = rows[column.name]
            kind = _arrow_type(column.type)
            array = values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)
            _check_column(self.name, column, array)
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.arrow_schema)


def _check_column(table: str, column: Column, array: pa.Array) -> None:
    from typing import cast

    import pyarrow as pa
    import pyarrow.compute

    pc = cast(Any, pyarrow.compute)  # its functions are made at import time, so the type checker does not see them

    where = f"table {table}, column {column.name}"
    if array.null_count and not column.optional:
        raise BadRows(f"{where}: {array.null_count} NULLs, but the column is not optional")
    flat = array.flatten() if pa.types.is_list(array.type) else array
    if not len(flat) or flat.null_count == len(flat):
        return
    if pa.types.is_floating(flat.type) and pc.any(pc.is_nan(flat)).as_py():
        raise BadRows(f"{where}: NaN; a value that could not be had is NULL with a reason")
    if column.range is not None:
        low, high = pc.min(flat).as_py(), pc.max(flat).as_py()
        slack = 1e-9 * max(1.0, abs(column.range[0]), abs(column.range[1])) if column.type != "int" else 0
        if low < column.range[0] - slack or high > column.range[1] + slack:
            raise BadRows(f"{where}: values from {low!r} to {high!r}, declared {column.range}")


# ---------------------------------------------------------------------------------------------------------------------
# Figures and analyses


@dataclass(frozen=True)
class Figure:
    """A figure of an analysis: which stored columns it reads, and the pure function that turns them into a spec."""

    slug: str
    title: str
    table: str
    draw: Callable[[Any, Mapping[str, Any]], FigureSpec]
    """From the table's stored rows and the run's provenance to a spec. Never sees a model."""
    columns: tuple[str, ...] = ()
    """Columns to read; all of them where empty."""


Summaries = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of a run's summary tables, by table: what the catalogue keeps, so that home opens no sealed file."""


@dataclass(frozen=True)
class Headline:
    """One number on a model's card, never without what it was counted over."""

    label: str
    share: float
    """Range: 0 to 1; shown in per cent."""
    over: str
    """The denominator and n in words, as a sentence."""


@dataclass(frozen=True)
class Stripe:
    """One row of a model's bar code: a number per layer, on a scale that is the same for every model."""

    label: str
    meaning: str
    """What it is and its denominator, as the legend prints it."""
    low: float
    high: float
    """Ends of the colour scale; values beyond them get the end's colour."""
    values: Callable[[Summaries], Mapping[int, float]]
    """From the summaries to a value per layer; layers without one are left out."""
    log: bool = False
    """Whether the scale is logarithmic: for what is small in most models."""
    unit: str = "share"
    """``share`` (shown in per cent), or empty for an index."""


@dataclass(frozen=True)
class Source:
    """Where a definition comes from."""

    title: str
    reference: str
    """Authors, venue, year, identifier; or the decision record for our own."""
    evidence: Evidence


@dataclass(frozen=True)
class Analysis:
    """A question about a model, declared.

    ``run(config, inputs, work)`` is a generator of ``(table name, rows)``; it draws nothing and never opens the store.
    ``inputs`` maps the declared input names to loaded subjects; ``work`` (see `analysis.runner.Work`) hands out the
    units still to do, keeps accumulator states, and reports progress.
    """

    slug: str
    title: str
    question: str
    """The question in one sentence, as home and forms print it."""
    version: int
    """Raised by one whenever numbers change meaning."""
    kind: Kind
    """static: reads weights only; dynamic: needs a forward pass; causal: needs interventions."""
    sources: tuple[Source, ...]
    config: type
    tables: tuple[Table, ...]
    run: Callable[[Any, Mapping[str, Any], Any], Iterator[tuple[str, Mapping[str, Any]]]]
    figures: tuple[Figure, ...]
    needs: Callable[[Any], str | None] = lambda subject: None
    """None, or the sentence saying why this subject cannot answer the question."""
    inputs: tuple[str, ...] = ("model",)
    takes: Takes = "checkpoint"
    """What each input is: one checkpoint, or a folder of checkpoints of one model."""
    memory: Callable[[Any, Mapping[str, Any]], int] | None = None
    """Bytes needed beside the loaded weights, from config and the subject's facts; None for the rule in `analysis.jobs.memory`.

    A static analysis is asked before anything is opened, too: then the facts hold ``n_parameters`` alone."""
    cells: Callable[[Any, Mapping[str, Any]], AbstractContextManager[Callable[[str, Callable[[float], None]], Any]]] | None = None
    """Where its costly units can be computed apart from one another: from config and inputs to the function of one cell, as a worker
    process holds it (`analysis.executors`). A cell's value depends on its name, the config and the inputs alone. None: one process."""
    headlines: Callable[[Summaries], tuple[Headline, ...]] = lambda summaries: ()
    """The few numbers that stand on a model's card. A summary table the run does not have is missing: say less then."""
    stripes: tuple[Stripe, ...] = ()
    """Its rows of a model's bar code."""

    def table(self, name: str) -> Table:
        """The declared table of that name."""
        for t in self.tables:
            if t.name == name:
                return t
        raise UnknownName(f"{self.slug} has no table {name!r}; its tables are {', '.join(t.name for t in self.tables)}.")

    def figure(self, slug: str) -> Figure:
        """The declared figure of that slug."""
        for f in self.figures:
            if f.slug == slug:
                return f
        raise UnknownName(f"{self.slug} has no figure {slug!r}; its figures are {', '.join(f.slug for f in self.figures)}.")

    def why_not(self, subject: Any) -> str | None:
        """None, or the sentence why this subject cannot answer: it is a series (or is none), or `needs` says so."""
        steps = getattr(subject, "series", ())
        return self.wrong_shape(subject.label, [one.name for one in steps]) or self.needs(subject)

    def wrong_shape(self, label: str, checkpoints: Sequence[str]) -> str | None:
        """The sentence where one checkpoint is asked for and a series of these given, or the other way round; None where it fits."""
        if self.takes == "checkpoint" and checkpoints:
            return (
                f"{self.slug} must be asked of one checkpoint, got {label}, a series of {len(checkpoints)}; "
                f"name one of its checkpoints, for example {checkpoints[-1]}."
            )
        if self.takes == "series" and not checkpoints:
            return (
                f"{self.slug} must be asked of a series, got {label}, which is one checkpoint; "
                "name a folder that holds its checkpoints, each with its step in its name (step_100, step_200)."
            )
        return None

    @property
    def reads_data(self) -> bool:
        """Whether the data's fingerprint is part of the run key."""
        return self.kind != "static"
