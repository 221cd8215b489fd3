"""Curves of two models on one pair of axes, and the interval of their difference where they are paired."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ui.compare.section import Pair
from ui.links import SENSITIVITY_PAGE
from ui.sensitivity.between import between_runs
from ui.sensitivity.curves import curves_of, is_drawable, measures, usual_tolerance
from ui.sensitivity.shown import answers, curves_chart
from ui.sensitivity.view import look, tolerance


def curves(pairs: Sequence[Pair], _closer: Pair | None) -> None:
    """All curves, the answers to the tolerance, and every pair of two runs by the interval of its difference."""
    runs = {run.id: run for run in (pairs[0].base, *(pair.run for pair in pairs)) if is_drawable(run)}
    if not runs:
        st.caption("These runs hold no curves as they are told apart today; run the analysis again.")
        return
    found = curves_of(list(runs.values()))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = look(measures(found))
        eps = tolerance(found)
    answers(found, eps if eps is not None else usual_tolerance(found))
    if any(len(curve.of(measure.metric)) for curve in found):
        curves_chart(found, measure, eps)
    between_runs(found[::-1], eps)  # second minus first, as everywhere on this page
    first, *others = runs
    query = {"run": first} | ({"with": ",".join(others)} if others else {})
    st.page_link(SENSITIVITY_PAGE, label="These curves closer", icon=":material/trending_up:", query_params=query)
