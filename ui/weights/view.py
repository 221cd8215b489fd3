"""What the page of weights shows: run, measure and filters, each a widget whose key is its name in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from figures.words import visible
from store import Derived, Filter, Lookup, RunInfo
from ui.neurons.queries import ask
from ui.paging import first_page
from ui.weights.runs import SPARSITY, SPECTRUM, run_label

ONE, OTHER, SERIES = "this checkpoint", "beside another", "over a series"
VIEWS = (ONE, OTHER, SERIES)
_RUN = "weights_run"
PATTERN = "2 of 4 kept"


@dataclass(frozen=True)
class Measure:
    """One number of a tensor that can colour the pictures."""

    column: str
    label: str
    unit: str = ""
    slug: str = SPARSITY
    """The analysis it is of; only numbers of `weight_sparsity` also sort and filter the table."""


MEASURES: Mapping[str, Measure] = {
    "zeros": Measure("zero_share", "Exact zeros", "share of the weights"),
    "near zeros": Measure("near_zero_share", "Near-zero weights", "share of the weights"),
    "2 of 4 groups": Measure("conforming_share", "Groups that are 2 of 4", "share of the groups"),
    "2 of 4 energy": Measure("retained_energy", "Energy kept by 2 of 4", "share of the squares"),
    "PQ Index": Measure("pq_index", "PQ Index"),
    "Gini": Measure("gini", "Gini index of |w|"),
    "Hoyer": Measure("hoyer", "Hoyer sparsity"),
    "kurtosis": Measure("kurtosis", "Excess kurtosis"),
    "root mean square": Measure("rms", "Root mean square"),
    "largest": Measure("max_abs", "Largest |w|"),
    "zero rows": Measure("n_zero_rows", "All-zero rows", "rows"),
    "zero columns": Measure("n_zero_columns", "All-zero columns", "columns"),
    "stable rank": Measure("stable_rank_ratio", "Stable rank / that of a random matrix", slug=SPECTRUM),
    "effective rank": Measure("effective_rank_share", "Effective rank", "share of the shorter side", SPECTRUM),
    "outliers": Measure("outlier_share", "Outlier weights", "share of the weights", SPECTRUM),
}
SORTS = ("weights", *(name for name, measure in MEASURES.items() if measure.slug == SPARSITY))
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


def run_picker(known: Mapping[str, RunInfo], asked: str | None) -> RunInfo:
    """Which model's weights. The address always names the run, so that a link stays with it when newer ones come."""
    ids = list(known)
    chosen = st.selectbox(
        "Model",
        ids,
        ids.index(asked) if asked is not None and asked in known else 0,
        format_func=lambda one: visible(run_label(known[one])),
        key=_RUN,
        on_change=_other_run,
    )
    st.query_params["run"] = chosen
    return known[chosen]


def _other_run() -> None:
    """Another model has other layers, kinds and structures: what may not fit is dropped."""
    st.query_params["run"] = st.session_state[_RUN]
    for name in ("layer", "structure", "only", "from", "to"):
        st.session_state[name] = None
    st.session_state["kind"] = []
    first_page()


def view_control() -> str:
    """One checkpoint, the difference from another, or a series."""
    return st.segmented_control("View", VIEWS, default=ONE, required=True, key="view", bind="query-params", label_visibility="collapsed")


def measure_control(slugs: set[str]) -> str:
    """What colours the pictures: measures of the analyses that have been run."""
    names = [name for name, measure in MEASURES.items() if measure.slug in slugs]
    return st.selectbox("Colour", names, names.index("PQ Index"), key="measure", bind="query-params", width=210)


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
        limits = [(op, _bound(label, key)) for op, label, key in bounds]
        kinds = st.pills("Kind", values["kind"], selection_mode="multi", key="kind", bind="query-params", on_change=first_page)
    where = [Filter("tensor", "contains", text.strip())] if text and text.strip() else []
    where += [Filter("layer", "=", int(layer))] if layer else []
    where += [Filter("structure", "=", structure)] if structure else []
    where += [Filter("kind", "in", tuple(kinds))] if kinds else []
    where += [Filter(column_of(only), ">=" if op == ">=" else "<=", value) for op, value in limits if only and value is not None]
    sort, descending = sort_controls()
    return Rows(tuple(where), sort, descending)


def _bound(label: str, key: str) -> float | None:
    return st.number_input(
        label, value=None, key=key, bind="query-params", on_change=first_page, width=120, placeholder="any", format="%.4g", step=None,
    )  # fmt: skip


def sort_controls() -> tuple[str | None, bool]:
    """What the table is sorted by, and whether downwards."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort = st.selectbox(
            "Sort by",
            SORTS,
            None,
            placeholder="order in the checkpoint",
            key="sort",
            bind="query-params",
            on_change=first_page,
            width=210,
        )
        order = st.selectbox(
            "Order", ("descending", "ascending"), key="order", bind="query-params", disabled=sort is None, on_change=first_page, width=140
        )
    return sort, order == "descending"


def column_of(name: str) -> str:
    """The column that a sort or a bound is about."""
    return "n_weights" if name == "weights" else MEASURES[name].column
