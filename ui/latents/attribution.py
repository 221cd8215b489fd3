"""Which heads, and which earlier tokens, feed a latent of an SAE that reads what attention heads give."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from analysis.latents.attribution_figures import draw_by_head
from figures.spec import FigureError
from store import Filter, RunInfo
from ui import data
from ui.charts import show_figure, show_spec
from ui.latents.related import head_pages
from ui.latents.saes import Sae, where
from ui.links import HEAD_PAGE
from ui.python import copy_as_python
from ui.strips import Group, Strip, show_strips
from ui.words import count, number, percent, plain

Frame = Any
LISTED = 5
"""Heads that are named, at most."""


def show_attribution(sae: Sae, latent: int) -> None:
    """Heads by what they add at its examples, its direction's share in each, and the tokens it is fed from; nothing where not run."""
    run = sae.attribution
    if run is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("## Fed by which heads, from where")
        copy_as_python(run, "latent_attributions", where=where(latent), key="python-attribution")
    rows = data.ask(run, "read", "latent_attributions", where=where(latent), order_by=("rank",))
    left, right = st.columns(2, gap="large")
    with left:
        _by_head(run, rows)
    with right:
        _in_weights(run, latent)
    if len(rows):
        _sources(run, latent, rows)


def _by_head(run: RunInfo, rows: Frame) -> None:
    if rows.empty:
        st.caption("It was not among the latents that were attributed: those with the largest activations, or those asked for.")
        return
    try:
        show_spec(draw_by_head(rows, run.provenance), run.provenance, name="latent-heads", key="latent-heads")
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")


def _in_weights(run: RunInfo, latent: int) -> None:
    """Its decoder direction's parts, the heads with the largest first, each with the way to its page."""
    shares = data.ask(run, "read", "latent_heads", where=where(latent)).sort_values("share", ascending=False)
    layer = next((int(row["layer"]) for row in run.summaries.get("head_latents", ())), 0)
    address = head_pages(run).get(layer)
    st.markdown("**Its direction by head**")
    for row in shares.head(LISTED).to_dict("records"):
        said = f"Head {layer}:{int(row['head'])} · {percent(row['share'])}"
        if address is None:
            st.markdown(plain(said))
        else:
            st.page_link(HEAD_PAGE, label=plain(said), query_params=address | {"head": str(int(row["head"]))}, width="content")
    even = f"{percent(1 / len(shares))} each for one spread evenly over {count(len(shares), 'head')}" if len(shares) else ""
    st.caption(f"From the weights alone: its norm in each head over the sum of these norms; {even}.")


def _sources(run: RunInfo, latent: int, rows: Frame) -> None:
    """Its top examples, each token in the colour of what all heads add from there."""
    found = data.ask(run, "read", "latent_sources", where=where(latent))
    wanted = (Filter("window", "in", tuple(sorted(set(rows["window"].tolist())))),)
    texts = data.ask(run, "read", "latent_windows", where=wanted).set_index("window")
    strips = [_strip(row, found[found["rank"] == row["rank"]], texts.loc[row["window"]]) for row in rows.to_dict("records")]
    scale = float(found["contribution"].abs().max()) if len(found) else 1.0
    about = (
        f"Each token in the colour of what all heads add from there to latent {latent} at the marked one; {count(len(strips), 'example')}."
    )
    show_strips([Group("Fed from which tokens", about, tuple(strips))], None, scale=scale, key="latent-sources")
    kept = rows["sources_kept"].dropna()
    gap = (run.provenance.get("facts") or {}).get("largest_gap")
    said = f"The sources shown hold {percent(float(kept.mean()))} of what is added. " if len(kept) else ""
    said += (
        f"Attention frozen, biases left out; the parts add up to what the SAE read within {number(gap)} of their magnitudes."
        if gap is not None
        else ""
    )
    st.caption(plain(said))


def _strip(row: dict[str, Any], sources: Frame, text: Any) -> Strip:
    position = int(row["position"])
    tokens = list(text["tokens"]) if isinstance(text["tokens"], (list, np.ndarray)) else ["·"] * (position + 1)
    added = dict(zip(sources["source"].tolist(), sources["contribution"].tolist(), strict=True))
    end = min(len(tokens), position + 6)
    start = max(0, min([position - 5, *(int(one) - 2 for one in added)]))
    return Strip(
        tokens=tuple(tokens[start:end]),
        values=tuple(float(added[i]) if i in added else None for i in range(start, end)),
        unit=1.0,
        peak=position - start,
        value=float(row["value"]),
        where=f"{text['document']}, token {int(text['start']) + position:,}",
        words=f"Example with an activation of {float(row['value']):.3g}: what heads add from each token",
        first=start,
        rough=False,
        cut_before=start > 0,
        cut_after=end < len(tokens),
    )


def show_heads(sae: Sae) -> None:
    """On the page of all latents: how many latents each head serves, and from how far back they are fed."""
    run = sae.attribution
    if run is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        show_figure(run, "heads", "How many latents each head serves")
    with right:
        show_figure(run, "distances", "From how far back latents are fed")
