"""What other analyses say of a neuron: shown where such a run of the same model exists, else one sentence says how to get it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from analysis import find_analysis
from store import RunInfo, TableInfo
from ui import data
from ui.links import NEURON_PAGE, RUN_PAGE, run_query
from ui.neighbours import show_matrices
from ui.neurons.units import Unit, sites
from ui.python import copy_as_python
from ui.removal import GROUP, show_removed
from ui.runs import beside, reference_of
from ui.tables import column_config, readable
from ui.words import plain

_KEY = ("layer", "hook_name", "neuron")
_ROWS = 60
_SPLITS = ("side", "by", "kind", "sign")
"""Columns that tell several lists of one table apart."""
_MEASURES = ("cosine", "correlation", "score")


@dataclass(frozen=True)
class Panel:
    """One table of another analysis about a neuron."""

    slug: str
    table: str
    title: str
    says: str
    """What it would show, for where it is not there."""


PANELS = (
    Panel("neuron_weights", "neuron_tokens", "Tokens it writes and reads", "which tokens it promotes and suppresses, and which drive it"),
    Panel("neuron_weights", "neuron_similar", "Neurons with similar weights", "neurons whose input or output weights point the same way"),
    Panel("neuron_correlation", "neuron_correlated", "Neurons active together", "neurons whose activity is correlated with its own"),
)  # fmt: skip


def show_related(run: RunInfo, unit: Unit) -> None:
    """Every panel, full or as the sentence that says how to fill it."""
    missing: dict[str, list[Panel]] = {}
    for panel in PANELS:
        found = beside(run, panel.slug, panel.table)
        if found is None:
            missing.setdefault(panel.slug, []).append(panel)
        else:
            _show(run, found, panel, unit)
    left, right = st.columns(2, gap="large")
    with left:
        show_matrices(run, "ffn", unit.site.layer, unit.site.hook_name)
    with right:
        show_removed(run, GROUP, unit.site.layer, unit.site.hook_name, unit.neuron)
    if missing:
        st.markdown("## Not measured yet")
    for slug, panels in missing.items():
        _how_to(run, slug, panels)


def _show(run: RunInfo, found: RunInfo, panel: Panel, unit: Unit) -> None:
    info = next(one for one in data.tables(found) if one.name == panel.table)
    names = {column.name for column in info.columns}
    where = tuple(one for one in unit.where if one.column in names)
    frame = data.ask(found, "read", panel.table, where=where, limit=_ROWS)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {panel.title}")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(found))
            copy_as_python(found, panel.table, where=where, key=f"python-{panel.table}")
    if frame.empty:
        st.caption(f"{plain(info.comment)} It has no row for this neuron.")
        return
    st.caption(plain(info.comment.partition(" Key: ")[0]))
    if "other_neuron" in names:
        _links(run, frame)
    else:
        _lists(frame, info)


def _lists(frame: Any, info: TableInfo) -> None:
    """Tables side by side, one per value of the column that tells the lists apart; tokens as cells, which are text."""
    split = next((name for name in _SPLITS if name in frame), None)
    parts = list(frame.groupby(split, sort=False)) if split else [(info.comment, frame)]
    kept = tuple(column for column in info.columns if column.name not in (*_KEY, split, "token_id"))
    shown = replace(info, columns=kept)
    for place, (name, part) in zip(st.columns(max(3, len(parts))), parts, strict=False):  # a list alone is a third wide
        with place:
            if split:
                st.markdown(f"**{plain(str(name).capitalize())}**")
            rows = readable(part[[column.name for column in kept]], shown)
            st.dataframe(rows, hide_index=True, column_config=column_config(shown), placeholder="—", alt=str(name), height="content")


def _links(run: RunInfo, frame: Any) -> None:
    """Links to the other neurons, with the number that makes them neighbours."""
    places = {(site.layer, site.hook_name): site for site in sites(run)}
    split = next((name for name in _SPLITS if name in frame), None)
    parts = list(frame.groupby(split, sort=False)) if split else [("", frame)]
    measure = next((name for name in _MEASURES if name in frame), None)
    for place, (name, part) in zip(st.columns(max(3, len(parts))), parts, strict=False):  # a list alone is a third wide
        with place:
            if name:
                st.markdown(f"**{plain(str(name).capitalize())}**")
            with st.container(horizontal=True, gap="small"):
                for row in part.to_dict("records"):
                    site = places.get((row["other_layer"], row["other_hook_name"]))
                    if site is None:
                        continue
                    other = Unit(site, int(row["other_neuron"]))
                    label = plain(other.name) + (f" · {row[measure]:.2f}" if measure else "")
                    st.page_link(NEURON_PAGE, label=label, query_params=other.query(run))
    if measure:
        st.caption(f"The number behind each neuron is its {measure}.")


def _how_to(run: RunInfo, slug: str, panels: list[Panel]) -> None:
    what, analysis = " and ".join(panel.says for panel in panels), find_analysis(slug)
    titles = ", ".join(panel.title for panel in panels)
    st.markdown(f"**{titles}**: {plain(analysis.title)} tells {what}. It has not been run on this model:")
    st.code(data.command(slug, reference_of(run)), language="bash", wrap_lines=True)
