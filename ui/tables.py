"""A stored table on the page: filtered, sorted and paged by the database, with units in the headings.

All that defines the view (table, page, rows, sorting, filter) is in the address, so a copied link shows the same rows.
Headings and their explanations come from the comments in the sealed file itself, so a table needs no registered analysis.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from figures.words import visible
from store import ColumnInfo, Filter, Order, RunInfo, TableInfo
from store.records import Op
from ui import data
from ui.controls import PAGE_SIZES
from ui.paging import asked_page, first_page
from ui.python import as_python
from ui.words import count, plain

if TYPE_CHECKING:
    import pandas as pd

CONDITIONS: dict[str, str] = {
    "is": "=",
    "is not": "!=",
    "contains": "contains",
    "at least": ">=",
    "at most": "<=",
    "above": ">",
    "below": "<",
    "is missing": "missing",
    "is present": "present",
}
_TEXT_CONDITIONS = ("is", "is not", "contains", "is missing", "is present")
_NUMBER_CONDITIONS = tuple(words for words in CONDITIONS if words != "contains")
_BOOL_CONDITIONS = ("is", "is not", "is missing", "is present")
_LIST_CONDITIONS = ("contains", "is missing", "is present")
_NUMBERED = 7
"""Pages that can each be clicked; where there are more, one can also be typed."""
_TALL = 860
"""Pixels for a table longer than the smallest page; it scrolls within."""
_CSV_LIMIT = 1_000_000
"""Rows of a table that one CSV file may hold; more is for DuckDB or Python, as the page says."""


class BadFilter(Exception):
    """What was typed as a filter is not a value of that column; the text says what would be."""


@dataclass(frozen=True)
class View:
    """Which rows of a table are shown."""

    where: tuple[Filter, ...] = ()
    order_by: tuple[Order, ...] = ()
    limit: int = PAGE_SIZES[0]
    page: int = 1

    @property
    def offset(self) -> int:
        """Rows before the first one shown."""
        return (self.page - 1) * self.limit


def paged_tables(run: RunInfo) -> None:
    """The tables of a run, one at a time."""
    infos = {info.name: info for info in data.tables(run)}
    if not infos:
        st.info("This run holds no tables.", icon=":material/table:")
        return
    name = st.segmented_control(
        "Table", list(infos), default=next(iter(infos)), required=True, key="table", bind="query-params", on_change=_start_over
    )
    paged_table(run, infos[name])


def paged_table(run: RunInfo, info: TableInfo) -> None:
    """One table: what it is, its filter and sorting, one page of its rows, and ways to take it along."""
    st.markdown(plain(info.comment))
    try:
        view = _controls(info)
    except BadFilter as error:
        st.warning(plain(error), icon=":material/filter_alt:")
        return
    found = data.count(run, info.name, view.where)
    if not found:
        st.info(_nothing(info, view), icon=":material/filter_alt:")
        return
    n_pages = -(-found // view.limit)
    shown = View(view.where, view.order_by, view.limit, min(asked_page(), n_pages))
    frame = data.rows(run, info.name, where=shown.where, order_by=shown.order_by, limit=shown.limit, offset=shown.offset)
    words = _range_words(info, shown, found)
    st.dataframe(
        readable(frame, info),
        hide_index=True,
        column_config=column_config(info),
        height="content" if len(frame) <= PAGE_SIZES[0] else _TALL,
        placeholder="—",
        alt=f"{info.comment} {words}",
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(words)
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")
        if n_pages > _NUMBERED:
            st.number_input("Go to page", 1, n_pages, None, key="go_to", on_change=_go_to_page, placeholder=f"of {n_pages:,}", width=150)
        take_along(run, info, shown, found)


def column_config(info: TableInfo) -> dict[str, Any]:
    """Headings with units, meanings as help, and a readable format for every type."""
    return {column.name: _configured(column) for column in info.columns}


def readable(frame: pd.DataFrame, info: TableInfo) -> pd.DataFrame:
    """The frame with line ends, control characters and outer spaces of its texts made visible: tokens differ by them."""
    texts = {c.name: frame[c.name].map(shown_text, na_action="ignore") for c in info.columns if c.type == "VARCHAR"}
    return frame.assign(**texts)


def shown_text(text: str) -> str:
    """A text as a cell shows it: spaces at its ends as ``␣``, line ends as ``↵``; other blanks alone by their number."""
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - len(inner) - before if inner else 0
    shown = visible(inner)
    if not shown.strip():
        shown = "".join(f"\\u{ord(one):04x}" for one in shown)
    return "␣" * before + shown + "␣" * after


def heading(column: ColumnInfo) -> str:
    """A column's name with its unit: ``density (share of tokens)``."""
    unit = unit_of(column)
    return f"{column.name} ({unit})" if unit else column.name


def unit_of(column: ColumnInfo) -> str:
    """The unit in a column's comment (as `analysis.spec.Column.comment` writes it); empty where there is none."""
    match = re.search(r"; unit: (.*?)(?:; range: |; (?:unverified|our own) definition|; definition read in |$)", column.comment)
    return match[1] if match else ""


def conditions_for(column: ColumnInfo) -> Sequence[str]:
    """The conditions that make sense for a column of that type."""
    if column.type.endswith("[]"):
        return _LIST_CONDITIONS
    if column.type == "BOOLEAN":
        return _BOOL_CONDITIONS
    return _TEXT_CONDITIONS if column.type == "VARCHAR" else _NUMBER_CONDITIONS


def make_filter(column: ColumnInfo, condition: str, text: str) -> Filter:
    """The filter that the words and the typed text stand for. Raises `BadFilter` where the text is no value of the column."""
    op = CONDITIONS[condition]
    if op in ("missing", "present"):
        return Filter(column.name, "=" if op == "missing" else "!=", None)
    known: dict[str, Op] = {"=": "=", "!=": "!=", "contains": "contains", ">=": ">=", "<=": "<=", ">": ">", "<": "<"}
    return Filter(column.name, known[op], _parsed(column, text.strip()))


def take_along(run: RunInfo, info: TableInfo, view: View, found: int) -> None:
    """The whole filtered table as CSV, and the Python that loads it."""
    with st.popover("Get these rows", icon=":material/download:", type="tertiary"):
        if found <= _CSV_LIMIT:
            st.download_button(
                f"CSV, {count(found, 'row')}",
                data=lambda: data.rows(run, info.name, where=view.where, order_by=view.order_by).to_csv(index=False).encode(),
                file_name=f"{run.slug}-{info.name}.csv",
                mime="text/csv",
                key=f"csv-{info.name}",
                on_click="ignore",
            )
        else:
            st.caption(f"{found:,} rows are more than a CSV file should hold; load them in Python:")
        st.caption("In Python, from this folder:")
        lines = as_python(run, info.name, where=view.where, order_by=view.order_by, folder=data.store_folder())
        st.code(lines, language="python", wrap_lines=True)


# ---------------------------------------------------------------------------------------------------------------------


def _controls(info: TableInfo) -> View:
    """The widgets above a table. Their keys are their names in the address."""
    columns = {column.name: column for column in info.columns}
    sortable = [name for name, column in columns.items() if not column.type.endswith("[]")]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        sort = st.selectbox("Sort by", sortable, None, placeholder="stored order", key="sort", bind="query-params", on_change=first_page)
        order = st.selectbox("Order", ("ascending", "descending"), key="order", bind="query-params", disabled=sort is None)
        chosen = st.selectbox(
            "Only rows where", list(columns), None, placeholder="all rows", key="where", bind="query-params", on_change=first_page
        )
        where: tuple[Filter, ...] = ()
        if chosen is not None:
            where = _filter_controls(columns[chosen])
        limit = st.selectbox("Rows per page", PAGE_SIZES, key="rows", bind="query-params", on_change=first_page, width=120)
    order_by = (Order(sort, descending=order == "descending"),) if sort is not None else ()
    return View(where, order_by, limit)


def _filter_controls(column: ColumnInfo) -> tuple[Filter, ...]:
    condition = st.selectbox("Condition", conditions_for(column), key="is", bind="query-params", on_change=first_page)
    if condition.startswith("is ") and condition.endswith(("missing", "present")):
        return (make_filter(column, condition, ""),)
    text = st.text_input("Value", key="value", bind="query-params", on_change=first_page)
    return (make_filter(column, condition, text),) if text.strip() else ()


def _parsed(column: ColumnInfo, text: str) -> Any:
    kind = column.type.removesuffix("[]")
    try:
        if kind == "BOOLEAN":
            return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]
        if kind == "BIGINT":
            return int(text.replace(",", ""))
        return float(text) if kind == "DOUBLE" else text
    except (KeyError, ValueError) as error:
        wanted = {"BOOLEAN": "yes or no", "BIGINT": "a whole number"}.get(kind, "a number such as 0.25 or 1e-4")
        raise BadFilter(f"{column.name} must be compared with {wanted}, got {text!r}; type another value.") from error


def _configured(column: ColumnInfo) -> Any:
    label, explained = visible(heading(column)), plain(column.comment)  # headings are drawn as text, helps as Markdown
    if column.type == "BOOLEAN":
        return st.column_config.CheckboxColumn(label, help=explained)
    if column.type.endswith("[]"):
        return st.column_config.ListColumn(label, help=explained)
    if column.type == "BIGINT":
        # What is counted is grouped by thousands; a number of a layer or a neuron is a name.
        return st.column_config.NumberColumn(label, help=explained, format="localized" if unit_of(column) else "%d")
    if column.type == "DOUBLE":
        return st.column_config.NumberColumn(label, help=explained, format="%.4g")
    return st.column_config.TextColumn(label, help=explained)


def _nothing(info: TableInfo, view: View) -> str:
    if not view.where:
        return "This table has no rows: the analysis found nothing to report here."
    return f"None of the {count(info.rows, 'row')} meets this filter; loosen it or choose “all rows”."


def _range_words(info: TableInfo, view: View, found: int) -> str:
    last = min(view.offset + view.limit, found)
    of = count(found, "row") if found == info.rows else f"{count(found, 'row')} that meet the filter ({info.rows:,} in all)"
    return f"Rows {view.offset + 1:,} to {last:,} of {of}."


def _go_to_page() -> None:
    if st.session_state["go_to"] is not None:
        st.session_state["page"] = int(st.session_state["go_to"])
        st.session_state["go_to"] = None


def _start_over() -> None:
    """Another table has other columns: nothing of the old view fits it."""
    for key in ("sort", "order", "where", "is", "value", "page"):
        st.session_state.pop(key, None)
