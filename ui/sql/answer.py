"""A query at work and its answer: asked once, stopped when it is not waited for, shown as a table that can be taken along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from store import RunInfo
from store.query import ROWS, RUNS, SECONDS, Answer, QueryError
from ui import data
from ui.tables import shown_text
from ui.words import count, duration, plain

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["whole", "number", "text", "plain", "list", "other"]
_KEPT, _STOPPED = "_sql_answer", "_sql_stopped"
_FIRST_S, _STEP_S = 0.6, 0.3
"""Seconds before a query is said to be at work, and between looks at it."""
_TALL = 560


def asked(text: str, runs: Sequence[RunInfo]) -> Answer | None:
    """The answer to the query, kept while neither it nor the runs change; None where there is none, which is said."""
    key = (data.store_folder(), text, tuple(run.id for run in runs))
    if st.session_state.pop(_STOPPED, False):
        st.session_state[_KEPT] = (key, QueryError("a query must be waited for to be answered, got stopped; run it again."))
    kept = st.session_state.get(_KEPT)
    if kept is None or kept[0] != key:
        kept = (key, _answer(text))
        st.session_state[_KEPT] = kept
    found: Answer | QueryError = kept[1]
    if isinstance(found, Answer):
        return found
    refused(found)
    return None


def forget() -> None:
    """Ask anew at the next look."""
    st.session_state.pop(_KEPT, None)


def _answer(text: str) -> Answer | QueryError:
    """Ask and wait. Another click ends the wait at the next word that is drawn, and the query with it."""
    try:
        query = data.store().query(text)
    except QueryError as error:
        return error
    place = st.empty()
    try:
        found = query.wait(_FIRST_S)
        if found is None:
            with place.container(horizontal=True, vertical_alignment="center"):
                said = st.empty()
                st.button("Stop the query", key="sql-stop", icon=":material/stop:", on_click=_stop)
            while found is None:
                said.markdown(f"At work for {query.elapsed:.0f} s, at most {query.seconds:.0f} s …")
                found = query.wait(_STEP_S)
        return found
    except QueryError as error:
        return error
    finally:
        query.stop()
        place.empty()


def _stop() -> None:
    st.session_state[_STOPPED] = True


def refused(error: QueryError) -> None:
    """Why there is no answer: one sentence, and where DuckDB said more, all of it."""
    st.error(f"No answer: {plain(error)}", icon=":material/error:")
    if "\n" in error.detail.strip():
        st.code(error.detail, language=None, wrap_lines=True)


def show_rows(answer: Answer) -> pd.DataFrame:
    """The rows as a table, with what was left out and ways to take them along. Returns them as a frame."""
    frame, held = answer.frame, kinds(answer.table)
    words = f"{count(len(frame), 'row')} of {count(len(frame.columns), 'column')}, in {duration(answer.seconds)}."
    if answer.more:
        words += f" There are more: an answer has at most {ROWS:,} rows and 32 MB. Aggregate, or filter, to see all of them."
    if frame.empty:
        st.info("No row meets this query.", icon=":material/filter_alt:")
    else:
        st.dataframe(
            readable(frame, held), hide_index=True, column_config=formats(held), height="content" if len(frame) <= 12 else _TALL,
            placeholder="—", alt=f"The answer to the query. {words}",
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(words)
        take_along(answer, frame)
    return frame


def kinds(table: pa.Table) -> dict[str, Kind]:
    """What each column holds, for the table and for the choice of axes."""
    import pyarrow as pa

    def kind(one: pa.DataType) -> Kind:
        if pa.types.is_integer(one):
            return "whole"
        if pa.types.is_floating(one):
            return "number"
        if pa.types.is_string(one) or pa.types.is_large_string(one):
            return "text"
        if pa.types.is_boolean(one) or pa.types.is_temporal(one):
            return "plain"
        return "list" if pa.types.is_list(one) or pa.types.is_fixed_size_list(one) else "other"

    return {field.name: kind(field.type) for field in table.schema}


def readable(frame: pd.DataFrame, held: Mapping[str, Kind]) -> pd.DataFrame:
    """The frame with line ends and outer spaces of texts made visible; what no cell can hold is text."""
    drawn = {"text": shown_text, "other": str}
    return frame.assign(**{name: frame[name].map(drawn[one], na_action="ignore") for name, one in held.items() if one in drawn})


def formats(held: Mapping[str, Kind]) -> dict[str, Any]:
    """Numbers with four digits, however small they are; whole numbers as they are."""
    made = {"number": "%.4g", "whole": "%d"}
    return {name: st.column_config.NumberColumn(format=made[one]) for name, one in held.items() if one in made}


def take_along(answer: Answer, frame: pd.DataFrame) -> None:
    """The rows as CSV, and the lines of Python and of the command line that get them."""
    with st.popover("Get these rows", icon=":material/download:", type="tertiary"):
        st.download_button(
            f"CSV, {count(len(frame), 'row')}", data=lambda: frame.to_csv(index=False).encode(), file_name="query.csv", mime="text/csv",
            key="sql-csv", on_click="ignore",
        )  # fmt: skip
        st.caption("In Python, from the folder of Sparsescope:")
        st.code(as_python(answer.text, data.store_folder()), language="python", wrap_lines=True)
        st.caption("On the command line, as CSV:")
        st.code(data.command_line("sql", answer.text), language="bash", wrap_lines=True)


def as_python(text: str, folder: str) -> str:
    """Lines that leave the rows in ``frame``."""
    quoted = f'"""{text}"""' if '"""' not in text and "\\" not in text and not text.endswith('"') else repr(text)
    return f"from store import Store\nframe = Store({folder!r}).query({quoted}).result().frame"


def about(runs: Sequence[RunInfo], n_older: int) -> str:
    """Which runs are asked, in words."""
    asked_runs = min(len(runs), RUNS)
    words = f"Read-only SQL over {count(asked_runs, 'run')}"
    words += f", the newest of {len(runs):,}" if asked_runs < len(runs) else ""
    older = f"; {count(n_older, 'older attempt')} at the same question left out" if n_older else ""
    return f"{words}{older}. A query has {SECONDS:.0f} s; an answer has at most {ROWS:,} rows."
