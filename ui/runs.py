"""Which runs a page draws from: those of an analysis, those beside a run on the same weights, and the one chosen from a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from analysis import find_analysis
from analysis.models import BUNDLED
from figures.words import visible
from store import RunInfo
from ui import data
from ui.paging import first_page
from ui.words import moment

WEIGHTS = "weight_sparsity"
NEURONS = "neuron_activity"
HEADS = "head_sparsity"
CURVES = "essential_sparsity"
MATRICES = "matrix_sensitivity"


def readable(slug: str) -> list[RunInfo]:
    """Sealed runs of an analysis that count, newest first; those of another version have other tables and are left out."""
    version = find_analysis(slug).version
    return [run for run in data.current_runs(slug) if run.version == version]


def sealed(reference: str | None, slug: str, table: str) -> RunInfo | None:
    """The sealed run of an analysis that an address names, whatever its age; None where there is none that has this table."""
    found = data.chosen_run(reference) if reference else None
    return found if found is not None and found.slug == slug and found.status == "sealed" and table in found.rows else None


def weights_of(run: RunInfo, role: str = "model") -> str:
    """The fingerprint of the weights of one input of a run."""
    prints = (run.provenance.get("fingerprints") or {}).get(role) or {}
    return str(prints.get("weights") or (run.model if role == "model" else ""))


def beside(run: RunInfo, slug: str, table: str | None = None) -> RunInfo | None:
    """The newest run of another analysis on the same weights; where a table is named, one that has rows of it."""
    same = (one for one in readable(slug) if weights_of(one) == weights_of(run))
    return next((one for one in same if table is None or one.rows.get(table)), None)


def reference_of(run: RunInfo) -> str:
    """What the model can be asked for by: a bundled name, or where its files are."""
    return run.model if run.model in BUNDLED else str(run.provenance.get("model_source") or run.model)


def run_label(run: RunInfo) -> str:
    """A run in the list of those to choose from (text, no Markdown)."""
    return visible(" · ".join(filter(None, (run.model, run.data, moment(run.started)))))


def run_picker(
    known: Mapping[str, RunInfo],
    asked: str | None,
    *,
    key: str,
    label: str = "Model and data",
    forget: Callable[[], None] | None = None,
    name: Callable[[str], str] | None = None,
) -> RunInfo:
    """Which of the runs, by id. The address always names it, so that a link stays with its run when newer ones come.

    Another run has other layers and other values: ``forget`` drops of the old view what may not fit it. ``name``: what the run of an id
    is called in the list, where not by its model and data.
    """
    ids = list(known)
    first = ids.index(asked) if asked is not None and asked in known else 0
    called = name or (lambda one: run_label(known[one]))
    chosen = st.selectbox(label, ids, first, format_func=called, key=key, on_change=_other_run, args=(key, forget))
    if st.query_params.get("run") != chosen:  # an address that is written for nothing can cross a click that is on its way
        st.query_params["run"] = chosen
    return known[chosen]


def _other_run(key: str, forget: Callable[[], None] | None) -> None:
    st.query_params["run"] = st.session_state[key]
    if forget is not None:
        forget()
    first_page()
