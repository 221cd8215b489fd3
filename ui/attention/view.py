"""What the attention page shows: run, measures and filters, each a widget whose key is its name in the address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from figures.words import visible
from store import Filter, RunInfo
from ui.attention.heads import Place
from ui.attention.measures import FIRST, Measure
from ui.neurons.view import run_label
from ui.paging import first_page
from ui.words import code

_RUN = "attention_run"
KEY = ("layer", "hook_name", "turn", "head")


@dataclass(frozen=True)
class View:
    """Which heads are shown; all of it stands in the address."""

    run: RunInfo
    place: Place | None
    measure: Measure | None
    bounds: tuple[float | None, float | None]
    search: str

    @property
    def where(self) -> tuple[Filter, ...]:
        """The heads that meet the filters."""
        found = [*(self.place.where if self.place else ()), *_searched(self.search)]
        if self.measure is not None:
            column = self.measure.column
            found += [Filter(column, op, bound) for op, bound in zip((">=", "<="), self.bounds, strict=True) if bound is not None]
        return tuple(found)

    @property
    def words(self) -> str:
        """The filters in words (safe Markdown); empty where there are none."""
        parts = [f"layer {code(self.place.label)}"] if self.place else []
        parts += [f"found by {code(self.search)}"] if self.search else []
        name, (low, high) = self.measure.name if self.measure else "", self.bounds
        parts += [f"{name} at least {low:g}"] if name and low is not None else []
        parts += [f"{name} at most {high:g}"] if name and high is not None else []
        return ", ".join(parts)


def _searched(text: str) -> list[Filter]:
    """``3:5`` is a layer and a head, ``5`` a head of any layer, all else part of a place's name."""
    numbers = re.fullmatch(r"(?:[Ll]?(\d{1,9})\s?[:.,Hh ]\s?)?[Hh]?(\d{1,9})", text)
    if numbers is None:
        return [Filter("hook_name", "contains", text)] if text else []
    layer, head = numbers.groups()
    return ([Filter("layer", "=", int(layer))] if layer else []) + [Filter("head", "=", int(head))]


def run_picker(known: Mapping[str, RunInfo], asked: str | None) -> RunInfo:
    """Which run's heads. The address always names it, so that a link stays with its run when newer ones come."""
    ids = list(known)
    first = ids.index(asked) if asked is not None and asked in known else 0
    chosen = st.selectbox(
        "Model and data", ids, first, format_func=lambda one: visible(run_label(known[one])), key=_RUN, on_change=_other_run
    )
    if st.query_params.get("run") != chosen:  # an address that is written for nothing can cross a click that is on its way
        st.query_params["run"] = chosen
    return known[chosen]


def _other_run() -> None:
    """Another run has other layers and other values: of the old view only what fits any run stays."""
    st.query_params["run"] = st.session_state[_RUN]
    for name in ("site", "from", "to"):
        st.session_state[name] = None
    first_page()


def filters(run: RunInfo, places: list[Place], known: Mapping[str, Measure]) -> View:
    """The widgets above the pictures; they hold for the grid, the scatter and the table alike."""
    labels = {place.label: place for place in places}
    number: dict[str, Any] = {"value": None, "bind": "query-params", "on_change": first_page, "placeholder": "any", "width": 120}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search", key="search", bind="query-params", on_change=first_page, placeholder="3:5, or part of a name", width=190
        )
        label = st.selectbox(
            "Layer", list(labels), None, placeholder="all layers", key="site", bind="query-params", on_change=first_page, width=150,
            format_func=visible,
        )  # fmt: skip
        only = st.selectbox("Only where", list(known), key="only", bind="query-params", on_change=first_page, width=210)
        low = st.number_input("is at least", key="from", format="%.4g", step=None, **number)
        high = st.number_input("and at most", key="to", format="%.4g", step=None, **number)
    return View(run, labels.get(label or ""), known.get(only or ""), (low, high), (search or "").strip())


def colour(known: Mapping[str, Measure]) -> Measure:
    """What colours the grid: six measures of sparsity side by side, the rest in one list."""
    first = [name for name in FIRST if name in known]
    rest = [name for name in known if name not in FIRST]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        near = None
        if first:
            near = st.segmented_control("Colour", first, default=first[0], key="colour", bind="query-params", wrap=True, on_change=_near)
        far = None
        if rest:
            place = None if first else 0
            far = st.selectbox(
                "or another measure",
                rest,
                place,
                placeholder=f"{len(rest)} more",
                key="more",
                bind="query-params",
                on_change=_far,
                args=(first,),
                width=230,
            )
    return known[far or near or next(iter(known))]


def _near() -> None:
    """One of the six was chosen: it takes the place of what the list said."""
    if "more" in st.session_state:
        st.session_state["more"] = None


def _far(first: list[str]) -> None:
    """One of the list was chosen: none of the six stays marked. With none chosen, the first of them is back."""
    if first:
        st.session_state["colour"] = None if st.session_state["more"] else first[0]


def axes(known: Mapping[str, Measure]) -> tuple[Measure, Measure]:
    """The two measures of the scatter."""
    names = list(known)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        x = st.selectbox("Across", names, _place(names, "share of keys", 0), key="x", bind="query-params", width=230)
        y = st.selectbox("Up", names, _place(names, "first token", 1), key="y", bind="query-params", width=230)
    return known[x or names[0]], known[y or names[0]]


def _place(names: list[str], wanted: str, otherwise: int) -> int:
    return names.index(wanted) if wanted in names else min(otherwise, len(names) - 1)
