"""The glossary beside the editor: every table that can be asked, how much of it there is, and what its columns mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import analysis
from analysis.glossary import Entry, entries, table_meanings
from store import RunInfo
from store.seal import RUN_COLUMNS
from ui.words import count, plain

RUNS_TABLE = "runs"
_MOST = 300
"""Columns that a search shows at once."""
_TALL = 430


@dataclass(frozen=True)
class Held:
    """How much of a table the runs hold."""

    rows: int
    runs: int


def held(runs: Sequence[RunInfo]) -> dict[str, Held]:
    """By table: rows and runs, of those that are asked."""
    found: dict[str, Held] = {RUNS_TABLE: Held(len(runs), len(runs))} if runs else {}
    for run in runs:
        for table, n in run.rows.items():
            before = found.get(table, Held(0, 0))
            found[table] = Held(before.rows + n, before.runs + 1)
    return found


def columns() -> list[Entry]:
    """Every column of every declared table, those of `runs` first."""
    run = [Entry(RUNS_TABLE, "run", "str", "", "id of the run", ())]
    run += [Entry(RUNS_TABLE, name, kind.lower(), "", means, ()) for name, (kind, means) in RUN_COLUMNS.items()]
    return [*run, *entries(analysis.ANALYSES)]


def matching(found: Sequence[Entry], wanted: str) -> list[Entry]:
    """Those whose table, column or meaning has every word; a table's exact name finds all of its columns and no others."""
    words = wanted.casefold().split()
    exact = [one for one in found if words == [one.table.casefold()]]
    return exact or [one for one in found if all(word in f"{one.table} {one.column} {one.means}".casefold() for word in words)]


def show_tables(runs: Sequence[RunInfo]) -> None:
    """The panel: a search, and the tables or the columns that it finds."""
    st.markdown("**Tables and columns**")
    wanted = st.text_input(
        "Search tables and columns", key="find", bind="query-params", placeholder="neurons, density, loss …", label_visibility="collapsed"
    )
    there = held(runs)
    if wanted.strip():
        _columns(matching(columns(), wanted), wanted, there)
    else:
        _tables(there)
    st.caption("Each table also has run, slug, model, data and started. A table's name shows all of its columns.")


def _tables(there: dict[str, Held]) -> None:
    meanings = {RUNS_TABLE: "How each run was made."} | table_meanings(analysis.ANALYSES)
    names = sorted(meanings.keys() | there.keys(), key=lambda name: (name != RUNS_TABLE, not _rows(there, name), name))
    st.dataframe(
        {
            "table": names,
            "rows": [_rows(there, name) for name in names],
            "runs": [there[name].runs if name in there else 0 for name in names],
            "holds": [meanings.get(name, "") for name in names],
        },
        hide_index=True, height=_TALL, alt=f"{count(len(there), 'table')} of this store, and those that other analyses would fill.",
        column_config={"holds": st.column_config.TextColumn(width="large"), "rows": st.column_config.NumberColumn(format="localized")},
    )  # fmt: skip


def _rows(there: dict[str, Held], table: str) -> int:
    return there[table].rows if table in there else 0


def _columns(found: Sequence[Entry], wanted: str, there: dict[str, Held]) -> None:
    if not found:
        st.caption(f"No table or column has {plain(wanted.strip())} in its name or meaning.")
        return
    shown = sorted(found, key=lambda one: not _rows(there, one.table))[:_MOST]  # what has rows first
    st.dataframe(
        {
            "table": [one.table for one in shown],
            "column": [one.column for one in shown],
            "type": [one.type for one in shown],
            "means": [one.means for one in shown],
            "rows here": [_rows(there, one.table) for one in shown],
        },
        hide_index=True, height=_TALL, alt="Columns that the search finds.",
        column_config={"means": st.column_config.TextColumn(width="large"), "rows here": st.column_config.NumberColumn(format="localized")},
    )  # fmt: skip
    st.caption(f"{len(shown):,} of {count(len(found), 'column')}." if len(shown) < len(found) else f"{count(len(found), 'column')}.")
