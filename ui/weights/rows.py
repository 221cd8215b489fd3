"""Tables in which a row is a tensor: paged by the database, and a click on a row opens the tensor's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from store import Derived, Filter, Order, RunInfo, TableInfo
from ui import data
from ui.data import ask
from ui.links import TENSOR_PAGE, tensor_query
from ui.notes import LABEL, insert_labels, label_heading, of_tensor
from ui.paging import asked_page
from ui.python import copy_as_python
from ui.tables import column_config, readable
from ui.words import plain

PER_PAGE = 25
OPEN = "tensor_to_open"
"""Where a click on a picture leaves the name of a tensor for the page to open."""


def info_of(run: RunInfo, table: str, columns: Sequence[str], more: Sequence[str] = ()) -> TableInfo:
    """A stored table with these columns only, in this order; ``more`` come from the table of patterns."""
    known = {info.name: {column.name: column for column in info.columns} for info in data.tables(run)}
    found = next(info for info in data.tables(run) if info.name == table)
    shown = [known[table][name] for name in columns if name in known[table]]
    shown += [known["tensor_patterns"][name] for name in more]
    return replace(found, columns=tuple(shown))


def size_text(shape: Any) -> str:
    """``64 × 96``."""
    return " × ".join(str(int(n)) for n in shape)


def sized(frame: Any, info: TableInfo) -> tuple[Any, TableInfo]:
    """With shapes as text, which is read and not unfolded."""
    if "shape" not in frame:
        return frame, info
    columns = tuple(replace(column, type="VARCHAR") if column.name == "shape" else column for column in info.columns)
    return frame.assign(shape=[size_text(shape) for shape in frame["shape"]]), replace(info, columns=columns)


def tensor_rows(
    run: RunInfo,
    info: TableInfo,
    home: RunInfo | None,
    *,
    where: tuple[Filter, ...] = (),
    order_by: tuple[Order, ...] = (),
    derive: tuple[Derived, ...] = (),
    named: str = "tensor",
    key: str,
    nothing: str,
) -> None:
    """One page of rows; ``home`` is the run whose page of a tensor a click opens, ``named`` the column with its name there."""
    found = ask(run, "count", info.name, where=where, derive=derive)
    if not found:
        st.info(nothing, icon=":material/filter_alt:")
        return
    n_pages = -(-found // PER_PAGE)
    page = min(asked_page(), n_pages)
    names = tuple(dict.fromkeys([*(column.name for column in info.columns), named]))
    frame = ask(
        run, "read", info.name, columns=names, where=where, order_by=order_by, derive=derive, limit=PER_PAGE, offset=(page - 1) * PER_PAGE
    )
    tensors = frame[named].tolist()
    said = f"Tensors {(page - 1) * PER_PAGE + 1:,} to {min(page * PER_PAGE, found):,} of {found:,}."
    shown, headings = sized(frame[[column.name for column in info.columns]], info)
    drawn = readable(shown, headings)
    if home is not None:
        insert_labels(drawn, 1, [of_tensor(home, one) for one in tensors])
    event = st.dataframe(
        drawn, hide_index=True, column_config=_pinned(headings), height="content", placeholder="—",
        alt=f"One row per tensor. {said}", key=f"{key}-{hash((run.id, where, order_by, page))}", on_select="rerun",
        selection_mode="single-cell",
    )  # fmt: skip
    chosen = event["selection"]["cells"]
    if chosen and home is not None:
        open_tensor(home, tensors[chosen[0][0]])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(said + (" Click a row to open the tensor." if home is not None else ""))
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")
        if not derive:
            copy_as_python(run, info.name, where=where, order_by=order_by, rows=f"{found:,} rows", key=f"{key}-python")


def _pinned(info: TableInfo) -> Mapping[str, Any]:
    made = column_config(info) | {LABEL: label_heading()}
    first = info.columns[0]
    return made | {first.name: st.column_config.TextColumn("tensor", help=plain(first.comment), pinned=True, width=290)}


def open_tensor(run: RunInfo, tensor: str) -> None:
    """Go to the page of a tensor."""
    st.switch_page(TENSOR_PAGE, query_params=tensor_query(run, tensor))
