"""One intervention closer: what it is, its curve, what a level costs everywhere, and its settings to take along."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis.models.documents import PYTHON_DOCS
from analysis.spec import EVIDENCE_WORDS
from store import Filter, RunInfo
from ui import data
from ui.runs import reference_of
from ui.sensitivity.curves import ABOVE, LOSS, NEAR, Curve, unit_of
from ui.sensitivity.figure import draw, picture
from ui.sensitivity.plane import DECODE, PANELS, SLUG, Frame, View, contexts, curve_of, is_pair, listed
from ui.sensitivity.plane_view import AT, ONE
from ui.sensitivity.whatif import short
from ui.sensitivity.words import answer
from ui.words import code, percent, plain

_THOUSAND = 1000
_NAMES = {phase: name for name, phase in PANELS.items()}


def chosen(names: list[str]) -> str | None:
    """The intervention looked at closer; a click on a point chooses it, too."""
    if not names:
        return None
    return st.selectbox(
        "Intervention", names, None, placeholder="click a point, or choose one", key=ONE, bind="query-params", format_func=str, width=420
    )


def closer(run: RunInfo, method: str, view: View) -> None:
    """Its line, its curve, one of its levels with all costs, and the configuration that measures it again."""
    from analysis.interventions.catalogue import HARDWARE  # brings every intervention with it

    row = next(row for row in listed(run) if row["method"] == method)
    st.markdown(f"**{plain(row['title'])}** ({code(method)}, acts on {plain(row['target'])}): {plain(row['line'])}")
    curve = curve_of(run, method)
    if curve is None:
        return
    said = [f"Can be used by {HARDWARE.get(row['runs_on'], row['runs_on'])}", f"level is a share of {curve.denominator}"]
    said += [f"needs of the calibration documents: {row['needs']}"] if row["needs"] else []
    more = "" if is_pair(method) else f" More: python -m analysis describe {method}"
    st.caption(plain(f"{'; '.join(said)}. Definition: {evidence_words(row['evidence'])}.{more}"))
    if row.get("notes"):  # older runs have none
        st.caption(plain(row["notes"]))
    if is_pair(method):
        st.markdown("Two at once: its level 0 is the second alone, not the dense model, so it has no drop point.")
    elif view.eps is not None:
        st.markdown(f"{plain(answer(curve, view.eps))}.")
    _curve(run, curve, view)
    level = _level(curve)
    _costs(run, curve, level)
    _take_along(run, method, level)


def evidence_words(tags: str) -> str:
    """What the tags of an intervention's sources say, e.g. ``our own definition; unverified definition``."""
    return "; ".join(EVIDENCE_WORDS.get(tag, tag).removeprefix("definition ") for tag in tags.split(", "))


def _curve(run: RunInfo, curve: Curve, view: View) -> None:
    from figures.screen import PLOTLY_CONFIG
    from figures.spec import FigureError
    from ui.charts import export_menu

    if curve.is_point:
        return  # one level: its numbers say it
    try:
        made = picture([curve], NEAR if view.near else ABOVE, view.eps)
        figure = draw(made)
    except FigureError as error:
        st.caption(plain(error))
        return
    with st.container(horizontal=True, horizontal_alignment="right"):
        export_menu(made.spec, run.provenance, name=f"plane-{curve.key['method']}", key="one-curve")
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=made.spec.sentence, key=f"one-{run.id}-{curve.key['method']}")
    st.caption(" ".join(plain(one) for one in (made.spec.sentence, *made.spec.notes)))


def _level(curve: Curve) -> float:
    """A measured level of it, from the address or a click."""
    levels = [float(one) for one in curve.of(LOSS)["level"] if one > 0]
    texts = {percent(level): level for level in levels}
    if len(texts) == 1:
        return levels[0]
    if st.session_state.get(AT) not in (None, *texts):  # another intervention has other levels
        del st.session_state[AT]
    usual = percent(min(levels, key=lambda one: abs(one - 0.5)))
    return texts[
        st.select_slider("Measured level", list(texts), usual, key=AT, bind="query-params", help="Only levels that were measured.")
    ]


def _costs(run: RunInfo, curve: Curve, level: float) -> None:
    """The loss at a level, and a row for each operating point with what it costs there."""
    where = (Filter("method", "=", curve.key["method"]), Filter("level", "=", level))
    rows: Frame = data.rows(run, "plane_costs", where=where)
    loss = data.first_row(rows)
    if loss is None:
        return
    with st.container(horizontal=True):
        shown = "infinite" if loss["delta"] is None else f"{loss['delta']:+.3g}"
        between = "" if loss["low"] is None else f"{loss['low']:+.3g} to {loss['high']:+.3g}"
        _metric("Loss above dense", shown, f"{unit_of(curve)}{f', {between}' if between else ''}")
        _metric("Removed", percent(loss["achieved"]), f"asked for: {percent(level)}")
        if (recall := recall_at(curve, level)) is not None:
            _metric("Recall", percent(recall), "of the neurons that add most, named beforehand")
    table = cost_table(rows, list(contexts(run)))
    st.dataframe(table, hide_index=True, height="content", width="content", alt="What it costs: a row per cost, a column per length.")
    st.caption("Costs as shares of the dense model's. The loss is one number: it was measured at the shortest length only.")


def recall_at(curve: Curve, level: float) -> float | None:
    """Share of the neurons that add most to a token that were named; None where nothing names them, and in older runs."""
    rows: Frame = curve.of(LOSS)
    if "recall" not in rows:
        return None
    found: Frame = rows.loc[rows["level"] == level, "recall"].dropna()
    return float(found.iloc[0]) if len(found) else None


def cost_table(rows: Frame, lengths: Sequence[int]) -> Frame:
    """A row for each cost, a column for each length: the share of the dense model's and the amount itself."""
    import pandas as pd

    found = {(row["phase"], int(row["batch"]), int(row["context"])): row for row in rows.to_dict("records")}
    kinds = sorted({key[:2] for key in found}, key=lambda kind: (list(_NAMES).index(kind[0]), kind[1]))
    table = []
    for phase, batch in kinds:
        row = {"Cost": f"{_NAMES[phase].capitalize()}{f', B = {batch}' if phase == DECODE else ''}"}
        for length in lengths:
            cost = found.get((phase, batch, length))
            amount = "" if cost is None else f"{percent(cost['share'])} ({_amount(cost)})"
            row[f"At {length:,} positions"] = amount
        table.append(row)
    return pd.DataFrame(table)


def _amount(cost: Mapping[str, Any]) -> str:
    unit = "B" if cost["unit"] == "bytes" else cost["unit"]
    return short(cost["absolute"]) + (unit if cost["absolute"] >= _THOUSAND else f" {unit}")


def _metric(name: str, shown: str, below: str) -> None:
    st.metric(name, shown, below, delta_color="off", delta_arrow="off", width="content", border=True)


def _take_along(run: RunInfo, method: str, level: float) -> None:
    from analysis.sensitivity.plane_asking import configuration

    name = f"plane-{re.sub('[^a-z0-9.-]+', '-', method)}-{level:.4g}.json"
    text = json.dumps(configuration(run.config, [(method, level)]), indent=2) + "\n"
    with st.expander("Take this configuration along", icon=":material/file_save:"):
        st.caption("Settings that measure exactly this intervention at this level again, on this model or another:")
        st.code(text, language="json")
        st.download_button(
            f"Download {name}", text, name, "application/json", icon=":material/download:", on_click="ignore", key="configuration"
        )
        given = {"data": run.data} if run.data else {}
        st.code(data.command(SLUG, reference_of(run), **given, config=name), language=None, wrap_lines=True)
        if run.data and run.data != PYTHON_DOCS:
            st.caption(plain(f"A run knows its data by name, not by place: put the path of {run.data} behind --data."))
