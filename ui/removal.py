"""What removing a unit does to the loss, from a sealed `matrix_sensitivity`: attention heads alone, neurons as part of their group."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import streamlit as st

from figures.words import number
from store import Filter, RunInfo
from ui import data
from ui.links import SENSITIVITY_PAGE, START_PAGE
from ui.python import copy_as_python
from ui.runs import MATRICES, beside, readable, reference_of, weights_of
from ui.words import code, count, percent, plain

HEAD, GROUP = "head", "ffn group"
_UNITS: Mapping[str, str] = {HEAD: "heads", GROUP: "ffn"}
"""What `matrix_sensitivity` is told to measure them."""
_NOUNS: Mapping[str, str] = {HEAD: "attention heads", GROUP: "groups of neurons"}
_NAMES: Mapping[str, re.Pattern[str]] = {
    HEAD: re.compile(r"(?P<module>.*) head (?P<first>\d+)"),
    GROUP: re.compile(r"(?P<module>.*) neurons (?P<first>\d+) to (?P<last>\d+)"),
}
Row = Mapping[str, Any]


def show_removed(run: RunInfo, kind: str, layer: int, hook_name: str, number_: int) -> None:
    """The loss at every measured level of the head, or of the group that the neuron is in; or what to run to know it."""
    st.markdown("## If removed")
    found = measured(run, kind)
    if found is None:
        _how_to(run, kind)
        return
    name = candidate(found.summaries["matrix_ranking"], kind, layer, hook_name, number_)
    rows = [] if name is None else _points(found, kind, name)
    if name is None or not rows:
        noun = _NOUNS[kind]
        st.markdown(
            f"The loss without {noun} has been measured on this model, but not for this one: its part of the matrices could not be told "
            "apart, or it was left out."
        )
        _link(found, kind, None, f"The {noun} that were measured")
        return
    st.markdown(f"{_what(kind, name)} {plain(_where(rows[0]))}")
    st.markdown("\n".join(f"- {plain(level_words(row))}" for row in rows))
    with st.container(horizontal=True, vertical_alignment="center"):
        _link(found, kind, name, "Among all that were measured")
        where = (Filter("kind", "=", kind), Filter("tensor", "=", name))
        copy_as_python(found, "matrix_points", where=where, key="python-removed")


def measured(run: RunInfo, kind: str) -> RunInfo | None:
    """The newest `matrix_sensitivity` on the same weights that has measured such units."""
    same = (one for one in readable(MATRICES) if weights_of(one) == weights_of(run))
    return next((one for one in same if any(row["kind"] == kind for row in one.summaries.get("matrix_ranking", ()))), None)


def candidate(ranking: list[dict[str, Any]], kind: str, layer: int, hook_name: str, number_: int) -> str | None:
    """The name under which a head, or the group of a neuron, was measured; None where none fits or several do.

    Its module is the one the hook is in. Where hooks have TransformerLens' names, that cannot be seen, and the layer decides.
    """
    fitting: dict[str, Row] = {}
    for row in ranking:
        parts = _NAMES[kind].fullmatch(row["tensor"]) if row["kind"] == kind else None
        if parts is not None and int(parts["first"]) <= number_ <= int(parts.groupdict().get("last") or parts["first"]):
            fitting[parts["module"]] = row
    inside = [row for module, row in fitting.items() if hook_name.startswith(f"{module}.")]
    here = inside or [row for row in fitting.values() if row["layer"] == layer]
    return str(here[0]["tensor"]) if len(here) == 1 else None


def level_words(row: Row) -> str:
    """What one level does, in a sentence (foreign text)."""
    share = "All" if row["level"] == 1 else percent(row["level"])
    said = f"{share} of its {count(int(row['n_weights']), 'weight')} removed"
    if row["delta"] is None:
        return f"{said}: the loss is infinite or no number."
    between = f" [{row['low']:+.3g} to {row['high']:+.3g}]" if row["low"] is not None else ""
    apart = "" if row["resolved"] else "; not to be told apart from no change on so much data"
    return f"{said}: loss {row['delta']:+.3g}{between} {row['unit']}{apart}."


def _points(run: RunInfo, kind: str, name: str) -> list[dict[str, Any]]:
    frame: Any = data.rows(run, "matrix_points", where=(Filter("kind", "=", kind), Filter("tensor", "=", name)))
    known = frame.astype(object).where(frame.notna(), None)
    return sorted(known.to_dict("records"), key=lambda row: row["level"])


def _what(kind: str, name: str) -> str:
    if kind == HEAD:
        return "Its rows of query, key and value and its columns of the output matrix, as far as they are its own, removed alone."
    return f"Single neurons were not removed; its group was: {code(name)}."


def _where(row: Row) -> str:
    intervals = "95 % intervals over documents" if row["low"] is not None else "one document, so no interval"
    return f"Smallest magnitudes first; {number(row['n'])} positions of {count(int(row['n_documents']), 'document')}, {intervals}."


def _link(found: RunInfo, kind: str, name: str | None, label: str) -> None:
    query = {"model": reference_of(found), "kind": kind} | ({"matrix": name} if name else {})
    st.page_link(SENSITIVITY_PAGE, label=label, icon=":material/trending_up:", query_params=query)


def _how_to(run: RunInfo, kind: str) -> None:
    """Where it has not been measured: the way to, and the same as a command."""
    units = _UNITS[kind]
    others = " It has been for its matrices alone." if beside(run, MATRICES) is not None else ""
    st.markdown(f"What the loss does without {_NOUNS[kind]} has not been measured on this model.{others}")
    query = {"analysis": MATRICES, "model": reference_of(run), "units": units}
    st.page_link(START_PAGE, label=f"Measure its {_NOUNS[kind]}", icon=":material/play_arrow:", query_params=query)
    st.code(data.command(MATRICES, reference_of(run), units=units), language="bash", wrap_lines=True)
