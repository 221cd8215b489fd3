"""Where a query is written, started from an example, saved and shared. The address holds it, or the name it is saved under."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import quote

import streamlit as st

from store import StoreError
from store.queries import LONGEST_NAME
from store.query import LONGEST
from ui import data
from ui.sql.answer import forget
from ui.sql.examples import EXAMPLES
from ui.words import plain

SQL, SAVED = "sql", "saved"
_TEXT, _START, _NAME, _LONG, _SAID = "sql_text", "sql_start", "sql_name", "_sql_long", "_sql_said"
_ADDRESS = 6_000
"""Characters of a query within an address; longer addresses do not pass every server."""


def current() -> str:
    """The query that is asked: of the address, or of this session where it is too long for one."""
    if SQL in st.query_params:
        return st.query_params[SQL]
    if SAVED in st.query_params:
        found = data.store().queries.all().get(st.query_params[SAVED])
        return found.text if found else ""
    return str(st.session_state.get(_LONG, ""))


def editor(tables: Collection[str]) -> str:
    """The box with the query, ways to start one and to save it. Returns what is to be asked; empty for nothing yet."""
    _missing()
    known = starts(tables)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Start from", list(known), None, placeholder="an example or a saved query", key=_START, on_change=_load, args=(known,))
        _saving()
    if _TEXT not in st.session_state:
        st.session_state[_TEXT] = current()
    with st.form("sql-form", border=False):
        st.text_area("SQL", key=_TEXT, height=300, max_chars=LONGEST, placeholder=EXAMPLES[0].text, help=_HELP)
        if st.form_submit_button("Run", type="primary", icon=":material/play_arrow:"):
            forget()  # whoever asks the same again, as after a time limit, means it
            ask(st.session_state[_TEXT])
    said = st.session_state.pop(_SAID, None)
    if said:
        st.warning(plain(said), icon=":material/save:")
    return current()


_HELP = (
    "One SELECT in DuckDB's SQL; Ctrl+Enter runs it. Every table of every analysis is there under its name, over all runs, with the "
    "columns run, slug, model, data and started in front; the table runs says how each run was made. Nothing can be changed from here."
)


def starts(tables: Collection[str]) -> dict[str, str]:
    """What a query can be started from, by the name in the list: those saved, then the examples whose tables are there."""
    saved = {f"{name} (saved)": one.text for name, one in data.store().queries.all().items()}
    return saved | {one.name: one.text for one in EXAMPLES if all(table in tables for table in one.tables)}


def ask(text: str) -> None:
    """Ask this from now on."""
    for name in (SQL, SAVED):
        st.query_params.pop(name, None)
    st.session_state[_LONG] = text
    if len(quote(text)) <= _ADDRESS:
        st.query_params[SQL] = text
    elif text:
        st.session_state[_SAID] = "This query is too long for an address; save it, and the link to this view names it."


def _load(known: Mapping[str, str]) -> None:
    text = known.get(st.session_state[_START] or "")
    if text is not None:
        st.session_state[_TEXT] = text
        ask(text)


def _missing() -> None:
    name = st.query_params.get(SAVED)
    if name and name not in data.store().queries.all():
        st.warning(f"There is no query saved as {plain(name)} in this store; choose another.", icon=":material/link_off:")


def _saving() -> None:
    """Keep the query that is asked under a name, or forget one."""
    saved = data.store().queries.all()
    with st.popover("Save", icon=":material/save:", type="tertiary"):
        st.text_input("Name", key=_NAME, max_chars=LONGEST_NAME, placeholder="what it asks")
        st.button("Save the query that is run", key="sql-save", on_click=_save, disabled=not current().strip())
        st.caption("Kept in this store for all its readers; the same name replaces it.")
        gone = st.selectbox("Forget", list(saved), None, key="sql-gone", placeholder="a saved query") if saved else None
        if gone is not None:
            st.button("Forget it", key="sql-forget", on_click=data.store().queries.remove, args=(gone,))


def _save() -> None:
    try:
        name = data.store().queries.save(st.session_state[_NAME], current())
    except StoreError as error:
        st.session_state[_SAID] = str(error)
        return
    if SQL not in st.query_params:
        st.query_params[SAVED] = name
