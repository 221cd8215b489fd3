"""The table of neurons, in step with the charts: sorted, filtered and paged by the database. A click on a row opens its neuron."""

from __future__ import annotations

from typing import Any

import streamlit as st

from store import ColumnInfo, Order, RunInfo, TableInfo
from ui import data
from ui.controls import PAGE_SIZES, rows_control, sort_controls
from ui.neurons.charts import OPEN
from ui.neurons.units import Site
from ui.neurons.view import MEASURES, View
from ui.notes import LABEL, insert_labels, label_heading, of_neuron
from ui.paging import asked_page
from ui.python import copy_as_python
from ui.words import count, plain

COLUMNS = {
    "class": "Class",
    "density": "Density",
    "documents_active": "Documents",
    "max": "Largest",
    "min": "Smallest",
    "mean": "Mean",
    "mean_active": "Mean |a|",
    "contribution": "Contribution",
    "kurtosis": "Kurtosis",
    "in_norm": "In norm",
    "up_norm": "Up norm",
    "out_norm": "Out norm",
}
"""Columns with their short headings; pointing at one tells its unit and meaning."""


def show_table(view: View, places: list[Site], found: int) -> None:
    """One page of the neurons that meet the filters."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("## Table", width="stretch")
        sort, descending = sort_controls(list(MEASURES), "layer and number")
        limit = rows_control()
    if not found:
        st.info("No neuron meets all of these filters; loosen one of them.", icon=":material/filter_alt:")
        return
    order_by = (Order(MEASURES[sort], descending=descending),) if sort else ()
    n_pages = -(-found // limit)
    page = min(asked_page(), n_pages)
    info = _shown(view.run)
    names = tuple(column.name for column in info.columns)
    frame = data.ask(
        view.run, "read", "neurons", columns=("layer", "hook_name", "neuron", *names), where=view.where, order_by=order_by, limit=limit,
        offset=(page - 1) * limit, derive=view.derive,
    )  # fmt: skip
    where = {(site.layer, site.hook_name): i for i, site in enumerate(places)}
    rows = [
        (where[key], int(number))
        for *key, number in zip(frame["layer"], frame["hook_name"], frame["neuron"], strict=True)
        for key in [tuple(key)]
    ]
    shown = frame.drop(columns=["layer", "hook_name", "neuron"])
    shown.insert(0, "unit", [f"{places[place].label}:{number}" for place, number in rows])
    insert_labels(shown, 1, [of_neuron(view.run, places[place].hook_name, number) for place, number in rows])
    said = f"Neurons {(page - 1) * limit + 1:,} to {min(page * limit, found):,} of {found:,}."
    key = f"table-{hash((view.where, view.threshold, order_by, limit, page))}"
    event = st.dataframe(
        shown, hide_index=True, column_config=_headings(info), height="content" if len(shown) <= PAGE_SIZES[0] else 860,
        placeholder="—", alt=f"One row per neuron. {said}", key=key, on_select="rerun", selection_mode="single-cell",
    )  # fmt: skip
    chosen = event["selection"]["cells"]
    if chosen:
        st.session_state[OPEN] = rows[chosen[0][0]]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{said} Click a row to open the neuron.")
        if n_pages > 1:
            st.pagination(n_pages, key="page", bind="query-params")
        copy_as_python(view.run, "neurons", where=view.where, order_by=order_by, threshold=view.threshold, rows=count(found, "row"))


def _headings(info: TableInfo) -> dict[str, Any]:
    made: dict[str, Any] = {"unit": st.column_config.TextColumn("Neuron", help="layer:number", pinned=True), LABEL: label_heading()}
    for column in info.columns:
        kind = st.column_config.TextColumn if column.type == "VARCHAR" else st.column_config.NumberColumn
        more: dict[str, Any] = {"format": "%.4g"} if column.type == "DOUBLE" else {}
        made[column.name] = kind(COLUMNS[column.name], help=plain(column.comment), **more)
    return made


def _shown(run: RunInfo) -> TableInfo:
    """The table's columns on this page: those that some neuron of the run has a value for."""
    info = next(one for one in data.tables(run) if one.name == "neurons")
    known = {column.name: column for column in info.columns}
    return TableInfo(
        info.name, info.comment, info.rows, tuple(known[name] for name in COLUMNS if name in known and _has_values(run, known[name]))
    )


def _has_values(run: RunInfo, column: ColumnInfo) -> bool:
    if not column.optional:
        return True
    return any(limits is not None for limits in data.ask(run, "limits", "neurons", columns=(column.name,)).values())
