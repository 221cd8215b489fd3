"""The numbers of a tensor that can colour the pictures: of which run, table and column, and which variant where there are several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from figures.words import visible
from store import Filter, RunInfo
from ui.data import ask
from ui.runs import WEIGHTS, beside
from ui.weights.runs import DIFF, RATIOS, SPECTRUM


@dataclass(frozen=True)
class Measure:
    """One number of a tensor that can colour the pictures."""

    column: str
    label: str
    """With ``{}`` for the variant, where there are several."""
    unit: str = ""
    slug: str = WEIGHTS
    """The analysis it is of."""
    table: str = "tensors"
    """The table of that analysis; only numbers of `tensors` also sort and filter the list of tensors."""
    of: str = ""
    """The column that tells its variants apart, of which one is chosen in a control of its own."""
    where: tuple[Filter, ...] = ()
    """Which rows of the table."""


_GROUPS: Mapping[str, Any] = {"table": "tensor_patterns", "of": "pattern", "where": (Filter("along", "=", "input"),)}
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
    "NaN or infinite": Measure("n_nonfinite", "NaN or infinite weights", "weights"),
    "N of M groups": Measure("conforming_share", "Groups that are {}", "share of the groups", **_GROUPS),
    "N of M energy": Measure("retained_energy", "Energy kept by {}", "share of the squares", **_GROUPS),
    "zero tiles": Measure("zero_tile_share", "All-zero tiles of side {}", "share of the tiles", table="tensor_blocks", of="side"),
    "stable rank": Measure("stable_rank_ratio", "Stable rank / that of a random matrix", slug=SPECTRUM, table="spectra"),
    "effective rank": Measure("effective_rank_share", "Effective rank", "share of the shorter side", SPECTRUM, "spectra"),
    "outliers": Measure("outlier_share", "Outlier weights", "share of the weights", SPECTRUM, "spectra"),
    "density under a ratio": Measure("tensor_density", "Density that {} would give", "share of the weights", RATIOS, RATIOS, "method"),
    "change from a base": Measure("relative_change", "Change from {}", "share of the base's norm", DIFF, "tensor_diffs"),
}
"""By the name in the list and in the address. The 2 of 4 measures stand in the list of tensors, too (`view.DERIVE`)."""
OF_TENSORS = {name: one for name, one in MEASURES.items() if one.slug == WEIGHTS and one.table == "tensors"}


def sources_of(run: RunInfo) -> dict[str, RunInfo]:
    """The newest run of each analysis that measures can be of, by its slug: this one, and those of the same weights."""
    found = {slug: beside(run, slug) for slug in (SPECTRUM, RATIOS, DIFF)}
    return {WEIGHTS: run} | {slug: one for slug, one in found.items() if one is not None}


def measure_control(sources: Mapping[str, RunInfo]) -> Measure:
    """What colours the pictures, with the variant chosen; measures of the analyses that have been run."""
    names = [name for name, measure in MEASURES.items() if measure.slug in sources]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Colour", names, names.index("PQ Index"), key="measure", bind="query-params", width=210)
        measure = MEASURES[name]
        source = sources[measure.slug]
        variant: Any = None
        if measure.of:
            variants = {str(one): one for one in ask(source, "groups", measure.table, by=(measure.of,))[measure.of].tolist()}
            label = measure.of.capitalize()
            shown = st.selectbox(label, list(variants), key=measure.of, bind="query-params", width=160)
            variant = variants.get(shown)
    return _of_variant(measure, source, variant)


def _of_variant(measure: Measure, source: RunInfo, variant: Any) -> Measure:
    """The measure with its rows and its label settled."""
    facts = source.provenance.get("facts") or {}
    where, label, unit = measure.where, measure.label, measure.unit
    if measure.of:
        where, label = (*where, Filter(measure.of, "=", variant)), label.format(str(variant).removesuffix(" kept"))
    if measure.slug == RATIOS:
        level = float(facts["shown_density"])
        where += (Filter("density", ">=", level - 1e-12), Filter("density", "<=", level + 1e-12))
        unit = f"{unit}, at a density of {level:.3g} overall"
    if measure.slug == DIFF:
        label = label.format(visible(str(facts.get("base_label", "its base"))))
    return replace(measure, label=label, unit=unit, where=where)
