"""A series of checkpoints: sparsity over steps with its jump marked, the tensors that changed most, the declared figures."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from analysis.drawing import draw
from analysis.spec import UserError
from figures.spec import FigureError, FigureSpec, Mark
from figures.words import visible
from store import Filter, Order, RunInfo, StoreError
from ui import data
from ui.charts import show_figure, show_spec
from ui.links import RUN_PAGE, START_PAGE, run_query
from ui.runs import readable, run_label
from ui.weights.rows import info_of, tensor_rows
from ui.weights.runs import TIMELINE, missing, series_with
from ui.words import plain

FIGURES = (
    ("schedule", "Beside the cubic schedule"), ("likeness", "Likeness to the checkpoint before"), ("pq_index", "PQ Index over steps"),
    ("change", "Change by layer"),
)  # fmt: skip
COLUMNS = (
    "tensor", "step", "layer", "kind", "zero_share", "near_zero_share", "below_share", "pq_index", "relative_change", "mask_overlap",
    "cosine", "norm_ratio", "n_new_zero", "n_revived",
)  # fmt: skip
ORDERS = {
    "change": Order("relative_change", descending=True), "mask overlap": Order("mask_overlap"), "cosine": Order("cosine"),
    "norm ratio": Order("norm_ratio", descending=True), "new zeros": Order("n_new_zero", descending=True),
    "revived": Order("n_revived", descending=True),
}  # fmt: skip
"""What the tensors of a step can be ordered by, those that changed most first."""


def show_series(run: RunInfo | None) -> None:
    """The series chosen: those that hold this model first; or how to measure one."""
    mine = series_with(run) if run is not None else []
    known = {one.id: one for one in [*mine, *readable(TIMELINE)]}
    if not known:
        st.markdown(
            f"No series of checkpoints has been measured yet. **{plain(missing(TIMELINE))}** takes a folder of them, each with its step in "
            "its name, such as `step_1000.safetensors`."
        )
        st.page_link(START_PAGE, label="Measure a series", icon=":material/play_arrow:", query_params={"analysis": TIMELINE})
        st.code(data.command(TIMELINE, "PATH_OF_THE_FOLDER"), language="bash", wrap_lines=True)
        return
    chosen = st.selectbox("Series", list(known), format_func=lambda one: visible(run_label(known[one])), key="series", bind="query-params")
    found = known.get(chosen) or next(iter(known.values()))
    if run is not None and found.id not in {one.id for one in mine}:
        st.caption(f"None of the series measured holds {plain(run.model)}; this one is of another model.")
    st.page_link(RUN_PAGE, label="The whole series", icon=":material/analytics:", query_params=run_query(found))
    try:
        spec, provenance = draw(data.store(), found, "sparsity")
        show_spec(marked(found, spec), provenance, name="series-sparsity", key="series-sparsity")
    except (UserError, StoreError, FigureError) as error:
        st.caption(f"Nothing to draw: {plain(error)}")
    _changed(run if found.id in {one.id for one in mine} else None, found)
    for slug, title in FIGURES:
        with st.container(border=True):
            show_figure(found, slug, title)
    facts = found.provenance.get("facts") or {}
    for said in (*facts.get("values", ()), facts.get("left_out")):
        if said:
            st.caption(plain(said))


def marked(run: RunInfo, spec: FigureSpec) -> FigureSpec:
    """With a line at every jump that stands out; where none does, the largest rise is named in a note."""
    jumps = run.summaries.get("timeline_jumps", [])
    abrupt = {row["step"]: row for row in jumps if row["is_abrupt"]}
    marks = tuple(Mark(step, f"jump of {100 * row['jump']:.0f} points") for step, row in sorted(abrupt.items()))
    if marks or not jumps:
        return replace(spec, marks=marks)
    most = max(jumps, key=lambda row: row["jump"])
    said = (
        f"No jump stands out; the largest rise is {100 * most['jump']:.1f} points, from step {most['before_step']:,} to {most['step']:,}."
    )
    return replace(spec, notes=(*spec.notes, said))


def _changed(run: RunInfo | None, found: RunInfo) -> None:
    steps = [row["step"] for row in found.summaries.get("timeline", []) if row["scope"] == "all weights"]
    if not steps:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.markdown("## Tensors by change since the checkpoint before")
        names = [str(step) for step in steps]
        jumps = [row["step"] for row in found.summaries.get("timeline_jumps", []) if row["is_abrupt"]]
        first = names.index(str(jumps[0])) if jumps else len(names) - 1
        by = st.selectbox("Measure", list(ORDERS), key="by", bind="query-params", width=160)
        step = st.selectbox("Step", names, first, key="step", bind="query-params", width=140)
    tensor_rows(
        found,
        info_of(found, "timeline_tensors", COLUMNS),
        run,
        where=(Filter("step", "=", int(step)),),
        order_by=(ORDERS[by],),
        key="series-tensors",
        nothing="This checkpoint has no tensors.",
    )
