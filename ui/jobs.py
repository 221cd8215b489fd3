"""Jobs on a page: what one does and how far it is, in words; stopping and resuming it; its log. All of it follows the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from analysis import find_analysis
from analysis.jobs import Job
from analysis.spec import UnknownName, UserError, settings_of
from figures.words import number, visible
from store import RunInfo, StoreError
from store.jobs import LIVE
from ui import data
from ui.links import JOB_PAGE
from ui.uploads.kept import shown
from ui.words import code, duration, plain

POLL_S = 1.0
"""Seconds between two looks at the catalogue while something is at work."""
IDLE_S = 3.0
"""The same while nothing is."""
_ENDED = {"cancelled": "Cancelled", "failed": "Failed", "interrupted": "Interrupted"}
_ICONS = {"done": "check_circle", "failed": "error", "interrupted": "warning", "cancelled": "cancel", "running": "play_circle"}
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def title_of(job: Job) -> str:
    """What a job does, without the model (foreign text where its analysis is not registered)."""
    if job.slug is None:
        return "A first look at the model"
    try:
        return find_analysis(job.slug).title
    except UnknownName:
        return job.slug


def state_words(job: Job, live: Sequence[Job] = ()) -> str:
    """Where a job stands, as one sentence (foreign text). ``live`` are all that wait or work, to tell its place in the line."""
    if job.is_live and job.stop_asked:
        return "Stopping; what is finished is kept."
    if job.status == "queued":
        return _waiting(job, live)
    if job.status == "running":
        return _working(job)
    took = f" after {duration(job.seconds)}" if job.started else ""
    if job.status == "done":
        return f"Done{took}."
    reason = job.words[:1].upper() + job.words[1:]
    said = "" if reason.startswith(_ENDED[job.status]) else f"{_ENDED[job.status]}{took}. "
    return f"{said}{reason}" + ("" if reason.endswith(".") else ".")


def _waiting(job: Job, live: Sequence[Job]) -> str:
    running = [one for one in live if one.status == "running"]
    ahead = sum(one.status == "queued" and one.place < job.place for one in live)
    if not running and not ahead:
        return f"{job.words[:1].upper()}{job.words[1:]}." if job.words else "About to begin."
    place = _ORDINALS[ahead] if ahead < len(_ORDINALS) else f"number {ahead + 1}"
    behind = f", behind {'; '.join(f'{title_of(one)} of {shown(one.model)}' for one in running)}" if running else ""
    return f"Waiting: {place} in line{behind}. It begins by itself."


def _working(job: Job) -> str:
    words = job.what[:1].upper() + job.what[1:] or "Starting"
    if job.total > 1:
        words += f": {number(round(job.done, 1))} of {number(job.total)}"
    left = f"about {duration(max(1, round(job.seconds_left)))} left" if job.seconds_left is not None else "time left not known yet"
    return f"{words}; {duration(job.seconds)} passed, {left}."


def bar(job: Job, live: Sequence[Job] = ()) -> None:
    """How far a live job is, as a bar with its sentence."""
    st.progress(job.share or 0.0, text=plain(state_words(job, live)))


def settings_query(job: Job) -> dict[str, str]:
    """The part of the start page's address that fills its form as this job was asked for."""
    asked = {"data": job.data or "", "device": str(job.spec.get("device") or "")}
    chosen = {name: str(value) for name, value in changed(job.slug, job.config).items()}
    return {"analysis": job.slug or "", "model": job.model} | {name: one for name, one in asked.items() if one} | chosen


def changed(slug: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from their defaults; all of them where the analysis is not registered."""
    try:
        defaults = {one.name: one.default for one in settings_of(find_analysis(slug).config)} if slug else {}
    except UnknownName:
        defaults = {}
    return {name: value for name, value in config.items() if name not in defaults or defaults[name] != value}


def command_of(job: Job) -> str:
    """The command line that asks for the same."""
    if job.slug is None:
        return data.command_line("inspect", job.model)
    more: dict[str, Any] = {"data": job.data} if job.data else {}
    if job.spec.get("device") not in (None, "cpu"):
        more["device"] = job.spec["device"]
    return data.command(job.slug, job.model, **more, **changed(job.slug, job.config))


# -- lists ------------------------------------------------------------------------------------------------------------


def live_jobs() -> list[Job]:
    """Those that wait or work, in the order they are served."""
    return sorted(data.desk().list(LIVE), key=lambda job: (job.status != "running", job.place))


def live_list() -> int:
    """Those at work and waiting, each with its bar, followed second by second; how many there are.

    The page is drawn anew when one ends, and when one begins that was asked for elsewhere, even if it is over by then.
    """
    seen = jobs_seen()
    st.fragment(_follow, run_every=POLL_S if seen.live else IDLE_S)(seen)
    return len(seen.live)


@dataclass(frozen=True)
class Seen:
    """What a list of jobs at work was drawn from."""

    live: frozenset[str]
    newest: str | None
    """The job that was asked for last, whatever became of it."""


def jobs_seen() -> Seen:
    """How the catalogue stands now: two small questions to it."""
    desk = data.desk()
    live = frozenset(job.id for job in desk.list(LIVE))
    return Seen(live, next((job.id for job in desk.table.all(limit=1)), None))


def _follow(seen: Seen) -> None:
    if jobs_seen() != seen:
        st.rerun()
    live = live_jobs() if seen.live else []
    for job in live:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                job_link(job)
                stop_control(job)
            bar(job, live)


def job_link(job: Job) -> None:
    """The way to a job's own page."""
    label = f"**{plain(title_of(job))}** · {code(shown(job.model))}"
    st.page_link(JOB_PAGE, label=label, icon=f":material/{_ICONS.get(job.status, 'hourglass')}:", query_params={"job": job.id})


# -- doing ------------------------------------------------------------------------------------------------------------


def stop_control(job: Job) -> None:
    """A button that asks before it stops a live job."""
    with st.popover("Cancel", icon=":material/stop_circle:", type="tertiary", disabled=job.stop_asked is not None, key=f"ask-{job.id}"):
        st.markdown("Stop this job? What it has finished is kept, and it can be resumed.")
        if st.button("Stop it", type="primary", key=f"stop-{job.id}"):
            try:
                with st.spinner("Stopping …"):
                    data.desk().cancel(job.id)
            except (UserError, StoreError) as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun()


def resume_control(job: Job, *, primary: bool = True) -> None:
    """A button that goes on with a job that ended without a result, and leads to the new job's page."""
    if st.button("Resume", icon=":material/play_circle:", type="primary" if primary else "tertiary", key=f"resume-{job.id}"):
        try:
            again = data.desk().resume(job.id)
        except (UserError, StoreError) as error:
            st.error(plain(error), icon=":material/error:")
        else:
            st.switch_page(JOB_PAGE, query_params={"job": again.id})


def remove_control(job: Job) -> None:
    """A button that forgets a job that has ended, and its log."""
    if st.button(
        "Forget", icon=":material/delete:", type="tertiary", key=f"forget-{job.id}", help="Removes it from this list, and its log."
    ):
        try:
            data.desk().remove(job.id)
        except (UserError, StoreError) as error:
            st.error(plain(error), icon=":material/error:")
        else:
            st.rerun()


def log_of(job: Job, tail: int) -> str:
    """The end of a job's log with control characters made visible, to be shown as text."""
    lines = data.desk().log(job.id, tail).replace("\r", "\n").split("\n")
    return "\n".join(visible(line) for line in lines if line.strip())


def run_of(job: Job) -> RunInfo | None:
    """What a job has made; None where it made nothing, or it was deleted since."""
    return data.chosen_run(job.run) if job.run else None


def ended_line(job: Job) -> None:
    """A job that has ended, in a list: the way to its page, and how it ended."""
    with st.container(gap=None):
        job_link(job)
        st.caption(f"{plain(state_words(job))} · {plain(job.origin)} · job {plain(job.id)}")
