"""What has been: sealed runs and ended jobs in filtered, paged lists; and what can be thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from analysis.jobs import Job
from analysis.spec import UserError
from figures.words import visible
from store import RunInfo, StoreError
from store.errors import size_words
from store.jobs import LIVE
from ui import data, provenance
from ui.cards import run_line
from ui.jobs import ended_line, remove_control, resume_control, title_of
from ui.links import COMPARE_PAGE, COMPARED, HOME_PAGE, START_PAGE, run_title
from ui.paging import first_page, paged
from ui.words import count, plain

PER_PAGE = 20
RESULTS, JOBS = "Results", "Jobs that ended"
_COUNTS = "counts"


def history() -> None:
    """One of the two lists, with its filters in the address."""
    which = st.radio("Show", (RESULTS, JOBS), horizontal=True, key="show", bind="query-params", on_change=first_page)
    if which == RESULTS:
        _runs(data.runs(summaries=False))
    else:
        _jobs([job for job in data.desk().list() if job.status not in LIVE])


def _runs(runs: Sequence[RunInfo]) -> None:
    if not runs:
        st.markdown("Nothing has been run yet.")
        st.page_link(HOME_PAGE, label="How to make the first run", icon=":material/home:")
        return
    found = _filtered(runs, lambda run: run.model, run_title, _run_state)
    for run in paged(found, "run", per_page=PER_PAGE):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(width="content"):
                run_line(run, with_model=True)
            with st.container(horizontal=True, width="content"):
                _about_run(run)
                if run.status == "sealed" and run.slug in COMPARED:
                    st.page_link(COMPARE_PAGE, label="Compare", icon=":material/compare_arrows:", query_params={"a": run.id})
                _delete_control(run)


def _jobs(jobs: Sequence[Job]) -> None:
    if not jobs:
        st.markdown("No job has ended yet.")
        st.page_link(START_PAGE, label="Start an analysis", icon=":material/play_arrow:")
        return
    found = _filtered(jobs, lambda job: job.model, title_of, lambda job: job.status)
    for job in paged(found, "job", per_page=PER_PAGE):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(width="content"):
                ended_line(job)
            with st.container(horizontal=True, width="content"):
                if job.can_resume:
                    resume_control(job, primary=False)
                remove_control(job)


def _run_state(run: RunInfo) -> str:
    if run.status != "sealed":
        return run.status
    return _COUNTS if run.current else "superseded"


def _filtered(items: Sequence[Any], model: Callable[[Any], str], analysis: Callable[[Any], str], state: Callable[[Any], str]) -> list[Any]:
    """The items that meet the three filters above the list."""
    kept = list(items)
    with st.container(horizontal=True):
        for label, key, of in (("Model", "model", model), ("Analysis", "analysis", analysis), ("State", "state", state)):
            options = sorted({of(one) for one in items})
            wanted = st.selectbox(
                label, options, None, format_func=visible, key=key, bind="query-params", placeholder="all", on_change=first_page
            )
            kept = [one for one in kept if wanted is None or of(one) == wanted]
    if not kept:
        st.info(f"None of the {len(items):,} meets these filters; choose fewer.", icon=":material/filter_alt:")
    return kept


def _about_run(run: RunInfo) -> None:
    with st.popover("How it was made", icon=":material/fact_check:", type="tertiary", key=f"made-{run.path.name}"):
        for title, facts in provenance.groups(run) if run.status == "sealed" else ():
            st.markdown(f"**{title}**\n" + "\n".join(f"- {label}: {text}" for label, text in facts))
        if run.status != "sealed":
            st.markdown(plain(run.words))


def _delete_control(run: RunInfo) -> None:
    """A button that asks before it deletes a sealed run for good."""
    with st.popover("Delete", icon=":material/delete:", type="tertiary", key=f"ask-{run.path.name}"):
        st.markdown(f"Delete this result for good? It frees {size_words(run.size)}; only running the analysis again brings it back.")
        if st.button("Delete it", type="primary", key=f"delete-{run.path.name}"):
            _do(lambda: data.store().remove(run), "Deleted.")


def retention() -> None:
    """Making room: forgetting old jobs, deleting what newer attempts have replaced."""
    runs = data.runs(summaries=False)
    replaced = [run for run in runs if run.status == "sealed" and not run.current]
    with st.expander("Make room", icon=":material/cleaning_services:"):
        st.markdown(f"{count(len(runs), 'run')} take {size_words(sum(run.size for run in runs if run.status != 'missing'))} of disk.")
        if replaced:
            st.markdown(
                f"{count(len(replaced), 'run')} of them have been replaced by a newer attempt at the same question; "
                f"deleting them frees {size_words(sum(run.size for run in replaced))}."
            )
            sure = st.checkbox("I do not need them any more", key="sure")
            if st.button("Delete replaced runs", icon=":material/delete:", disabled=not sure):
                _do(lambda: [data.store().remove(run) for run in replaced], f"{count(len(replaced), 'run')} deleted.")
        days = st.number_input("Forget jobs that ended more than so many days ago", 0, 3650, 30, key="days")
        st.caption("Their logs go, too; results stay.")
        if st.button("Forget old jobs", icon=":material/delete:"):
            _do(lambda: data.desk().prune(days), "Old jobs forgotten.")


def _do(what: Callable[[], Any], words: str) -> None:
    try:
        what()
    except (UserError, StoreError) as error:
        st.error(plain(error), icon=":material/error:")
    else:
        st.toast(words)
        st.rerun()
