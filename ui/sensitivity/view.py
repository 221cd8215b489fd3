"""What the sensitivity page shows: runs, the way of looking, the tolerance and the curve looked at closer, all of it in the address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from figures.words import visible
from store import RunInfo
from ui import data, runs
from ui.runs import readable, reference_of
from ui.sensitivity.curves import SLUG, Curve, Measure, is_drawable, tolerances, usual_tolerance
from ui.words import moment

_RUN, _WITH = "model_and_data", "compared"
RUN, WITH, MODEL = "run", "with", "model"
OF_ONE_RUN = ("curve", "at", "level", "tensor", "eps", "y")
"""Parts of the address that mean nothing for another run."""


def known_runs() -> dict[str, RunInfo]:
    """Runs that can be shown, newest first, and the one that the address names, whatever its age."""
    known = {run.id: run for run in readable(SLUG) if is_drawable(run)}
    asked = st.query_params.get(RUN)
    if asked and asked not in known:
        found = data.chosen_run(asked)
        if found is not None and found.slug == SLUG and found.status == "sealed" and is_drawable(found):
            known[found.id] = found
    return known


def first_run(known: dict[str, RunInfo]) -> str | None:
    """The run of the address; else the newest one of the model in the address; else the newest."""
    asked, model = st.query_params.get(RUN), st.query_params.get(MODEL)
    if asked in known:
        return asked
    return next((one.id for one in known.values() if model is None or is_of(one, model)), None)


def is_of(run: RunInfo, model: str) -> bool:
    """Whether a run is of the model that an address names, by its name or as it is asked for."""
    return model in (run.model, reference_of(run))


def run_picker(known: dict[str, RunInfo], first: str) -> list[RunInfo]:
    """The run shown, and those it is compared with. The address always names them, so that a link stays with its runs."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = runs.run_picker(known, first, key=_RUN, forget=_forget, name=lambda one: run_label(known[one]))
        others = [one for one in known if one != chosen.id]
        asked = [one for one in st.query_params.get(WITH, "").split(",") if one in others]
        if others:
            asked = st.multiselect(
                "Compare with", others, asked, format_func=lambda one: run_label(known[one]), key=_WITH, on_change=_other_comparison,
                placeholder="another model, other data, other settings",
            )  # fmt: skip
    if MODEL in st.query_params:
        del st.query_params[MODEL]
    return [chosen, *(known[one] for one in asked)]


def _forget() -> None:
    """Another run has other curves and other levels: of the old view nothing stays."""
    for name in OF_ONE_RUN:
        st.query_params.pop(name, None)
        st.session_state.pop(name, None)
    st.query_params.pop(WITH, None)
    st.session_state.pop(_WITH, None)


def _other_comparison() -> None:
    chosen = st.session_state[_WITH]
    if chosen:
        st.query_params[WITH] = ",".join(chosen)
    else:
        st.query_params.pop(WITH, None)


def run_label(run: RunInfo) -> str:
    """A run in the list of those to choose from (text, no Markdown)."""
    methods = run.config.get("methods") or ""
    return visible(f"{run.model} · {run.data or 'no data'} · {methods} · {moment(run.started)}")


def look(known: dict[str, Measure]) -> Measure:
    """The way of looking at the curves."""
    titles = {measure.title: measure for measure in known.values()}
    chosen = st.segmented_control("Show", list(titles), default=next(iter(titles)), required=True, key="y", bind="query-params", wrap=True)
    return titles.get(chosen or "", next(iter(titles.values())))


def tolerance(curves: Sequence[Curve]) -> float | None:
    """The tolerance asked about; None where no run has any."""
    texts = {f"{eps:.4g}": eps for eps in tolerances(curves)}
    usual = usual_tolerance(curves)
    if not texts:
        return None
    first = next((text for text, eps in texts.items() if eps == usual), next(iter(texts)))
    chosen = st.segmented_control("Tolerance", list(texts), default=first, required=True, key="eps", bind="query-params")
    return texts.get(chosen or first, texts[first])


def closer(curves: Sequence[Curve]) -> Curve:
    """The curve looked at closer."""
    labels = {curve.label: curve for curve in curves}
    if len(labels) == 1:
        return curves[0]
    chosen = st.selectbox("Curve", list(labels), key="curve", bind="query-params", format_func=str, width=420)
    return labels[chosen]
