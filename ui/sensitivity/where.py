"""Where the removed weights sit: layer by matrix at a measured level, one matrix closer, and what was in scope at all."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.sensitivity.curve_figures import draw_where
from figures.screen import PLOTLY_CONFIG
from store import Filter, RunInfo
from ui import data
from ui.charts import clickable, export_menu
from ui.neighbours import tensor_link
from ui.sensitivity.curves import Curve
from ui.sensitivity.words import scope_words
from ui.words import code, count, percent, plain

OUTSIDE = "outside"
"""Where matrices outside of the blocks stand in the map."""
TENSOR = "tensor"
"""The address' name for the matrix looked at."""


def where_they_sit(curve: Curve, eps: float | None) -> float:
    """The map at one measured level, which is returned; a click looks at that matrix."""
    levels = curve.of("loss")["level"].tolist()
    drop = curve.drop(eps) if eps is not None else None
    wanted = drop["level"] if drop is not None and drop["level"] is not None else 0.5
    usual = min(levels, key=lambda one: abs(one - wanted))
    texts = {percent(level): level for level in levels}
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("### Where the removed weights sit")
        menu = st.container(width="content")
    level = texts[_level_control(list(texts), percent(usual))]
    rows: Any = data.rows(curve.run, "pruned_where", where=(*curve.where, Filter("level", "=", level)))
    if not len(rows):
        st.caption("This run stored no counts of its matrices.")
        return level
    spec = draw_where(rows, curve.run.provenance)
    with menu:
        export_menu(spec, curve.run.provenance, name="sensitivity-where", key="where")
    figure = clickable(spec)
    key = f"where-{curve.run.id}-{curve.label}-{level}"
    st.session_state["_where"] = (key, _tensors(rows, spec.data))
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key, on_select=_choose, selection_mode="points")
    st.caption(f"{plain(spec.sentence)} Click a cell to look at that matrix.")
    matrix(curve, level, rows)
    return level


def _level_control(texts: list[str], usual: str) -> str:
    if len(texts) == 1:
        return texts[0]
    return st.select_slider("Measured level", texts, usual, key="at", bind="query-params", help="Only levels that were measured.")


def _tensors(rows: Any, cells: Any) -> list[str]:
    """The largest tensor of every cell: stacks of experts and the like share one."""
    largest: dict[tuple[str, str], str] = {}
    for row in rows.sort_values("n_weights").to_dict("records"):
        place = str(int(row["layer"])) if row["layer"] == row["layer"] and row["layer"] is not None else OUTSIDE
        largest[place, row["role"]] = str(row["tensor"])
    return [largest[key] for key in zip(cells["place"], cells["role"], strict=True)]


def _choose() -> None:
    key, tensors = st.session_state["_where"]
    chosen = st.session_state[key]["selection"]["points"]
    if chosen:
        row = chosen[0]["customdata"]
        st.session_state[TENSOR] = tensors[int(row[0] if isinstance(row, (list, tuple)) else row["0"] if isinstance(row, dict) else row)]


def matrix(curve: Curve, level: float, rows: Any) -> None:
    """One matrix: chosen by name or by a click, with the way to its own page."""
    names = sorted(rows["tensor"])
    name = st.selectbox("Matrix", names, None, placeholder="click a cell, or choose one", key=TENSOR, bind="query-params", format_func=str)
    if name is None:
        return
    row = rows[rows["tensor"] == name].iloc[0]
    share = f"{percent(row['zero_share'])} of its {count(int(row['n_weights']), 'weight')}"
    already = f", {int(row['n_already_zero']):,} of them zero in the dense model" if row["n_already_zero"] else ""
    st.markdown(f"**{code(name)}**: with {percent(level)} of the scope removed, {share} are zero ({int(row['n_zero']):,}{already}).")
    tensor_link(curve.run, name)


def scope(run: RunInfo) -> None:
    """What was in scope, and everything that was left alone with the reason."""
    rows: Any = data.rows(run, "scope_tensors")
    if not len(rows):
        return
    inside, outside = rows[rows["in_scope"]], rows[~rows["in_scope"].astype(bool)]
    said = scope_words(len(inside), int(inside["n_weights"].sum()), len(outside), int(outside["n_weights"].sum()))
    with st.expander(f"Scope: {plain(said)}", icon=":material/filter_center_focus:"):
        for reason, part in outside.groupby("reason", sort=False):
            names = ", ".join(code(name) for name in part["tensor"].tolist()[:6])
            more = f" and {count(len(part) - 6, 'other')}" if len(part) > 6 else ""
            st.markdown(f"- {plain(reason)}: {count(int(part['n_weights'].sum()), 'parameter')} of {names}{more}")
        if not len(outside):
            st.markdown("Nothing was left alone.")
