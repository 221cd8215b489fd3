"""The picture of all latents: how often against how strongly. A click on a point opens its latent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from analysis.latents.quality_figures import draw_scatter
from figures.screen import PLOTLY_CONFIG, to_plotly
from figures.spec import FigureError, FigureSpec
from ui import data
from ui.charts import export_menu, row_clicked
from ui.latents.view import View
from ui.words import count, plain

OPEN = "latent_to_open"
"""Where a click leaves the number of a latent, for the page to open."""
DRAWN = 30_000
"""Points at most; of more a sample in even steps over the numbers of latents is drawn, and said to be."""
_COLUMNS = ("latent", "density", "max", "class", "mean", "n_active")


def scatter_spec(view: View) -> FigureSpec:
    """Latents that meet the filters; silent ones have no place. Raises `FigureError` where there is none."""
    frame = data.ask(view.run, "read", "latents", columns=_COLUMNS, where=view.where, order_by=("latent",))
    step = -(-len(frame) // DRAWN) or 1
    spec = draw_scatter(frame.iloc[::step].reset_index(drop=True), view.run.provenance)
    active = int((frame["n_active"] > 0).sum())
    facts = view.run.provenance["facts"]
    said = (
        f"A point per latent, n = {active:,} of {count(int(facts['n_latents']), 'latent')}: the share of tokens it is active on, against "
        f"its largest activation, on {count(int(facts['n_tokens']), 'token')} of {count(int(facts['n_documents']), 'document')} of "
        f"{view.run.data}."
    )
    silent = len(frame) - active
    said += f" Silent ones ({silent:,}) have no place here." if silent else ""
    said += f" Filtered: {view.words.replace('`', '')}." if view.words else ""
    said += f" One in {step} is drawn." if step > 1 else ""
    return replace(spec, title="All latents", sentence=said)


def show_scatter(view: View) -> None:
    """The scatter, or the sentence why there is none."""
    try:
        spec = scatter_spec(view)
        figure: Any = to_plotly(spec)
    except FigureError as error:
        st.markdown("## All latents")
        st.caption(f"Nothing to draw: {plain(error)}")
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("## All latents")
        export_menu(spec, view.run.provenance, name="latents", key="scatter")
    figure.update_layout(height=420)
    key = f"scatter-{view.run.id}-{hash(view.where)}"
    st.session_state["_latents_drawn"] = (key, spec.data["latent"].tolist())
    config = dict(PLOTLY_CONFIG) | {"scrollZoom": False}
    st.plotly_chart(figure, config=config, alt=spec.sentence, key=key, on_select=_choose, selection_mode="points")
    st.caption(f"{plain(spec.sentence)} Click a point to open its latent.")


def _choose() -> None:
    key, latents = st.session_state["_latents_drawn"]
    row = row_clicked(st.session_state[key]["selection"]["points"])
    if row is not None:
        st.session_state[OPEN] = int(latents[row])
