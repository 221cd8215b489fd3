"""What the neurons page shows: threshold, filters, colour and order, each a widget whose key is its name in the address."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from analysis.neurons.thresholds import THRESHOLDS
from store import Derived, Filter, RunInfo
from ui.controls import bound
from ui.neurons.queries import derived
from ui.neurons.units import Site, site_filters
from ui.paging import first_page
from ui.runs import run_picker
from ui.words import code, percent, plain

CLASSES = ("dead", "rare", "undecided", "normal", "dense")
AS_RUN = "own rule"
MEASURES: dict[str, str] = {
    "density": "density",
    "documents": "documents_active",
    "largest": "max",
    "smallest": "min",
    "mean": "mean",
    "mean |a|": "mean_active",
    "contribution": "contribution",
    "kurtosis": "kurtosis",
    "in norm": "in_norm",
    "up norm": "up_norm",
    "out norm": "out_norm",
}
"""What can colour the scatter, bound a range and sort the table: its name on the page and in the address, and its column."""
BOX = "box"
"""The address' name for the part of the scatter that was drawn around: density from, to, largest activation from, to."""


@dataclass(frozen=True)
class View:
    """One state of the page, all of it in the address."""

    run: RunInfo
    threshold: float | None
    site: Site | None
    classes: tuple[str, ...]
    measure: str
    bounds: tuple[float | None, float | None]
    box: tuple[float, float, float, float] | None
    colour: str

    @property
    def derive(self) -> tuple[Derived, ...]:
        """The columns the threshold changes."""
        return derived(self.run, self.threshold)

    @property
    def cloud(self) -> tuple[Filter, ...]:
        """The neurons in the scatter: all filters but the part drawn around."""
        found = [] if self.site is None else list(site_filters(self.site))
        if self.classes:
            found.append(Filter("class", "in", self.classes))
        column = MEASURES[self.measure]
        found += [Filter(column, op, end) for op, end in zip((">=", "<="), self.bounds, strict=True) if end is not None]
        return tuple(found)

    @property
    def where(self) -> tuple[Filter, ...]:
        """The neurons in the table."""
        if self.box is None:
            return self.cloud
        low, high, bottom, top = self.box
        inside = (Filter("density", ">=", low), Filter("density", "<=", high), Filter("max", ">=", bottom), Filter("max", "<=", top))
        return (*self.cloud, *inside)


def controls(run: RunInfo, places: list[Site]) -> View:
    """The widgets above the charts."""
    labels = {site.label: site for site in places}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = st.selectbox(
            "Layer", list(labels), None, placeholder="all layers", key="site", bind="query-params", on_change=first_page, width=150
        )
        classes = st.pills("Class", CLASSES, selection_mode="multi", key="class", bind="query-params", on_change=first_page)
        measure = st.selectbox(
            "Only where", list(MEASURES), len(MEASURES) - 1, key="only", bind="query-params", on_change=first_page, width=150
        )
        low, high = bound("is at least", "from"), bound("and at most", "to")
    asked = st.session_state.get("colour", st.query_params.get("colour"))  # its widget stands further down
    colour = asked if asked in MEASURES else "class"
    return View(run, threshold_control(run), labels.get(layer or ""), tuple(classes), measure, (low, high), box(), colour)


def threshold_control(run: RunInfo) -> float | None:
    """The slider that says what active means; None for what the run itself took."""
    share = run.config.get("active")
    by_run = f"contribution above {percent(share)} of what the layer adds" if share else "its own meaning"
    chosen = st.select_slider(
        "Threshold: active means |a| at least",
        [AS_RUN, *(f"{one:.6g}" for one in THRESHOLDS)],
        AS_RUN,
        key="t",
        bind="query-params",
        on_change=first_page,
        help=f"“{AS_RUN}”, at the left end, is what the run counted: {by_run}. Every other stop is a threshold on the magnitude of the"
        " activation, answered from stored counts without running anything again: density and class are then those at that threshold.",
    )
    return None if chosen == AS_RUN else float(chosen)


def box() -> tuple[float, float, float, float] | None:
    """The part of the scatter in the address; None where there is none, or what stands there is none."""
    parts = st.query_params.get(BOX, "").split(",")
    try:
        found = tuple(float(part) for part in parts)
    except ValueError:
        return None
    return found if len(found) == 4 else None


def picked(known: Mapping[str, RunInfo], asked: str | None) -> RunInfo:
    """Which run's neurons."""
    return run_picker(known, asked, key="model_and_data", forget=_forget)


def _forget() -> None:
    """Another run has other layers and other values: of the old view only what fits any run stays."""
    st.query_params.pop(BOX, None)
    for name in ("site", "from", "to"):
        st.session_state[name] = None


def box_words(found: tuple[float, float, float, float]) -> str:
    """The part drawn around, in words."""
    low, high, bottom, top = found
    height = f"up to {top:.3g}" if bottom == -math.inf else f"{bottom:.3g} to {top:.3g}"
    return plain(f"Only the part drawn around: density {low:.3g} to {high:.3g}, largest activation {height}.")


def view_words(view: View) -> str:
    """The filters in words, for the sentence under a chart (safe Markdown)."""
    parts = [f"layer {code(view.site.label)}"] if view.site else []
    parts += [f"class {' or '.join(view.classes)}"] if view.classes else []
    low, high = view.bounds
    name = view.measure
    parts += [f"{name} at least {low:g}"] if low is not None else []
    parts += [f"{name} at most {high:g}"] if high is not None else []
    return ", ".join(parts)
