"""All SAEs of the store in a table, a row each: what they cost the model, how sparse they are, what of them is dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.latents.quality_tables import JUDGED, MEASURES, OURS, USUAL
from ui.latents.overview import SCORED, measured
from ui.latents.saes import Sae
from ui.latents.view import PICKER
from ui.paging import first_page
from ui.words import plain

COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "CE difference": ("loss_increase", SCORED, "%+.3g"),
    "CE recovered": ("loss_recovered_mean", SCORED, "percent"),
    "explained variance": ("explained_variance", USUAL, "percent"),
    "L0": ("l0", JUDGED, "%.1f"),
    "dead": ("dead", JUDGED, "percent"),
    "duplicates": ("near_duplicates", JUDGED, "percent"),
}
"""By heading: measure, tokens and format."""
_HELD = "held out"
_KEY = "saes-compared"


def show_compared(known: Mapping[str, Sae]) -> None:
    """Every SAE; a click on a row shows that one. Nothing where there is a single one."""
    if len(known) < 2:
        return
    names = list(known)
    st.session_state["_saes_compared"] = names
    with st.expander(f"All {len(names)} SAEs side by side", icon=":material/compare_arrows:"):
        st.dataframe(
            rows_of(known), hide_index=True, placeholder="—", column_config=_headings(), on_select=_choose, selection_mode="single-cell",
            key=_KEY, alt="One row per SAE.",
        )  # fmt: skip
        st.caption(
            "Click a row to see that SAE. All but the last two columns are of its newest SAE quality run, so texts may differ: compare "
            f"those that were judged on the same one. “{_HELD}” is what its training measured on documents it left out."
        )


def rows_of(known: Mapping[str, Sae]) -> dict[str, list[Any]]:
    """The numbers by heading, an entry per SAE; None where it has not been judged so."""
    every = list(known.values())
    found: dict[str, list[Any]] = {
        "model": [one.run.model for one in every],
        "place": [one.hook_name for one in every],
        "kind": [one.architecture for one in every],
        "latents": [one.n_latents for one in every],
        "text": [None if one.quality is None else one.quality.data for one in every],
    }
    for heading, (measure, tokens, _) in COLUMNS.items():
        rows = [measured(one).get((measure, tokens, OURS)) for one in every]
        found[heading] = [None if row is None else row["value"] for row in rows]
    found[_HELD] = [one.row and one.row["explained_variance"] for one in every]
    found["mean max cosine"] = [one.row and one.row["mean_max_cosine"] for one in every]
    return found


def _headings() -> dict[str, Any]:
    config = st.column_config
    made = {
        heading: config.NumberColumn(
            heading, help=plain(f"{MEASURES[measure].meaning}; {MEASURES[measure].unit or 'a ratio'}; tokens: {tokens}"), format=shape
        )
        for heading, (measure, tokens, shape) in COLUMNS.items()
    }
    return made | {
        "latents": config.NumberColumn("latents", format="localized"),
        "text": config.TextColumn("text", help="What it was judged on"),
        _HELD: config.NumberColumn(_HELD, help="Explained variance on held-out documents, told by its training", format="percent"),
        "mean max cosine": config.NumberColumn(
            "mean max cosine", help="Where the model's features are known: how near a latent comes to each, on average", format="%.3f"
        ),
    }


def _choose() -> None:
    chosen = st.session_state[_KEY]["selection"]["cells"]
    if chosen:
        run = st.session_state["_saes_compared"][chosen[0][0]]
        st.session_state[PICKER] = run
        st.query_params["run"] = run
        first_page()
