"""The parts of the sensitivity page: answers, the curves, differences between methods, and the states in which there is nothing to show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from analysis.sensitivity.curve_figures import ONE_SHOT
from figures.screen import PLOTLY_CONFIG
from figures.spec import FigureError
from store import RunInfo
from ui import data
from ui.charts import export_menu
from ui.links import RUN_PAGE, START_PAGE, run_query
from ui.sensitivity.curves import LOSS, SLUG, Curve, Measure
from ui.sensitivity.figure import comparable, draw, picture
from ui.sensitivity.words import answer, worth
from ui.tables import column_config, readable
from ui.words import code, plain


def nothing_yet(model: str | None) -> None:
    """No run: what this page would show, and the way to it."""
    of = f" of {code(model)}" if model else ""
    st.markdown(
        f"Nobody has yet measured how much of the weights{of} can go. The analysis removes more and more of them and measures the loss "
        "each time: a curve, and the share up to which the model does not notice, with an interval."
    )
    asked = model or "smollm2"
    query = {"analysis": SLUG, "model": asked}
    st.page_link(START_PAGE, label=f"Measure it on {code(asked)}", icon=":material/play_arrow:", query_params=query)
    st.code(data.command(SLUG, asked), language=None, wrap_lines=True)


def answers(curves: list[Curve], eps: float | None) -> None:
    """What each curve says about the tolerance, and what that is worth."""
    if eps is None:
        st.markdown("Patterns only: they have no continuum, so no drop point.")
    lines = [f"- **{plain(curve.label)}**: {plain(answer(curve, eps or 0.0))}." for curve in curves]
    st.markdown("\n".join(lines))
    said = dict.fromkeys(sentence for curve in curves for sentence in worth(curve))
    st.caption(" ".join(plain(one) for one in (*said, ONE_SHOT)))


def curves_chart(curves: list[Curve], measure: Measure, eps: float | None) -> None:
    """All curves on one pair of axes."""
    shown, others = comparable([curve for curve in curves if len(curve.of(measure.metric))])
    try:
        made = picture(shown, measure, eps)
        figure = draw(made)
    except FigureError as error:
        st.warning(f"This picture cannot be drawn: {plain(error)}", icon=":material/warning:")
        return
    provenance = shown[0].run.provenance
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {plain(made.spec.title)}")
        export_menu(made.spec, provenance, name=f"sensitivity-{measure.slug}", key="curves")
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=made.spec.sentence, key="curves")
    st.markdown(plain(made.spec.sentence))
    for note in made.spec.notes:
        st.caption(plain(note))
    for curve in others:
        st.caption(f"{plain(curve.label)} is not drawn: its loss has another unit ({plain(curve.of(LOSS)['unit'].iloc[0])}).")


def differences(run: RunInfo) -> None:
    """Every pair of curves of a run, compared on the same draws of the same documents."""
    rows: Any = data.rows(run, "drop_differences") if run.rows.get("drop_differences") else None
    if rows is None:
        return
    st.markdown("## Differences between methods")
    info = next(one for one in data.tables(run) if one.name == "drop_differences")
    left = {"eps"} | ({"words"} if rows["difference"].notna().all() else set())
    info = replace(info, columns=tuple(column for column in info.columns if column.name not in left))
    eps = float(rows["eps"].iloc[0])
    rows = rows[[column.name for column in info.columns]]
    st.dataframe(
        readable(rows, info), hide_index=True, column_config=column_config(info), placeholder="—", height="content",
        alt="One row per pair of curves: the difference of their drop points with its 95 % interval.",
    )  # fmt: skip
    st.caption(
        f"s* of one minus s* of the other within {eps:g}. Paired ones share the bootstrap draws of their documents; an interval that "
        "leaves out 0 tells the two apart."
    )


def head(runs: list[RunInfo]) -> None:
    """Ways to the runs themselves."""
    with st.container(horizontal=True):
        for run in runs:
            label = f"Its run: {code(run.model)}" if len(runs) > 1 else "Its run, all tables"
            st.page_link(RUN_PAGE, label=label, icon=":material/analytics:", query_params=run_query(run))
