"""A curve that grows while its job is at work: the committed parts of its run, marked unfinished wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from analysis import find_analysis
from analysis.jobs import Job
from figures.spec import NothingToDraw
from store import Unfinished
from ui import data
from ui.jobs import POLL_S, bar, job_link, live_jobs, stop_control
from ui.sensitivity.words import so_far
from ui.words import count, plain

GROWING: Mapping[str, str] = {"essential_sparsity": "curve", "matrix_sensitivity": "grid"}
"""Analyses whose unfinished parts can be looked at, and which figure shows them."""


def growing(job: Job) -> Unfinished | None:
    """What the run of a job has committed so far; None where it has nothing, cannot be shown, or is sealed."""
    return data.store().unfinished(job.key) if job.key and job.slug in GROWING else None


def show_growing(job: Job, *, key: str) -> None:
    """The figure over the rows so far, with the word unfinished; nothing while there are none."""
    parts = growing(job)
    if parts is None or job.slug is None:
        return
    figure = find_analysis(job.slug).figure(GROWING[job.slug])
    rows = parts.rows(figure.table)
    if rows is None:
        if job.is_live:
            st.caption("The picture appears here with its first point, and grows point by point.")
        return
    from figures.screen import PLOTLY_CONFIG, to_plotly

    try:
        spec = figure.draw(rows, parts.record)
    except NothingToDraw:
        return
    st.markdown("### So far")
    state = (
        ":orange-badge[:material/hourglass: Unfinished]" if job.is_live else ":orange-badge[:material/pause_circle: Unfinished, stopped]"
    )
    st.markdown(f"{state} {plain(_said(rows))}")
    spec = replace(spec, title=f"Unfinished: {spec.title}", sentence=f"Unfinished: {spec.sentence}")
    st.plotly_chart(to_plotly(spec), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key)
    st.caption(f"{plain(spec.sentence)} Drop points and ranks come at the end, when everything is there.")


def _said(rows: Any) -> str:
    """How far it is: of each curve the levels, of a grid its matrices."""
    from analysis.sensitivity.choices import NATS
    from analysis.sensitivity.curve_rows import curve_label
    from analysis.sensitivity.tables import KEY

    if "method" not in rows or "scope" not in rows:
        return f"{count(rows['tensor'].nunique(), 'place')} measured, at {count(len(rows), 'point')}."
    loss = rows[rows["metric"] == "loss"].sort_values("level")
    nats = NATS if str(loss["unit"].iloc[0]).startswith("nats") else ()
    parts = [(curve_label(dict(zip(KEY, key, strict=True))), part) for key, part in loss.groupby(list(KEY), sort=False)]
    return " ".join(f"{label}: {so_far(part, nats)}" for label, part in parts)


def at_work(slugs: tuple[str, ...]) -> list[Job]:
    """Jobs of these analyses that wait or work."""
    return [job for job in live_jobs() if job.slug in slugs]


def follow(jobs: list[Job]) -> None:
    """Each job with its bar and its growing curve, second by second; the page is drawn anew when one ends."""
    if jobs:
        st.fragment(_follow, run_every=POLL_S)(tuple(job.id for job in jobs))


def _follow(shown: tuple[str, ...]) -> None:
    live = live_jobs()
    here = [job for job in live if job.id in shown]
    if len(here) != len(shown):
        st.rerun()
    for job in here:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                job_link(job)
                stop_control(job)
            bar(job, live)
            show_growing(job, key=f"growing-{job.id}")
