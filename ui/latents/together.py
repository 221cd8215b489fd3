"""From one example of a latent to the other latents that peak on the very same token."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from store import Filter, RunInfo
from ui import data
from ui.latents.examples import rows_of
from ui.latents.labels import labels_of
from ui.latents.saes import Sae, query
from ui.links import LATENT_PAGE
from ui.tables import shown_text
from ui.words import code, plain

EXAMPLES, LISTED = 5, 8
"""Examples that are looked at, and latents named for each, at most."""
_PLACE = ["window", "position"]
Frame = Any


def show_together(sae: Sae, run: RunInfo, latent: int) -> None:
    """For the top examples: who else has an example there. Nothing where there is no example."""
    frame = rows_of(run, latent)
    own = frame[(frame["kind"] == "top") & (frame["rank"] < EXAMPLES)] if len(frame) else frame
    if not len(own):
        return
    others, labels = beside(run, latent, own), labels_of(sae)
    st.markdown("## Also peaking there")
    for row in own.to_dict("records"):
        here = others[(others["window"] == row["window"]) & (others["position"] == row["position"])]
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.markdown(f"**Top {int(row['rank']) + 1}**{_token(row)}", width="content")
            for other in here["latent"].head(LISTED).astype(int).tolist():
                named = f" · {plain(labels[other].text)}" if other in labels else ""
                st.page_link(LATENT_PAGE, label=f"Latent {other}{named}", query_params=query(sae, other), width="content")
            if not len(here):
                st.caption("no other latent", width="content")
    st.caption(
        f"Latents that have one of their own top examples on the same token, at most {LISTED}, those for which it ranks highest first. "
        "One that is active there but more so elsewhere in the window is not among them."
    )


def beside(run: RunInfo, latent: int, own: Frame) -> Frame:
    """Other latents' top examples on the same tokens, the highest rank first."""
    windows = tuple(sorted({int(one) for one in own["window"]}))
    wanted = (Filter("kind", "=", "top"), Filter("window", "in", windows), Filter("latent", "!=", latent))
    found = data.ask(run, "read", "latent_examples", columns=("latent", "rank", *_PLACE), where=wanted, order_by=("rank", "latent"))
    return found.merge(own[_PLACE].drop_duplicates(), on=_PLACE)


def _token(row: dict[str, Any]) -> str:
    tokens, at = row.get("tokens"), int(row["position"])
    return f", {code(shown_text(str(tokens[at])))}" if isinstance(tokens, (list, np.ndarray)) and at < len(tokens) else ""
