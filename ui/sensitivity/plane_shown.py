"""The parts of the page of planes: the panels, what is cheapest within the tolerance, shares removed, drop points, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import streamlit as st

from analysis.interventions.entry import TARGETS
from analysis.sensitivity.curve_figures import ONE_SHOT
from figures.screen import PLOTLY_CONFIG
from figures.spec import FigureError
from store import Filter, RunInfo
from ui import data
from ui.charts import export_menu, row_clicked
from ui.links import START_PAGE
from ui.sensitivity.curves import LOSS
from ui.sensitivity.plane import DECODE, HELD, PANELS, PREFILL, SLUG, Frame, Place, View, cheapest, contexts, measured, points
from ui.sensitivity.plane_draw import SHAPES, achieved_spec, by_target, draw_plane, plane_spec, reach, small
from ui.sensitivity.plane_view import AT, ONE, command
from ui.words import code, count, percent, plain

_NAMES = {phase: name for name, phase in PANELS.items()}


def nothing_yet(model: str | None) -> None:
    """No run: what this page would show, and the way to it."""
    of = f" of {code(model)}" if model else ""
    st.markdown(
        f"Weights, activations, attention, structure and tokens{of} have not been compared yet. The analysis makes each of them sparser "
        "by one intervention after the other and puts every level where it belongs: what it costs to run, and what it does to the loss."
    )
    asked = model or "smollm2"
    query = {"analysis": SLUG, "model": asked}
    st.page_link(START_PAGE, label=f"Measure it on {code(asked)}", icon=":material/play_arrow:", query_params=query)
    st.code(command(asked), language=None, wrap_lines=True)


@dataclass(frozen=True)
class Panel:
    """One of the planes: where, and what is there."""

    place: Place
    words: str
    found: Frame


def panels_of(run: RunInfo, rows: Frame, view: View) -> dict[int, list[Panel]]:
    """By context: a panel for each cost asked for."""
    made = {}
    for context, words in contexts(run).items():
        places = [Place(phase, context, view.batch if phase == DECODE else 1) for phase in view.phases]
        made[context] = [Panel(place, words, points(rows, view, place)) for place in places]
    return made


def planes(run: RunInfo, every: Mapping[int, list[Panel]], view: View) -> None:
    """Panels side by side, a row for each context; costs are never added up into one axis."""
    across = {phase: reach([one.found for row in every.values() for one in row if one.place.phase == phase]) for phase in view.phases}
    facts = run.provenance.get("facts") or {}
    notes: dict[str, None] = {}
    for number, (context, row) in enumerate(every.items()):
        here = "where the loss was measured" if not number else f"costs by formula, the loss is that at {next(iter(every)):,}"
        st.markdown(f"## At {count(context, 'position')}, {here}" if context > 1 else "## For one example")
        for column, panel in zip(st.columns(len(row), gap="medium"), row, strict=True):
            with column:
                notes |= _panel(run, panel, view, across[panel.place.phase])
        st.caption(plain(f"Operating point: {row[0].words}."))
    there = {target for panel in _flat(every) for target in panel.found["target"]}
    shapes = ", ".join(f"{SHAPES[one]} act on {one}" for one in TARGETS if one in there)
    told = (
        f"Shapes: {shapes}. Large points are on the front of their colour, which the line joins: none shown of the same class is as cheap "
        "and as good. Fronts are picked on the choice documents and drawn with the loss on the report documents, so one may rise where "
        "its luck does not repeat. Classes share no front: no machine runs them all as fast.",
        "What is skipped counts as saved, and selecting counts as work; whether a machine saves it depends on what can use it.",
        str(facts.get("loss_context", "")), *notes, ONE_SHOT, "Click a point to look at its intervention.",
    )  # fmt: skip
    st.caption(" ".join(plain(one) for one in told if one))


def _flat(every: Mapping[int, list[Panel]]) -> list[Panel]:
    return [panel for row in every.values() for panel in row]


def _panel(run: RunInfo, panel: Panel, view: View, across: tuple[float, float]) -> dict[str, None]:
    """One plane; what else is to be said about it."""
    place = panel.place
    try:
        spec = plane_spec(run, panel.found, place, view, panel.words)
    except FigureError as error:
        st.markdown(f"**{_NAMES[place.phase].capitalize()}**")
        st.caption(plain(error))
        return {}
    name = f"{_NAMES[place.phase]}-{place.context}".replace(" ", "-")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{plain(_title(place))}**")
        export_menu(spec, run.provenance, name=f"plane-{name}", key=f"plane-{name}")
    key = f"plane-{run.id}-{name}-{view.batch}-{hash((view.targets, view.classes, view.methods, view.near, view.eps))}"
    st.session_state[f"_{key}"] = list(zip(spec.data["method"], spec.data["level"], strict=True))
    st.plotly_chart(
        draw_plane(spec, view, across), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key, on_select=partial(_choose, key),
        selection_mode="points",
    )  # fmt: skip
    return dict.fromkeys(spec.notes[1:])


def _title(place: Place) -> str:
    return f"Decode, B = {place.batch}" if place.phase == DECODE else {PREFILL: "Prefill, B = 1", HELD: "Memory"}[place.phase]


def _choose(key: str) -> None:
    """The intervention and the level of the point that was clicked."""
    place = row_clicked(st.session_state[key]["selection"]["points"])
    if place is not None:
        method, level = st.session_state[f"_{key}"][place]
        st.session_state[ONE], st.session_state[AT] = method, percent(level)
        st.query_params[AT] = percent(level)  # its widget may not be there yet, and would not write what it begins with


def within_tolerance(run: RunInfo, every: Mapping[int, list[Panel]], view: View) -> None:
    """The cheapest point of each class within the tolerance, at every operating point shown."""
    import pandas as pd

    if view.eps is None:
        return
    st.markdown(f"## Cheapest within {view.eps:g} {plain(_unit(run))}")
    parts = [cheapest(panel.found, view.eps).assign(cost=_NAMES[panel.place.phase], at=panel.place.context)
             for panel in _flat(every)]  # fmt: skip
    found: Frame = pd.concat(parts, ignore_index=True) if parts else None
    if found is None or not len(found):
        st.caption("Nothing shown costs less than the dense model and stays within the tolerance.")
        return
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = {
        "cost": text("Cost"), "at": number("At", format="localized", help="Positions"),
        "runs_on": text("Can be used by"), "method": text("Intervention"),
        "level": number("Asked for", format="percent", help="Share to be removed, of the intervention's own denominator"),
        "share": number("Cost left", format="percent", help="Of what the dense model costs there"),
        "delta": number("Loss above dense", format="%+.3g", help=f"On the report documents; {_unit(run)}"),
        "low": number("from", format="%+.3g", help="Lower end of its 95 % interval over documents"),
        "high": number("to", format="%+.3g", help="Upper end of it"),
    }  # fmt: skip
    st.dataframe(
        found[list(config)], hide_index=True, column_config=config, placeholder="—", height="content",
        alt="One row per operating point and class: the cheapest intervention within the tolerance, its cost and its loss.",
    )  # fmt: skip
    st.caption(
        "Picked where the increase on the choice documents stays within the tolerance; the loss shown is that on the report documents, "
        "so it may lie above. Only levels that were measured."
    )


def removed(run: RunInfo, view: View) -> None:
    """Loss over the share removed: everything on one pair of axes, then each target by itself."""
    rows: Frame = data.rows(run, "curve_points", where=(Filter("metric", "=", LOSS),))
    st.markdown("## How much of each can go")
    try:
        spec = achieved_spec(run, rows, None, view)
    except FigureError as error:
        st.caption(plain(error))
        return
    with st.container(horizontal=True, horizontal_alignment="right"):
        export_menu(spec, run.provenance, name="plane-achieved", key="achieved")
    st.plotly_chart(by_target(spec), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key="achieved")
    st.caption(plain(spec.sentence))
    there = set(spec.data["target"])
    targets = [one for one in TARGETS if one in there]
    top = float(spec.data[["shown", "high"]].max().max())
    columns = st.columns(2, gap="medium")
    for number, target in enumerate(targets):
        with columns[number % 2]:
            one = achieved_spec(run, rows, target, view)
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.markdown(f"**{plain(one.title)}**")
                export_menu(one, run.provenance, name=f"plane-{target}", key=f"target-{target}")
            st.plotly_chart(small(one, top), config=dict(PLOTLY_CONFIG), alt=one.sentence, key=f"target-{target}")


def drop_points(run: RunInfo, view: View) -> None:
    """Where each intervention leaves the tolerance, by target."""
    import pandas as pd

    names = [row["method"] for row in measured(run, view)]
    rows = [row for row in run.summaries.get("drop_points", ()) if row["metric"] == LOSS and row["method"] in names]
    rows = [row for row in rows if view.eps is not None and abs(row["eps"] - view.eps) <= 1e-9 * view.eps]
    if not rows:
        return
    st.markdown("## Drop points")
    order = {target: place for place, target in enumerate(TARGETS)}
    rows.sort(key=lambda row: (order.get(row["target"], len(order)), -(row["level"] or row["last_level"]), row["method"]))
    of = {curve["method"]: curve for curve in run.summaries.get("interventions", ())}
    frame = pd.DataFrame([{name: row[name] for name in ("target", "method", "level", "low", "high", "achieved", "words", "runs_on")}
                          for row in rows])  # fmt: skip
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = {
        "target": text("Acts on"), "method": text("Intervention"),
        "level": number(f"s*({view.eps:g})", format="percent", help="Share up to which the loss stays within the tolerance"),
        "low": number("from", format="percent", help="Lower end of its 95 % interval over documents"),
        "high": number("to", format="percent", help="Upper end of it"),
        "achieved": number("Removed there", format="percent", help="Measured share removed at the drop point"),
        "words": text("In words", width="large"), "runs_on": text("Can be used by"),
    }  # fmt: skip
    st.dataframe(
        frame, hide_index=True, column_config=config, placeholder="—", height="content",
        alt="One row per intervention with a continuum: its drop point with its 95 % interval.",
    )  # fmt: skip
    patterns = [name for name in names if of.get(name, {}).get("kind") == "point"]
    told = f" Without a continuum, so without a drop point: {', '.join(patterns)}." if patterns else ""
    st.caption(plain(f"Shares are of each intervention's own denominator, so compare them within a target only.{told}"))


def left_out(run: RunInfo) -> None:
    """What was asked for and does not suit this model, each with its reason."""
    refused = [row for row in run.summaries.get("interventions", ()) if not row["is_measured"]]
    if not refused:
        return
    st.markdown("## Does not suit this model")
    st.markdown("\n".join(f"- {code(row['method'])} ({plain(row['target'])}): {plain(row['reason'])}" for row in refused))
    st.caption("Left out, which says nothing about how robust the model is to them.")


def _unit(run: RunInfo) -> str:
    return str((run.provenance.get("facts") or {}).get("unit", ""))
