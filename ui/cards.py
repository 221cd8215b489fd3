"""The model library: a card per model with its bar code, its headline numbers, its runs, and what can be asked next."""

from __future__ import annotations

import streamlit as st

from analysis import ANALYSES
from analysis.headlines import headlines
from analysis.spec import Analysis
from figures.words import visible
from store import RunInfo
from ui.barcode import bar_code, legend_rows, legend_svg
from ui.library import Entry
from ui.links import CHECKPOINT_PAGE, REPORT_PAGE, START_PAGE, browse_link, run_link
from ui.uploads.kept import shown
from ui.words import count, percent, plain

FIRST = ("weight_sparsity", "neuron_activity", "head_sparsity", "sae_train", "essential_sparsity", "sparsity_plane")
"""Questions a card offers while they wait for their answer, one of each kind; the others are on the model's page."""


def model_card(entry: Entry) -> None:
    """One model: what it is, its bar code, the newest run of each analysis with its numbers, and what is still to be asked."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"## {plain(entry.name)}", width="content")
            query = {"model": entry.ref}
            st.page_link(CHECKPOINT_PAGE, label="What it holds, and every answer", icon=":material/inventory_2:", query_params=query)
            if entry.newest:
                st.page_link(REPORT_PAGE, label="Report", icon=":material/description:", query_params=query)
        st.caption(_about(entry))
        picture = bar_code(entry.newest.values())
        if picture is not None:
            st.image(picture.svg, width="stretch", alt=visible(f"{entry.name}: {picture.words}"))
        for run in entry.newest.values():
            _answer(run)
        _next(entry)
        older = [run for run in entry.runs if run.id not in {one.id for one in entry.newest.values()}]
        if older:
            with st.expander(count(len(older), "further run")):
                for run in older:
                    run_line(run)


def legend() -> None:
    """How the bar codes are read, once for all of them."""
    with st.expander("How to read the bar codes", icon=":material/barcode:"):
        st.markdown(
            "A column is a layer, the first on the left; a row is a measure, with its lowest and highest value over the layers. "
            "The height of a bar is its value against the highest of its row. Its colour is the value itself, on a scale that is the same "
            "for every model:"
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("low", width="content")
            st.image(legend_svg(), alt="Colour scale from dark blue, low, over grey to yellow, high.")
            st.markdown("high", width="content")
        st.markdown("\n".join(f"- **{plain(label)}**: {plain(meaning)}." for label, meaning in legend_rows(ANALYSES)))


def run_line(run: RunInfo, *, with_model: bool = False) -> None:
    """A link to a run, and in words what is not as it should be with it."""
    run_link(run, with_model=with_model)
    if run.status != "sealed":
        st.caption(f"Cannot be shown: {plain(run.words)}")
    elif not run.current:
        st.caption("A newer attempt counts for this question.")


def start_link(analysis: Analysis, ref: str, label: str) -> None:
    """A link to the form of an analysis with the model filled in."""
    st.page_link(START_PAGE, label=label, icon=":material/play_arrow:", query_params={"analysis": analysis.slug, "model": ref})


# ---------------------------------------------------------------------------------------------------------------------


def _about(entry: Entry) -> str:
    facts = entry.facts
    parts = [plain(entry.label)] if entry.label != entry.name else []
    if isinstance(facts.get("n_parameters"), int):
        parts.append(count(facts["n_parameters"], "parameter"))
    if isinstance(facts.get("n_layers"), int):
        parts.append(count(facts["n_layers"], "layer"))
    source = shown(entry.source)
    if source and source not in (entry.name, entry.label):
        parts.append(plain(source))
    return " · ".join(parts)


def _answer(run: RunInfo) -> None:
    """One question that has been answered: the way to its run, its numbers, and what they were counted over."""
    told, today = headlines(run), {analysis.slug: analysis.version for analysis in ANALYSES}
    with st.container(horizontal=True, vertical_alignment="top", gap="small"):
        with st.container(width=260, gap="xsmall"):
            run_line(run)
            if today.get(run.slug, run.version) != run.version:
                st.caption(f"Made by version {run.version}; today's version {today[run.slug]} measures something else. Run it again.")
            else:
                browse_link(run)
        for one in told:
            st.metric(one.label, percent(one.share), width=140)
    for over in dict.fromkeys(one.over for one in told):
        st.caption(plain(over))


def _next(entry: Entry) -> None:
    """What has not been asked of this model yet: the way to the form, or the sentence why it cannot be asked."""
    said = {slug: need for one in entry.known for slug, need in one.needs.items()}
    answered = {(run.slug, run.version) for run in entry.newest.values()}
    waiting = [analysis for analysis in ANALYSES if (analysis.slug, analysis.version) not in answered]
    can = []
    for analysis in waiting:
        need = said.get(analysis.slug)
        if need and need.words and need.version == analysis.version:
            st.caption(f"**{plain(analysis.title)}** cannot be run: {plain(need.words)}")
        else:
            can.append(analysis)
    if can:
        first = [analysis for analysis in can if analysis.slug in FIRST] or can[:1]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("Next:", width="content")
            for analysis in first:
                start_link(analysis, entry.ref, plain(analysis.title))
            if len(can) > len(first):
                query = {"model": entry.ref}
                st.page_link(CHECKPOINT_PAGE, label=f"{len(can) - len(first)} more", icon=":material/more_horiz:", query_params=query)
