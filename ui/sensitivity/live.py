"""A curve that grows while its job is at work: the committed parts of its run, marked unfinished wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from analysis import find_analysis
from analysis.jobs import Job
from analysis.spec import Figure
from figures.spec import FigureSpec, NothingToDraw
from store import Unfinished
from ui import data
from ui.jobs import POLL_S, bar, job_link, live_jobs, stop_control
from ui.sensitivity.words import so_far
from ui.words import count, plain

PLANE = "sparsity_plane"
GROWING: Mapping[str, tuple[str, ...]] = {
    "essential_sparsity": ("curve",),
    "matrix_sensitivity": ("grid",),
    PLANE: ("prefill", "decode", "achieved"),
}
"""Analyses whose unfinished parts can be looked at, and which figures show them."""
CURVES = ("essential_sparsity", "matrix_sensitivity")
"""Those that the page of curves follows."""


def growing(job: Job) -> Unfinished | None:
    """What the run of a job has committed so far; None where it has nothing, cannot be shown, or is sealed."""
    return data.store().unfinished(job.key) if job.key and job.slug in GROWING else None


def show_growing(job: Job, *, key: str) -> None:
    """The figure over the rows so far, with the word unfinished; nothing while there are none."""
    parts = growing(job)
    if parts is None or job.slug is None:
        return
    figures = [find_analysis(job.slug).figure(slug) for slug in GROWING[job.slug]]
    tables = {figure.table: parts.rows(figure.table) for figure in figures}
    first = tables[figures[0].table]
    if first is None:
        if job.is_live:
            st.caption("The picture appears here with its first point, and grows point by point.")
        return
    specs = _drawn(figures, tables, parts.record)
    if not specs:
        return
    st.markdown("### So far")
    state = (
        ":orange-badge[:material/hourglass: Unfinished]" if job.is_live else ":orange-badge[:material/pause_circle: Unfinished, stopped]"
    )
    st.markdown(f"{state} {plain(_said(first))}")
    _show(specs, key)
    st.caption("Drop points, fronts and ranks come at the end, when everything is there.")


def _drawn(figures: Sequence[Figure], tables: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, FigureSpec]:
    """Those of the figures that have something to draw, with the word unfinished in front of all they say."""
    made = {}
    for figure in figures:
        try:
            spec = figure.draw(tables[figure.table], record)
        except NothingToDraw:
            continue
        made[figure.slug] = replace(spec, title=f"Unfinished: {spec.title}", sentence=f"Unfinished: {spec.sentence}")
    return made


def _show(specs: Mapping[str, FigureSpec], key: str) -> None:
    """One figure by itself, several two in a row."""
    from figures.screen import PLOTLY_CONFIG, to_plotly

    several = len(specs) > 1
    places = st.columns(2, gap="medium") if several else [st.container()]
    for number, (slug, spec) in enumerate(specs.items()):
        with places[number % len(places)]:
            st.plotly_chart(to_plotly(spec), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=f"{key}-{slug}" if several else key)
            st.caption(plain(spec.sentence))


def _said(rows: Any) -> str:
    """How far it is: of each curve the levels, of a grid its matrices."""
    from analysis.sensitivity.choices import NATS
    from analysis.sensitivity.curve_rows import curve_label
    from analysis.sensitivity.tables import KEY

    if "phase" in rows:
        levels = rows[rows["level"] > 0].drop_duplicates(["method", "seed", "level"])
        return f"{count(levels['method'].nunique(), 'intervention')} begun, {count(len(levels), 'level')} measured."
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
