"""What the page of planes shows: run, filters, panels, scale and tolerance, each a widget whose key is its name in the address."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from analysis.interventions.entry import RUNS_ON, TARGETS
from store import RunInfo
from ui import data
from ui.runs import readable, run_picker, sealed
from ui.sensitivity.curves import LOSS
from ui.sensitivity.plane import PANELS, SLUG, View, batches, listed
from ui.words import count

RUN, MODEL, ONE, AT = "run", "model", "one", "at"
OF_ONE_RUN = ("target", "class", "interventions", "batch", "eps", ONE, AT, "level")
"""Parts of the address that mean little for another run."""
LOG, NEAR = "logarithmic", "near the tolerance"


def known_runs() -> dict[str, RunInfo]:
    """Runs with planes, newest first; the one that the address names, whatever its age; only those of a model that it names."""
    asked, model = st.query_params.get(RUN), st.query_params.get(MODEL)
    known = {run.id: run for run in readable(SLUG) if run.rows.get("plane_costs") and (asked or model in (None, run.model, _source(run)))}
    named = sealed(asked, SLUG, "plane_costs")
    return known if named is None else known | {named.id: named}


def _source(run: RunInfo) -> str:
    return str(run.provenance.get("model_source") or "")


def picked(known: dict[str, RunInfo]) -> RunInfo:
    """The run shown."""
    run = run_picker(known, st.query_params.get(RUN), key="planes_of", forget=_forget)
    if MODEL in st.query_params:
        del st.query_params[MODEL]
    return run


def _forget() -> None:
    for name in OF_ONE_RUN:
        st.query_params.pop(name, None)
        st.session_state.pop(name, None)


def controls(run: RunInfo, rows: Any) -> View:
    """The widgets above the planes."""
    there = [row for row in listed(run) if row["is_measured"]]
    targets = [one for one in TARGETS if any(row["target"] == one for row in there)]
    classes = [one for one in RUNS_ON if any(row["runs_on"] == one for row in there)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        on = st.pills("Acts on", targets, selection_mode="multi", key="target", bind="query-params")
        use = st.pills(
            "Can be used by", classes, selection_mode="multi", key="class", bind="query-params",
            help="What can turn it into speed: nothing yet (single weights), sparse tensor cores (2 of 4), block kernels, kernels that "
            "gather rows or keys, or any kernel, since what is left is a smaller dense model. Fronts are of one of them each.",
        )  # fmt: skip
    view = View(tuple(on), tuple(use))
    names = [row["method"] for row in there if view.keeps(_one(row)).all()]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Interventions",
            names,
            key="interventions",
            bind="query-params",
            placeholder=f"all {len(names)}" if names else "none",
            width=420,
        )
        panels = st.pills("Costs", list(PANELS), selection_mode="multi", default=["prefill", "decode"], key="costs", bind="query-params")
        view = replace(view, methods=tuple(chosen), phases=tuple(PANELS[one] for one in PANELS if one in panels) or ("prefill", "decode"))
        return _scales(run, rows, view)


def _one(row: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame([row])


def _scales(run: RunInfo, rows: Any, view: View) -> View:
    """Batch of decoding, tolerance, and how heights are drawn."""
    sizes = [str(one) for one in batches(rows)]
    if len(sizes) > 1:
        batch = st.segmented_control(
            "Decode batch", sizes, default=sizes[0], required=True, key="batch", bind="query-params",
            help="Sequences side by side. Each touches other rows, so what dynamic sparsity saves shrinks with the batch.",
        )  # fmt: skip
        view = replace(view, batch=int(batch or sizes[0]))
    drops = [row for row in run.summaries.get("drop_points", ()) if row["metric"] == LOSS]
    texts = {f"{eps:.4g}": eps for eps in sorted({row["eps"] for row in drops})}
    if texts:
        usual = next((f"{row['eps']:.4g}" for row in drops if row["is_headline"]), next(iter(texts)))
        eps = st.segmented_control("Tolerance", list(texts), default=usual, required=True, key="eps", bind="query-params")
        view = replace(view, eps=texts.get(eps or usual, texts[usual]))
    height = st.segmented_control("Loss", (LOG, NEAR), default=LOG, required=True, key="y", bind="query-params")
    return replace(view, near=height == NEAR and view.eps is not None)


def said(rows: Any, view: View) -> str:
    """How much of the run is shown, in words."""
    shown = rows[view.keeps(rows) & (rows["level"] > 0).to_numpy()]
    n, total = shown["method"].nunique(), rows["method"].nunique()
    levels = len(shown.drop_duplicates(["method", "seed", "level"]))
    shown_of = count(n, "intervention") if n == total else f"{n:,} of {count(total, 'intervention')}"
    return f"{shown_of} at {count(levels, 'level')} in all."


def command(model: str) -> str:
    """The command that measures planes."""
    return data.command(SLUG, model)
