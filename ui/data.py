"""The store as pages see it: one handle per server, and small answers kept.

Sealed runs never change, so an answer is kept under the run's id for as long as there is room. What does change, the
list of runs, is asked for anew on every page view.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.jobs import Jobs
from store import Filter, Order, RunInfo, RunNotFound, Store, TableInfo
from ui.serve import DEFAULT_STORE, STORE_VARIABLE

if TYPE_CHECKING:
    import pandas as pd

_KEPT = 256
"""Answers kept of each kind; a page of a table is at most some hundred kilobytes."""


def store_folder() -> str:
    """The folder of the store this server shows."""
    return os.path.abspath(os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)


@st.cache_resource(show_spinner=False)
def open_store(folder: str) -> Store:
    """The store in ``folder``: one handle per server, which all sessions share."""
    return Store(folder)


def store() -> Store:
    """The store this server shows."""
    return open_store(store_folder())


def runs(*, summaries: bool = True) -> list[RunInfo]:
    """Every run, newest first: superseded, missing and unreadable ones too, each with its words."""
    return store().runs(current_only=False, summaries=summaries)


def chosen_run(reference: str) -> RunInfo | None:
    """The run of that id, or None where there is none: an address may be old, mistyped, or from another store."""
    try:
        # Only ids: an address must not be able to make the server open a file by its path.
        return store().find(reference) if os.sep not in reference and "/" not in reference else None
    except RunNotFound:
        return None


def desk() -> Jobs:
    """Where jobs of this store are asked for, looked at and stopped."""
    return Jobs(store())


def command(slug: str, model: str, **more: Any) -> str:
    """The command that runs an analysis so that its result appears in this dashboard; ``more`` are flags and their values."""
    return command_line("run", slug, model=model, **more)


def command_line(*words: str, **flags: Any) -> str:
    """A command of the command line on this dashboard's store, ready for a shell."""
    folder = store_folder()
    if folder != os.path.abspath(DEFAULT_STORE) or STORE_VARIABLE in os.environ:
        flags["store"] = folder
    given = (f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in flags.items())
    return " ".join(["python -m analysis", *map(shlex.quote, words), *given])


def tables(run: RunInfo) -> list[TableInfo]:
    """The tables of a run as its sealed file describes them, in the order its analysis declared them."""
    described = {info.name: info for info in _tables(store_folder(), run.id)}
    return [described[name] for name in run.rows if name in described]


def rows(
    run: RunInfo,
    table: str,
    *,
    where: Sequence[Filter] = (),
    order_by: Sequence[Order] = (),
    limit: int | None = None,
    offset: int = 0,
) -> pd.DataFrame:
    """One page of a table, sorted and filtered by the database."""
    return _rows(store_folder(), run.id, table, tuple(where), tuple(order_by), limit, offset)


def count(run: RunInfo, table: str, where: Sequence[Filter] = ()) -> int:
    """How many rows of a table meet the filters."""
    return _count(store_folder(), run.id, table, tuple(where))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _tables(folder: str, run_id: str) -> tuple[TableInfo, ...]:
    opened = open_store(folder)
    return opened.table_info(opened.find(run_id))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _rows(
    folder: str, run_id: str, table: str, where: tuple[Filter, ...], order: tuple[Order, ...], limit: int | None, offset: int
) -> pd.DataFrame:
    opened = open_store(folder)
    return opened.read(opened.find(run_id), table, where=where, order_by=order, limit=limit, offset=offset)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _count(folder: str, run_id: str, table: str, where: tuple[Filter, ...]) -> int:
    opened = open_store(folder)
    return opened.count(opened.find(run_id), table, where=where)
