"""Long lists a page at a time, with a box to search them; search and page are in the address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from ui.words import count

PER_PAGE = 10
One = TypeVar("One")


def paged(items: Sequence[One], noun: str, text: Callable[[One], str] | None = None, *, per_page: int = PER_PAGE) -> Sequence[One]:
    """The items of the page asked for. Draws the search box where ``text`` says what to search in and there is more than a page."""
    found = list(items)
    if text is not None and len(items) > per_page:
        wanted = st.text_input(
            "Search", key="search", bind="query-params", on_change=first_page, placeholder=f"part of a {noun}'s name or path"
        )
        if wanted.strip():
            found = [one for one in items if wanted.strip().casefold() in text(one).casefold()]
            st.caption(f"{count(len(found), noun)} of {len(items):,} found.")
    n_pages = max(1, -(-len(found) // per_page))
    if n_pages == 1:
        return found
    page = min(asked_page(), n_pages)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{(page - 1) * per_page + 1:,} to {min(page * per_page, len(found)):,} of {count(len(found), noun)}.")
        st.pagination(n_pages, key="page", bind="query-params")
    return found[(page - 1) * per_page : page * per_page]


def first_page() -> None:
    """Another list has other pages."""
    st.session_state["page"] = 1


def asked_page() -> int:
    """The page asked for: from the widget once it exists, before that from the address."""
    asked = st.session_state.get("page", st.query_params.get("page", "1"))
    return int(asked) if str(asked).isdigit() and int(asked) > 0 else 1
