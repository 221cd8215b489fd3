"""Widgets above lists and tables, whose keys are their names in the address; another choice starts at the first page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ui.paging import first_page

PAGE_SIZES = (25, 50, 100, 250)


def bound(label: str, key: str) -> float | None:
    """One end of a range of numbers; None where it is open."""
    return st.number_input(
        label, value=None, key=key, bind="query-params", on_change=first_page, width=120, placeholder="any", format="%.4g", step=None
    )


def sort_controls(names: Sequence[str], unsorted: str, *, width: int = 190) -> tuple[str | None, bool]:
    """What a table is sorted by (None for its own order, told by ``unsorted``), and whether downwards."""
    sort = st.selectbox("Sort by", names, None, placeholder=unsorted, key="sort", bind="query-params", on_change=first_page, width=width)
    order = st.selectbox(
        "Order", ("descending", "ascending"), key="order", bind="query-params", disabled=sort is None, on_change=first_page, width=140
    )
    return sort, order == "descending"


def rows_control() -> int:
    """How many rows a page of a table has."""
    return st.selectbox("Rows", PAGE_SIZES, key="rows", bind="query-params", on_change=first_page, width=90)
