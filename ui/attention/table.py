"""The table of heads, in step with the pictures: sorted, filtered and paged by the database. A click on a row opens its head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from store import Order
from ui.attention.charts import OPEN
from ui.attention.heads import Head, Place
from ui.attention.measures import FIRST, Measure
from ui.attention.patterns import ABOUT
from ui.attention.view import KEY, View
from ui.controls import PAGE_SIZES, rows_control, sort_controls
from ui.data import ask
from ui.notes import LABEL, insert_labels, label_heading, of_head
from ui.paging import asked_page
from ui.python import copy_as_python
from ui.words import count, plain

_ALWAYS = ("keys", "slope with position", "span", "previous-token score", "induction score")
"""Columns behind the six; what else is asked about comes before them."""


def show_table(view: View, places: list[Place], known: Mapping[str, Measure], asked: Iterable[Measure]) -> None:
    """One page of the heads that meet the filters; ``asked`` are measures the pictures show, which the table then has, too."""
    sort, descending, limit = _controls(known)
    found = ask(view.run, "count", "heads", where=view.where, derive=view.derive)
    if not found:
        st.info("No head meets all of these filters; loosen one of them.", icon=":material/filter_alt:")
        return
    columns = _columns(known, [*asked, *([known[sort]] if sort else [])])
    word = ("shape",) if view.derive else ()
    by = (Order(known[sort].column, descending=descending),) if sort else ()
    n_pages = -(-found // limit)
    page = min(asked_page(), n_pages)
    frame = ask(
        view.run, "read", "heads", columns=(*KEY, *word, *(one.column for one in columns)), where=view.where,
        derive=view.derive, order_by=(*by, *(Order(name) for name in KEY)), limit=limit, offset=(page - 1) * limit,
    )  # fmt: skip
    numbers = {place.key: i for i, place in enumerate(places)}
    at = [numbers[key] for key in zip(frame["layer"], frame["hook_name"], frame["turn"], strict=True)]
    rows = list(zip(at, frame["head"].tolist(), strict=True))
    shown = frame.drop(columns=list(KEY))
    shown.insert(0, "name", [Head(places[place], head).name for place, head in rows])
    insert_labels(shown, 1, [of_head(view.run, places[place].hook_name, places[place].turn, head) for place, head in rows])
    said = f"Heads {(page - 1) * limit + 1:,} to {min(page * limit, found):,} of {found:,}."
    event = st.dataframe(
        shown, hide_index=True, column_config=_headings(columns), height="content" if len(shown) <= PAGE_SIZES[0] else 860,
        placeholder="—", alt=f"One row per head. {said}", on_select="rerun", selection_mode="single-cell",
        key=f"heads-{hash((view.run.id, view.where, by, limit, page))}",
    )  # fmt: skip
    chosen = event["selection"]["cells"]
    if chosen:
        st.session_state[OPEN] = rows[chosen[0][0]]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{said} Click a row to open the head.")
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")
        stored = tuple(one for one in view.where if one.column != "shape")
        rows_words = count(found, "row") if len(stored) == len(view.where) else "these rows and those of other shapes"
        copy_as_python(view.run, "heads", where=stored, order_by=by, rows=rows_words)


def _columns(known: Mapping[str, Measure], asked: Iterable[Measure]) -> list[Measure]:
    """The six, what is asked about, and the usual ones; each once."""
    names = [*FIRST, *(one.name for one in asked), *_ALWAYS]
    return [known[name] for name in dict.fromkeys(names) if name in known]


def _controls(known: Mapping[str, Measure]) -> tuple[str | None, bool, int]:
    """What to sort by, whether downwards, and how many rows a page has."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("## Table", width="stretch")
        sort, descending = sort_controls(list(known), "layer and number", width=210)
        return sort, descending, rows_control()


def _headings(columns: Iterable[Measure]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": st.column_config.TextColumn("Head", help="layer:head", pinned=True), LABEL: label_heading()}
    made["shape"] = st.column_config.TextColumn("Shape", help=ABOUT["shape"])
    return made | {one.column: st.column_config.NumberColumn(one.label, help=plain(one.comment), format="%.4g") for one in columns}
