"""Time beside cost: what really smaller models of the same weights take, from the newest `measured_gain` run."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.sensitivity.gain_tables import COUNTS_WHAT, draw_gain
from figures.screen import PLOTLY_CONFIG
from figures.spec import FigureError, FigureSpec
from store import RunInfo
from ui import data
from ui.charts import export_menu
from ui.links import RUN_PAGE, START_PAGE, run_query
from ui.runs import beside, reference_of
from ui.words import plain

SLUG = "measured_gain"
_GREY = "rgba(128,128,128,0.9)"


def gains(of: RunInfo) -> None:
    """Two panels, a table, and what could not be cut; without a run the way to one."""
    st.markdown("## Cost and time")
    run = beside(of, SLUG, "gains")
    if run is None:
        _how_to(reference_of(of))
        return
    rows: Any = data.rows(run, "gains")
    facts = run.provenance.get("facts") or {}
    st.markdown(
        f"Costs are counted. With units cut out of its tensors the model was timed, too, on {plain(facts.get('machine', 'this machine'))}: "
        "where a point lies above the line, the machine saves less than the count says."
    )
    for column, phase in zip(st.columns(2, gap="medium"), COUNTS_WHAT, strict=True):
        with column:
            _panel(run, rows, phase)
    _table(rows)
    for row in run.summaries.get("not_cut", ()):
        st.markdown(f"- Not cut, {plain(row['unit'])}: {plain(row['reason'])}")
    st.page_link(RUN_PAGE, label="The run that took the times", icon=":material/analytics:", query_params=run_query(run))


def _how_to(model: str) -> None:
    st.markdown(
        "Costs above are counted, not timed. What heads, neurons, blocks, ranks and dimensions gain in time when they are really cut out "
        "of the tensors has not been measured on this model."
    )
    st.page_link(START_PAGE, label="Measure it", icon=":material/timer:", query_params={"analysis": SLUG, "model": model})
    st.code(data.command(SLUG, model), language=None, wrap_lines=True)


def _panel(run: RunInfo, rows: Any, phase: str) -> None:
    try:
        spec = draw_gain(phase, rows, run.provenance)
    except FigureError as error:
        st.markdown(f"**{phase.capitalize()}**")
        st.caption(plain(error))
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{phase.capitalize()}, B = 1, at {int(spec.data['context'].iloc[0]):,} positions**")
        export_menu(spec, run.provenance, name=f"gain-{phase}", key=f"gain-{phase}")
    st.plotly_chart(diagonal(spec), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=f"gain-{run.id}-{phase}")
    st.caption(" ".join(plain(one) for one in (spec.sentence, *(spec.notes if phase == "decode" else ()))))


def diagonal(spec: FigureSpec) -> Any:
    """The points with their intervals, a thin line through the levels of each unit, and the line on which cost and time are the same."""
    import plotly.graph_objects as go

    from figures.screen import to_plotly

    figure: Any = to_plotly(spec)
    data: Any = spec.data
    for trace in figure.data:
        rows = data.iloc[[one[0] for one in trace.customdata]]
        if rows["low"].notna().all():
            up, down = rows["high"] - rows["measured"], rows["measured"] - rows["low"]
            trace.error_y = {"type": "data", "array": up.tolist(), "arrayminus": down.tolist(), "width": 3, "thickness": 1}
        trace.update(mode="markers+lines", line={"width": 1})
    right = 1.05 * max(1.0, float(data["counted"].max()))
    measured = max(1.0, float(data["measured"].max()))
    top = 1.05 * max(measured, min(2 * measured, float(data["high"].fillna(0.0).max())))  # one wild interval must not flatten all
    ends = [0, min(right, top)]
    same = go.Scatter(
        x=ends, y=ends, mode="lines", line={"color": _GREY, "width": 1, "dash": "dot"}, hoverinfo="skip", name="time as counted"
    )
    figure.add_trace(same)
    figure.update_xaxes(tickformat=".0%", range=[0, right])
    figure.update_yaxes(tickformat=".0%", range=[0, top])
    figure.update_layout(height=400, margin={"t": 10}, legend={"y": -0.22, "yanchor": "top"})
    return figure


def _table(rows: Any) -> None:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = {
        "unit": text("Cut out"), "phase": text("Of"), "achieved": number("Gone", format="percent"),
        "parameters": number("Parameters left", format="percent", help="Of the whole model, embedding and head included"),
        "counted": number("Cost left", format="percent", help="FLOPs of a pass, or bytes of a decoded token"),
        "measured": number("Time left", format="percent", help="Median of the turns' own ratios"),
        "low": number("from", format="percent", help="Lower end of its 95 % interval over turns"),
        "high": number("to", format="percent", help="Upper end of it"),
        "dense_seconds": number("Dense", format="%.3g s"), "smaller_seconds": number("Smaller", format="%.3g s"),
        "method": text("Intervention", help="Of the planes above, with the same cost"),
    }  # fmt: skip
    st.dataframe(
        rows.sort_values(["phase", "unit", "level"], ascending=[False, True, True])[list(config)], hide_index=True, column_config=config,
        placeholder="—", alt="One row per unit, level and phase: what is gone, what the cost says is left, and what is left of the time.",
    )  # fmt: skip
