"""The store as pages see it: one handle per server, and small answers kept.

Sealed runs never change, so an answer is kept under the run's id for as long as there is room. What does change, the
list of runs, is asked for anew on every page view.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from analysis.jobs import Jobs
from store import Filter, Order, RunInfo, RunNotFound, Store, TableInfo
from ui.serve import DEFAULT_STORE, STORE_VARIABLE

if TYPE_CHECKING:
    import pandas as pd

Question = Literal["read", "count", "groups", "cells", "limits"]
_KEPT = 256
"""Answers kept; a page of a table is at most some hundred kilobytes."""


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


def current_runs(slug: str) -> list[RunInfo]:
    """The sealed runs of an analysis that count, newest first, of whatever version."""
    return store().runs(slug=slug)


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


def ask(run: RunInfo, question: Question, table: str, **arguments: Any) -> Any:
    """One question of `store.Questions` to a sealed run, answered by the database and kept."""
    return _ask(store_folder(), run.id, question, table, arguments, run)


def first_row(frame: Any) -> dict[str, Any] | None:
    """The first row of a frame, missing values as None; None where it has none."""
    if frame.empty:
        return None
    there = frame.notna().iloc[0]
    return {str(name): value if there[name] else None for name, value in frame.astype(object).iloc[0].items()}


def tables(run: RunInfo) -> list[TableInfo]:
    """The tables of a run as its sealed file describes them, in the order its analysis declared them."""
    described = {info.name: info for info in _tables(store_folder(), run.id, run)}
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
    return ask(run, "read", table, where=tuple(where), order_by=tuple(order_by), limit=limit, offset=offset)


def count(run: RunInfo, table: str, where: Sequence[Filter] = ()) -> int:
    """How many rows of a table meet the filters."""
    return ask(run, "count", table, where=tuple(where))


@st.cache_data(max_entries=2 * _KEPT, show_spinner=False)
def _ask(folder: str, run_id: str, question: Question, table: str, arguments: dict[str, Any], _run: RunInfo) -> Any:  # noqa: ARG001 - keys
    """Kept by the run's id; the run itself is given, since looking it up among a thousand takes as long as many an answer."""
    return getattr(open_store(folder), question)(_run, table, **arguments)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _tables(folder: str, run_id: str, _run: RunInfo) -> tuple[TableInfo, ...]:  # noqa: ARG001 - a key
    return open_store(folder).table_info(_run)
