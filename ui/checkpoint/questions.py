"""Which analyses can answer for a model and which not and why; what is at work for it; the button that starts the quick ones.

What an analysis itself said of the model when it was opened counts. Before that, the header alone tells what it can: a bare set of
weights cannot be run, and a series is not one checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from analysis import ANALYSES
from analysis.jobs import Job
from analysis.latents.sae_train import SAE_TRAIN
from analysis.models.files import Header
from analysis.models.files.header import quoted
from analysis.spec import Analysis, UserError, settings_of
from store import RunInfo, StoreError
from store.jobs import LIVE
from ui import data
from ui.cards import run_line, start_link
from ui.checkpoint.place import Asked
from ui.jobs import POLL_S, bar, job_link, live_jobs, state_words, stop_control, title_of
from ui.library import Entry, library
from ui.links import JOB_PAGE, browse_link
from ui.words import count, plain

State = Literal["answered", "at work", "can", "cannot", "open"]


@dataclass(frozen=True)
class Question:
    """An analysis, as it stands with one model."""

    analysis: Analysis
    state: State
    words: str = ""
    """Why it cannot be asked; or what is known so far (foreign text)."""
    run: RunInfo | None = None

    @property
    def is_quick(self) -> bool:
        """Whether one button may start it with others: it asks for this model alone, changes nothing in it, and trains nothing."""
        return self.analysis.inputs == ("model",) and self.analysis.kind != "causal" and self.analysis is not SAE_TRAIN


def questions(asked: Asked, header: Header | None, entry: Entry | None, live: Sequence[Job]) -> list[Question]:
    """Every analysis in the order of the registry."""
    at_work = {job.slug for job in live}
    found = []
    for analysis in ANALYSES:
        run = entry.newest.get(analysis.slug) if entry else None
        if analysis.slug in at_work:
            found.append(Question(analysis, "at work"))
        elif run is not None and run.version == analysis.version:
            found.append(Question(analysis, "answered", run=run))
        else:
            found.append(_asked(asked, header, analysis))
    return found


def _asked(asked: Asked, header: Header | None, analysis: Analysis) -> Question:
    said = asked.known.needs.get(analysis.slug) if asked.known else None
    if said is not None and said.version == analysis.version:
        return Question(analysis, "cannot" if said.words else "can", said.words or "")
    words = _by_header(asked, header, analysis) if header else None
    if words:
        return Question(analysis, "cannot", words)
    return Question(analysis, "open", "it runs the model" if analysis.reads_data else "it reads the weights alone")


def _by_header(asked: Asked, header: Header, analysis: Analysis) -> str | None:
    """Why it cannot be asked, as far as the header tells."""
    if header.refusal is not None:
        return header.refusal
    shape = analysis.wrong_shape(asked.shown, [one.path.name for one in header.steps])
    if shape is None and analysis.reads_data and not header.can_run:
        return next(iter(header.missing), "it must run the model, and only the weights are there.")
    return shape


def entry_of(asked: Asked) -> Entry | None:
    """The model in the library: its runs and what is known of it."""
    entries = library(data.runs(), data.store().models())
    return next((one for one in entries if asked.ref in (one.ref, *(known.ref for known in one.known))), None)


def jobs_of(asked: Asked) -> tuple[list[Job], list[Job]]:
    """The model's live jobs, and of every question the newest job where that has failed."""
    mine = [job for job in data.desk().list() if job.model == asked.ref]
    newest = {job.slug: job for job in reversed(mine)}
    return [job for job in mine if job.status in LIVE], [job for job in newest.values() if job.status in ("failed", "interrupted")]


# -- on the page ------------------------------------------------------------------------------------------------------


def follow(live: Sequence[Job]) -> None:
    """The model's jobs at work, followed second by second; the page is drawn anew when one ends."""
    if live:
        st.fragment(_follow, run_every=POLL_S)(tuple(job.id for job in live))


def _follow(shown: Sequence[str]) -> None:
    everything = live_jobs()
    mine = [job for job in everything if job.id in shown]
    if len(mine) != len(shown):
        st.rerun()
    shown_whole = [job for job in mine if job.status == "running"] or mine[:1]
    for job in shown_whole:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                job_link(job)
                stop_control(job)
            bar(job, everything)
    waiting = [job for job in mine if job not in shown_whole]
    if waiting:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("Waiting:", width="content")
            for job in waiting:
                st.page_link(JOB_PAGE, label=plain(title_of(job)), icon=":material/hourglass:", query_params={"job": job.id})


def show(asked: Asked, header: Header | None) -> None:
    """The questions of a model: what to start next, what is at work, what is answered, what cannot be asked and why."""
    entry = entry_of(asked)
    live, failed = jobs_of(asked)
    found = questions(asked, header, entry, live)
    st.header("Questions", anchor="questions")
    inspecting = any(job.slug is None for job in live)
    _failures(asked, failed)
    if any(one.state == "open" for one in found) and not inspecting:
        _offer_look(asked, found, again=any(job.slug is None for job in failed))
    _start_button(asked, [one for one in found if one.state == "can" and one.is_quick])
    follow(live)
    _listed(asked, found)


def _failures(asked: Asked, failed: Sequence[Job]) -> None:
    """What went wrong the last time, each with the way to its page."""
    for job in failed:
        words = state_words(job).replace(asked.ref, quoted(asked.shown))
        st.error(f"**{plain(title_of(job))}.** {plain(words)}", icon=":material/error:")
        st.page_link(JOB_PAGE, label="Its log, and how to go on", icon=":material/hourglass:", query_params={"job": job.id})


def _offer_look(asked: Asked, found: Sequence[Question], *, again: bool) -> None:
    n = sum(one.state == "open" for one in found)
    st.markdown(f"The headers do not tell whether {count(n, 'question')} can be asked. Opening the model does, and changes nothing in it.")
    label = "Look inside again" if again else "Look inside and ask every question"
    if st.button(label, icon=":material/search:", type="secondary" if again else "primary", key="look-inside"):
        _start(lambda: [data.desk().inspect(asked.ref)])


def _start_button(asked: Asked, quick: Sequence[Question]) -> None:
    if not quick:
        return
    settings = {one.analysis.slug: fitting(asked, one.analysis) for one in quick}
    label = f"Start the {count(len(quick), 'quick question')}"
    if st.button(label, icon=":material/play_arrow:", type="primary", key="start-quick"):
        _start(lambda: [data.desk().submit(slug, asked.ref, config=given) for slug, given in settings.items()])
    shorter = next((given["window"] for given in settings.values() if "window" in given), None)
    words = f"but windows of {shorter} tokens, which is all this model reads at once, " if shorter else ""
    st.caption(f"With every setting at its default, {words}one after the other. Each can be asked with settings of your own below.")


def fitting(asked: Asked, analysis: Analysis) -> dict[str, int]:
    """The settings that must not be at their default: the window, where the model reads no text of that length."""
    context = asked.known.facts.get("context_length") if asked.known else None
    window = next((one for one in settings_of(analysis.config) if one.name == "window"), None)
    return {"window": context} if window and isinstance(context, int) and 1 < context < window.default else {}


def _start(begin: Callable[[], Sequence[Job]]) -> None:
    try:
        begin()
    except (UserError, StoreError) as error:
        st.error(plain(error), icon=":material/error:")
    else:
        st.rerun()


def _listed(asked: Asked, found: Sequence[Question]) -> None:
    for state, heading in (("answered", "Answered"), ("can", "Can be asked"), ("open", "Not known yet"), ("cannot", "Cannot be asked")):
        of_it = [one for one in found if one.state == state]
        if not of_it:
            continue
        st.markdown(f"**{heading}**")
        if state == "cannot":
            _refused(of_it)
        else:
            for one in of_it:
                _question(asked, one)


def _refused(found: Sequence[Question]) -> None:
    """Those that cannot be asked; those with the same reason in one line."""
    reasons: dict[str, list[str]] = {}
    for one in found:
        reasons.setdefault(one.words, []).append(f"**{plain(one.analysis.title)}**")
    st.markdown("\n".join(f"- {', '.join(titles)}: {plain(words.rstrip('.'))}." for words, titles in reasons.items()))


def _question(asked: Asked, one: Question) -> None:
    if one.state == "answered" and one.run is not None:
        with st.container(horizontal=True, vertical_alignment="top", gap="small"):
            run_line(one.run)
            browse_link(one.run)
    else:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            start_link(one.analysis, asked.ref, plain(one.analysis.title))
            st.caption(plain(one.analysis.question + (f" ({one.words}.)" if one.words else "")))
