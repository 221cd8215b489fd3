"""The model library: a card per model with its headline numbers and its runs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from store import RunInfo
from ui.headlines import headlines
from ui.links import run_link
from ui.words import count, plain


def models(runs: Sequence[RunInfo]) -> dict[str, list[RunInfo]]:
    """Runs by model, in the order given."""
    found: dict[str, list[RunInfo]] = {}
    for run in runs:
        found.setdefault(run.model, []).append(run)
    return found


def model_card(name: str, runs: Sequence[RunInfo]) -> None:
    """One model: its name and label, and its runs; the newest that counts of each analysis with its headline numbers."""
    with st.container(border=True):
        st.markdown(f"## {plain(name)}")
        label = runs[0].provenance.get("model_label")
        if label and label != name:
            st.caption(plain(label))
        newest = {run.slug: run.id for run in reversed(runs) if run.current and run.status == "sealed"}
        first = [run for run in runs if run.id in newest.values()]
        older = [run for run in runs if run.id not in newest.values()]
        for run in first:
            run_line(run)
            _numbers(run)
        if older:
            with st.expander(count(len(older), "further run")):
                for run in older:
                    run_line(run)


def _numbers(run: RunInfo) -> None:
    told = headlines(run)
    if told is None:
        return
    with st.container(horizontal=True, gap="small"):
        for label, value in told.numbers:
            st.metric(label, value, width=160)
    st.caption(told.over)


def run_line(run: RunInfo, *, with_model: bool = False) -> None:
    """A link to a run, and in words what is not as it should be with it."""
    run_link(run, with_model=with_model)
    if run.status != "sealed":
        st.caption(f"Cannot be shown: {plain(run.words)}")
    elif not run.current:
        st.caption("A newer attempt counts for this question.")
