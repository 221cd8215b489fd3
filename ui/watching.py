"""One job, followed: its state, bar, log and what can be done about it; drawn anew every second while it is at work."""

from __future__ import annotations

import streamlit as st

from analysis import ANALYSES
from analysis.jobs import Job, why_not
from store import JobNotFound
from ui import data
from ui.cards import start_link
from ui.jobs import POLL_S, bar, changed, command_of, live_jobs, log_of, resume_control, run_of, settings_query, state_words, stop_control
from ui.links import JOB_PAGE, RUN_PAGE, RUNS_PAGE, START_PAGE, browse_link, run_query
from ui.sensitivity.live import show_growing
from ui.words import code, moment, plain, value

_TAIL, _LONG = 12, 1000


def chosen_job(reference: str) -> Job | None:
    """The job of that id; None where there is none: it may have been forgotten, or belong to another store."""
    try:
        return data.desk().get(reference)
    except JobNotFound:
        return None


def watch(job: Job) -> None:
    """The state of a job; followed every second while it is live, and the page drawn anew when it ends."""
    st.fragment(_state, run_every=POLL_S if job.is_live else None)(job.id, job.is_live)


def _state(job_id: str, was_live: bool) -> None:
    job = chosen_job(job_id)
    if job is None or job.is_live != was_live:
        st.rerun()
        return
    if job.is_live:
        live = live_jobs()
        bar(job, live)
        st.caption("This goes on without this page: close it, reload it, come back later.")
        stop_control(job)
    else:
        _ending(job)
    if job.status != "done":
        show_growing(job, key="growing")
    _log(job)


def _ending(job: Job) -> None:
    words = plain(state_words(job))
    if job.status == "done":
        st.success(words, icon=":material/check_circle:")
        _result(job)
        return
    show = {"failed": st.error, "interrupted": st.warning}.get(job.status, st.info)
    show(f"{words} It has no result.", icon=":material/info:" if job.status == "cancelled" else ":material/error:")
    with st.container(horizontal=True, vertical_alignment="center"):
        resume_control(job)
        if job.slug:
            st.page_link(START_PAGE, label="Change its settings", icon=":material/tune:", query_params=settings_query(job))


def _result(job: Job) -> None:
    if job.slug is None:
        st.markdown("What can be asked of it:")
        for analysis in ANALYSES:
            reason = why_not(data.store(), analysis, job.model)
            if reason:
                st.caption(f"**{plain(analysis.title)}** cannot be run: {plain(reason)}")
            else:
                start_link(analysis, job.model, plain(analysis.title))
        return
    run = run_of(job)
    if run is None:
        st.markdown("Its result has been deleted since.")
        return
    with st.container(horizontal=True):
        st.page_link(RUN_PAGE, label="**See the result**", icon=":material/analytics:", query_params=run_query(run))
        browse_link(run)


def _log(job: Job) -> None:
    st.markdown("### Log")
    whole = st.toggle("Show all of it", key=f"whole-{job.id}")
    text = log_of(job, _LONG if whole else _TAIL)
    if text:
        st.code(text, language=None, wrap_lines=True, height=480 if whole else "content")
    else:
        st.caption("Nothing yet.")


def request(job: Job) -> None:
    """What was asked for, by whom, and the command that asks for the same."""
    lines = [f"model: {code(job.model)}"] + ([f"data: {code(job.data)}"] if job.data else [])
    lines += [f"{plain(name)}: {plain(value(one))}" for name, one in changed(job.slug, job.config).items()]
    if job.slug and not changed(job.slug, job.config):
        lines.append("every setting at its default")
    lines += [f"asked for {moment(job.submitted)} from the {plain(job.origin)}", f"on {plain(job.host)}, process {job.pid}"]
    with st.expander("What was asked for", icon=":material/fact_check:"):
        st.markdown("\n".join(f"- {line}" for line in lines))
        st.caption("The same from the command line:")
        st.code(command_of(job), language="bash", wrap_lines=True)
        if job.resumes:
            st.page_link(JOB_PAGE, label=f"It goes on where job {code(job.resumes)} stopped", query_params={"job": job.resumes})
    st.page_link(RUNS_PAGE, label="All jobs and runs", icon=":material/list:")
