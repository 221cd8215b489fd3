"""Layer by layer: small pictures of what each layer's parts cost when they are pruned alone, from `matrix_sensitivity` of these weights."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from analysis.sensitivity.curve_figures import FLOOR
from analysis.sensitivity.matrix_figures import ALONE, WHOLES, draw_grid, draw_parts
from figures.palettes import Ink, inks
from figures.screen import PLOTLY_CONFIG
from figures.spec import FigureError
from store import Filter, RunInfo
from ui import data
from ui.charts import export_menu
from ui.links import SENSITIVITY_PAGE, START_PAGE
from ui.runs import readable, reference_of, weights_of
from ui.words import count, plain

SLUG = "matrix_sensitivity"
UNITS = "heads, ffn, sublayers, blocks"
KIND = "layers_of"
NAMES = {"sublayer": "sublayers", "block": "blocks", "head": "heads", "ffn group": "groups of neurons", "matrix": "matrices"}
WIDE, MANY = 6, 12
"""Pictures in a row; lines of a picture that have a name each."""
_FAINT = "rgba(128,128,128,0.25)"
_DASHES = ("solid", "dash", "dot", "dashdot")


def runs_of(weights: str) -> dict[str, RunInfo]:
    """By kind of unit the newest sealed run that measured it on these weights."""
    found: dict[str, RunInfo] = {}
    for run in readable(SLUG):
        if weights_of(run) == weights:
            for kind in sorted({row["kind"] for row in run.summaries.get("matrix_ranking", ()) if row["rank"] is not None}):
                found.setdefault(kind, run)
    return {kind: found[kind] for kind in NAMES if kind in found}


def layers(of: RunInfo) -> None:
    """A picture for each layer; without a run the way to one."""
    st.markdown("## Layer by layer")
    known = runs_of(weights_of(of))
    if not known:
        _how_to(reference_of(of))
        return
    kind = next(iter(known))
    if len(known) > 1:
        kind = st.segmented_control("Pruned alone", list(known), default=kind, required=True, key=KIND, bind="query-params",
                                    format_func=lambda one: NAMES[one]) or kind  # fmt: skip
    run = known[kind]
    rows: Any = data.rows(run, "matrix_points", where=(Filter("kind", "=", kind),))
    rows = rows[rows["layer"].notna() & rows["delta"].notna()]
    try:
        spec = (draw_grid if kind == "matrix" else draw_parts)(rows, run.provenance)
    except FigureError as error:
        st.caption(plain(error))
        return
    with st.container(horizontal=True, horizontal_alignment="right"):
        export_menu(spec, run.provenance, name=f"plane-layers-{kind}".replace(" ", "-"), key="layers")
    first = rows.iloc[0]
    said = (
        f"Increase of the loss with a share of one of the {count(rows['tensor'].nunique(), NAMES[kind].removesuffix('s'))} removed, in "
        f"{count(rows['layer'].nunique(), 'layer')}; {int(first['n']):,} positions of {int(first['n_documents']):,} documents, "
        f"{first['split']} of {run.data}. All pictures have the same axes; below {FLOOR:g}, lowered losses among them, drawn at {FLOOR:g}."
    )
    st.plotly_chart(small_multiples(rows, kind, str(first["unit"])), config=dict(PLOTLY_CONFIG), alt=said, key=f"layers-{run.id}-{kind}")
    st.caption(plain(f"{said} {ALONE} Exported is the map of all at one level."))
    st.page_link(SENSITIVITY_PAGE, label="Each one alone, ranked", icon=":material/trending_up:", query_params={"model": reference_of(of)})


def _how_to(model: str) -> None:
    st.markdown("What heads, groups of neurons, sublayers and blocks cost when each is removed alone has not been measured on this model.")
    query = {"analysis": SLUG, "model": model, "units": UNITS}  # the form starts what the command does
    st.page_link(START_PAGE, label="Measure it", icon=":material/play_arrow:", query_params=query)
    st.code(data.command(SLUG, model, units=UNITS), language=None, wrap_lines=True)


def lines_of(rows: Any, kind: str) -> Any:
    """The rows with ``line``: which of its layer's a part is, by role or by number."""
    if kind in (*WHOLES, "matrix"):
        return rows.assign(line=rows["role"])
    names = rows.drop_duplicates("tensor")
    numbers = dict(zip(names["tensor"], names.groupby("layer").cumcount(), strict=True))
    return rows.assign(line=[f"{kind} {numbers[one]}" for one in rows["tensor"]])


def small_multiples(rows: Any, kind: str, unit: str = "") -> Any:
    """Loss over the share removed, a picture for each layer, all on the same axes."""
    from plotly.subplots import make_subplots

    rows = lines_of(rows, kind).sort_values(["layer", "level"])
    numbers = sorted(int(one) for one in rows["layer"].unique())
    across = min(WIDE, len(numbers))
    down = -(-len(numbers) // across)
    figure: Any = make_subplots(
        down, across, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.012, vertical_spacing=min(0.2, 0.45 / down),
        subplot_titles=[f"layer {one}" for one in numbers], x_title="Removed (share of it)", y_title=f"Loss above dense ({unit})",
    )  # fmt: skip
    names = list(dict.fromkeys(rows["line"]))
    known = dict(zip(names, inks("qualitative", names), strict=True))
    shown: set[str] = set()
    for place, number in enumerate(numbers):
        for name, own in rows[rows["layer"] == number].groupby("line", sort=False):
            figure.add_trace(
                _line(own, str(name), known[str(name)], name not in shown and len(names) <= MANY), 1 + place // across, 1 + place % across
            )
            shown.add(str(name))
    top = max(float(rows["delta"].max()), 10 * FLOOR)
    powers = range(round(math.log10(FLOOR)), math.ceil(math.log10(top)) + 1)
    figure.update_xaxes(range=[-0.05, 1.05], tickvals=[0, 0.5, 1], ticktext=["", "50%", ""], showgrid=True, gridcolor=_FAINT)
    figure.update_yaxes(
        type="log", range=[math.log10(0.6 * FLOOR), math.log10(2 * top)], tickvals=[10.0**one for one in powers],
        ticktext=[f"10<sup>{one}</sup>" for one in powers], showgrid=True, gridcolor=_FAINT, zeroline=False,
    )  # fmt: skip
    figure.update_annotations(font={"size": 11})
    below = 46 / (90 + 118 * down)
    figure.update_layout(
        height=110 + 118 * down, margin={"t": 30, "l": 60, "r": 10, "b": 60}, hovermode="closest",
        legend={"orientation": "h", "y": -below - 0.02, "yanchor": "top", "title": {"text": ""}},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
    return figure


def _line(own: Any, name: str, ink: Ink, legend: bool) -> Any:
    """One part of one layer, from nothing removed on."""
    import plotly.graph_objects as go

    from figures.screen_layout import plain as escaped

    def between(low: float | None, high: float | None) -> str:
        return f" [{low:+.3g}, {high:+.3g}]" if low is not None and high is not None and low == low else ""  # noqa: PLR0124 - NULL is NaN

    said = [f"{escaped(row.tensor)}<br>{row.level:.0%} removed: {row.delta:+.3g}{between(row.low, row.high)}" for row in own.itertuples()]
    heights = [max(one, FLOOR) for one in own["delta"]]
    return go.Scatter(
        x=[0.0, *own["level"]], y=[FLOOR, *heights], mode="lines+markers", marker={"size": 4},
        line={"color": ink.colour, "width": 1.2, "dash": _DASHES[ink.dash]},
        name=name, legendgroup=name, showlegend=legend, text=["nothing removed", *said], hoverinfo="text",
    )  # fmt: skip
