"""What the page of weights shows: run, measure and filters, each a widget whose key is its name in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from store import Derived, Filter, Lookup, RunInfo
from ui.controls import bound, sort_controls
from ui.data import ask
from ui.paging import first_page
from ui.runs import run_picker
from ui.weights.measures import MEASURES, OF_TENSORS

ONE, OTHER, SERIES = "this checkpoint", "beside another", "over a series"
VIEWS = (ONE, OTHER, SERIES)
PATTERN = "2 of 4 kept"


SORTS = ("weights", *OF_TENSORS)
ALONG_INPUT = (Filter("along", "=", "input"), Filter("pattern", "=", PATTERN))
DERIVE: tuple[Derived, ...] = (
    Lookup("tensor_patterns", ("tensor",), (("conforming_share", "conforming_share"), ("retained_energy", "retained_energy")), ALONG_INPUT),
)
"""2 of 4 along the input, which stands in a table of its own."""


@dataclass(frozen=True)
class Rows:
    """Which tensors the table shows."""

    where: tuple[Filter, ...]
    sort: str | None
    descending: bool


def picked(known: Mapping[str, RunInfo], asked: str | None) -> RunInfo:
    """Which model's weights."""
    return run_picker(known, asked, key="weights_run", label="Model", forget=_forget)


def _forget() -> None:
    """Another model has other layers, kinds and structures."""
    for name in ("layer", "structure", "only", "from", "to"):
        st.session_state[name] = None
    st.session_state["kind"] = []


def view_control() -> str:
    """One checkpoint, the difference from another, or a series."""
    return st.segmented_control("View", VIEWS, default=ONE, required=True, key="view", bind="query-params", label_visibility="collapsed")


def filters(run: RunInfo) -> Rows:
    """The widgets above the table."""
    values = {name: ask(run, "groups", "tensors", by=(name,))[name].dropna().tolist() for name in ("layer", "kind", "structure")}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Name holds", key="name", bind="query-params", on_change=first_page, placeholder="part of a tensor's name", width=210
        )
        layers = [str(int(layer)) for layer in values["layer"]]
        layer = st.selectbox(
            "Layer", layers, None, placeholder="all layers", key="layer", bind="query-params", on_change=first_page, width=130
        )
        structure = st.selectbox(
            "Structure", values["structure"], None, placeholder="any", key="structure", bind="query-params", on_change=first_page, width=180
        )
        only = st.selectbox("Only where", SORTS, None, placeholder="all", key="only", bind="query-params", on_change=first_page, width=180)
        bounds = ((">=", "is at least", "from"), ("<=", "and at most", "to")) if only else ()
        limits = [(op, bound(label, key)) for op, label, key in bounds]
        kinds = st.pills("Kind", values["kind"], selection_mode="multi", key="kind", bind="query-params", on_change=first_page)
    where = [Filter("tensor", "contains", text.strip())] if text and text.strip() else []
    where += [Filter("layer", "=", int(layer))] if layer else []
    where += [Filter("structure", "=", structure)] if structure else []
    where += [Filter("kind", "in", tuple(kinds))] if kinds else []
    where += [Filter(column_of(only), ">=" if op == ">=" else "<=", value) for op, value in limits if only and value is not None]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort, descending = sort_controls(SORTS, "order in the checkpoint", width=210)
    return Rows(tuple(where), sort, descending)


def column_of(name: str) -> str:
    """The column that a sort or a bound is about."""
    return "n_weights" if name == "weights" else MEASURES[name].column
