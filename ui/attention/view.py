"""What the attention page shows: run, measures and filters, each a widget whose key is its name in the address."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from figures.words import visible
from store import Derived, Filter, Order, RunInfo
from ui.attention.heads import Place
from ui.attention.measures import FIRST, Measure
from ui.attention.patterns import ABOUT, WORDS, as_column, words_of
from ui.controls import bound
from ui.data import ask
from ui.paging import first_page
from ui.runs import run_picker
from ui.words import code

KEY = ("layer", "hook_name", "turn", "head")
ALL = "all"
LARGEST = (ALL, "5", "10", "20", "50", "100", "200", "500", "1000")
"""How many heads may be asked for, by a measure: stops that about double, from a model of few heads to one of many."""


@dataclass(frozen=True)
class View:
    """Which heads are shown; all of it stands in the address."""

    run: RunInfo
    place: Place | None
    measure: Measure | None
    bounds: tuple[float | None, float | None]
    search: str
    patterns: RunInfo | None = None
    """The `head_patterns` on the same weights."""
    shapes: tuple[str, ...] = ()

    @property
    def where(self) -> tuple[Filter, ...]:
        """The heads that meet the filters; to be asked with `derive`."""
        found = [*(self.place.where if self.place else ()), *_searched(self.search)]
        if self.measure is not None:
            column = self.measure.column
            found += [Filter(column, op, bound) for op, bound in zip((">=", "<="), self.bounds, strict=True) if bound is not None]
        return (*found, Filter("shape", "in", self.shapes)) if self.shapes else tuple(found)

    @property
    def derive(self) -> tuple[Derived, ...]:
        """The shape as a column, where it is known."""
        return () if self.patterns is None else as_column(self.patterns, "shape")

    @property
    def words(self) -> str:
        """The filters in words (safe Markdown); empty where there are none."""
        parts = [f"layer {code(self.place.label)}"] if self.place else []
        parts += [f"found by {code(self.search)}"] if self.search else []
        parts += [f"shape {' or '.join(self.shapes)}"] if self.shapes else []
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


def picked(known: Mapping[str, RunInfo], asked: str | None) -> RunInfo:
    """Which run's heads."""
    return run_picker(known, asked, key="attention_run", forget=_forget)


def _forget() -> None:
    """Another run has other layers and other values: of the old view only what fits any run stays."""
    for name in ("site", "from", "to"):
        st.session_state[name] = None
    st.session_state["shape"] = []


def filters(run: RunInfo, places: list[Place], known: Mapping[str, Measure], patterns: RunInfo | None) -> View:
    """The widgets above the pictures; they hold for the grid, the scatter and the table alike."""
    labels = {place.label: place for place in places}
    shared: dict[str, Any] = {"bind": "query-params", "on_change": first_page}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input("Search", key="search", placeholder="3:5, or part of a name", width=190, **shared)
        label = st.selectbox(
            "Layer", list(labels), None, placeholder="all layers", key="site", width=150, format_func=visible, **shared
        )  # fmt: skip
        only = st.selectbox("Only where", list(known), key="only", width=210, **shared)
        low, high = bound("is at least", "from"), bound("and at most", "to")
        most = st.select_slider("and among the largest", LARGEST, ALL, key="largest", width=220, **shared)
    shapes: tuple[str, ...] = ()
    if patterns is not None:
        there = set(words_of(patterns, "shape").values())
        shapes = tuple(
            st.pills(
                "Shape", [one for one in WORDS["shape"] if one in there], selection_mode="multi", key="shape", help=ABOUT["shape"], **shared
            )
        )
    measure = known.get(only or "")
    if measure is not None and most != ALL:
        low = max((one for one in (low, _least_of(run, measure, int(most))) if one is not None), default=None)
    return View(run, labels.get(label or ""), measure, (low, high), (search or "").strip(), patterns, shapes)


def _least_of(run: RunInfo, measure: Measure, most: int) -> float | None:
    """The smallest number of so many heads of the model with the largest; heads that are equal to it are among them, too."""
    column = measure.column
    known = (Filter(column, ">=", -math.inf),)  # NULLs are not
    frame = ask(run, "read", "heads", columns=(column,), where=known, order_by=(Order(column, descending=True),), limit=most)
    return None if frame.empty else float(frame[column].iloc[-1])


def colour(known: Mapping[str, Measure], words: tuple[str, ...]) -> Measure | str:
    """What colours the grid: six measures of sparsity side by side, all else in one list; ``words``: columns of words."""
    first = [name for name in FIRST if name in known]
    rest = [*words, *(name for name in known if name not in FIRST)]
    near, far = None, None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if first:
            asked = st.session_state.get("more", st.query_params.get("more"))  # its widget stands behind this one
            near = st.segmented_control(
                "Colour", first, default=None if asked in rest else first[0], key="colour", bind="query-params", wrap=True, on_change=_near
            )
        if rest:
            far = st.selectbox(
                "or something else", rest, None if first else 0, placeholder=f"{len(rest)} more", key="more", bind="query-params",
                on_change=_far, args=(first,), width=260,
            )  # fmt: skip
    name = far or near or next(iter(known))
    return known.get(name, name)


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
