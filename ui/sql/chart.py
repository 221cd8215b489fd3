"""The answer to a query as a figure: its kind and its axes are chosen above it, and it exports like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from figures.chosen import CHOSEN_KINDS, Choice, ChosenKind, chosen_spec, named
from figures.prepared import prepare
from figures.spec import FigureError
from store.query import Answer
from ui.charts import show_spec
from ui.sql.answer import kinds
from ui.words import count, plain

if TYPE_CHECKING:
    import pandas as pd

_KIND, _X, _Y, _BY, _COLOUR, _LOG, _TITLE = "chart", "x", "y", "by", "colour", "log", "title"
_NAMED_RUNS = 100
"""Runs that are listed in the provenance one by one."""
_TOLD_RUNS = 8
"""Runs that a caption lists one by one."""
_SHORT = 400
"""Characters of a query that is printed under its figure; a longer one is in the provenance alone."""


def show_chart(answer: Answer, frame: pd.DataFrame) -> None:
    """The choice, and the figure that comes of it; nothing until a kind is chosen."""
    held = kinds(answer.table)
    columns = [name for name, kind in held.items() if kind not in ("list", "other")]
    numbers = [name for name, kind in held.items() if kind in ("whole", "number")]
    if frame.empty or not columns:
        return
    kind = st.segmented_control("Draw it as", CHOSEN_KINDS, format_func=named, key=_KIND, bind="query-params")
    if kind is None:
        return
    if not numbers:
        st.caption("Nothing to draw: the answer has no column of numbers.")
        return
    choice = _choice(kind, columns, numbers)
    title = st.text_input("Title", key=_TITLE, bind="query-params", max_chars=120, placeholder=_title(choice)).strip()
    try:
        of = f"the answer to an SQL query over {count(len(answer.runs), 'run')}"
        spec = chosen_spec(frame, choice, title=title or _title(choice), of=of, notes=_notes(answer))
        prepare(spec)  # what cannot be drawn is said here, before a heading stands over nothing
    except FigureError as error:
        st.warning(f"This cannot be drawn: {plain(error)}", icon=":material/warning:")
        return
    show_spec(spec, provenance_of(answer), name="query", key="figure-query")


def _choice(kind: ChosenKind, columns: list[str], numbers: list[str]) -> Choice:
    """The widgets that say what is drawn. Their keys are their names in the address."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if kind == "histogram":
            x = st.selectbox("Of", numbers, key=_X, bind="query-params", width=190)
            logs = _logs(("x", "y"))
            return Choice(kind, x, log_x="x" in logs, log_y="y" in logs)
        x = st.selectbox("Across", columns, key=_X, bind="query-params", width=190)
        up = columns if kind == "heatmap" else numbers
        second = next((name for name in up if name != x), up[0])
        y = st.selectbox("Up", up, up.index(second), key=_Y, bind="query-params", width=190)
        series = colour = None
        if kind != "heatmap":
            series = st.selectbox("Told apart by", columns, None, placeholder="nothing", key=_BY, bind="query-params", width=190)
        if kind == "heatmap" or (kind == "scatter" and series is None):
            first = next((i for i, name in enumerate(numbers) if name not in (x, y)), 0) if kind == "heatmap" else None
            colour = st.selectbox("Colour", numbers, first, placeholder="none", key=_COLOUR, bind="query-params", width=190)
        can = () if kind == "heatmap" else ("y",) if kind == "bars" else () if kind == "stacked_bars" else ("x", "y")
        logs = _logs(can)
    return Choice(kind, x, y, series or "", colour or "", "x" in logs, "y" in logs)


def _logs(can: tuple[str, ...]) -> list[str]:
    """Which axes are logarithmic."""
    if not can:
        return []
    return st.pills("Logarithmic", can, selection_mode="multi", key=_LOG, bind="query-params")


def _title(choice: Choice) -> str:
    return f"Histogram of {choice.x}" if choice.kind == "histogram" else f"{choice.y} over {choice.x}"


def _notes(answer: Answer) -> tuple[str, ...]:
    text = " ".join(answer.text.split())
    notes = (f"Query: {text}",) if len(text) <= _SHORT else ("The query is in the figure's provenance.",)
    return (*notes, f"The answer was cut at {answer.table.num_rows:,} rows; there are more.") if answer.more else notes


def provenance_of(answer: Answer) -> Mapping[str, Any]:
    """What the figure was drawn from: the query, the runs that were asked, and by which versions."""
    from importlib.metadata import version

    runs: Any = list(answer.runs) if len(answer.runs) <= _NAMED_RUNS else f"the {len(answer.runs):,} newest of the store"
    return {
        "title": "SQL over all runs",
        "told": [
            f"Data: {count(answer.table.num_rows, 'row')} of an answer to SQL over {count(len(answer.runs), 'run')} of Sparsescope"
            + (f": {', '.join(answer.runs)}." if len(answer.runs) <= _TOLD_RUNS else "."),
        ],
        "sql": answer.text,
        "runs": runs,
        "rows": answer.table.num_rows,
        "cut": answer.more,
        "versions": {name: version(name) for name in ("duckdb", "pyarrow", "pandas")},
    }
