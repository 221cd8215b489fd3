"""On the page of a neuron or a head: latents of SAEs that rise and fall with it, and those a head feeds. The way back from their pages."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.latents.example_tables import HEAD
from store import Filter, Order, RunInfo
from ui import data
from ui.latents.labels import labels_of
from ui.latents.related import only_places
from ui.latents.saes import Sae, query, saes
from ui.links import LATENT_PAGE
from ui.runs import weights_of
from ui.words import count, percent, plain

SAES, LISTED = 4, 8
"""SAEs and latents of each that are named, at most."""


def show_followers(run: RunInfo, kind: str, layer: int, hook_name: str, unit: int) -> None:
    """Latents of the SAEs of the same weights; nothing where none has been compared with its neurons and heads."""
    if kind == HEAD and layer not in only_places(run):
        return  # a layer with several places: which of them an SAE was compared with cannot be told
    own = [sae for sae in saes().values() if weights_of(sae.run) == weights_of(run)]
    compared = [sae for sae in own if sae.examples is not None and sae.examples.rows.get("latent_partners")]
    if compared:
        st.markdown("## Latents that follow it")
        lists = {sae.run.id: (sae, followers(sae, kind, layer, hook_name, unit)) for sae in compared[:SAES]}
        found = [one for one in lists.values() if one[1]]
        for sae, rows in found:
            _listed(sae, [(row["latent"], f"{row['correlation']:.2f}") for row in rows])
        st.caption(_words(kind, len(found), len(compared)))
    fed = [(sae, fed_by(sae, layer, unit)) for sae in own if kind == HEAD]
    for sae, rows in [one for one in fed if one[1]][:SAES]:
        st.markdown("## Latents that it feeds")
        _listed(sae, [(row["latent"], percent(row["share"])) for row in rows])
        st.caption(
            "Behind each: the norm of its decoder direction in this head, over the sum of its norms in all heads, from the weights alone; "
            f"of latents that are active, the largest first. {plain(tasks_words(sae, layer, unit))}"
        )


def _words(kind: str, n_found: int, n_compared: int) -> str:
    if not n_found:
        return f"None of the latents that were compared follows this {kind} more closely than chance, or others are nearer to each."
    left = f" Only the {SAES} newest of {n_compared} SAEs are looked at." if n_compared > SAES else ""
    return (
        f"Behind each: the correlation with this {kind} over sampled tokens, where it is beyond chance; only {kind}s nearest to a latent "
        f"are kept.{left}"
    )


def followers(sae: Sae, kind: str, layer: int, hook_name: str, unit: int) -> list[dict[str, Any]]:
    """Rows of `latent_partners` that name the unit and are beyond chance, the closest first; empty where none were looked for."""
    if sae.examples is None:
        return []
    wanted = [Filter("kind", "=", kind), Filter("layer", "=", layer), Filter("unit", "=", unit), Filter("above_noise", "=", True)]
    wanted += [] if kind == HEAD else [Filter("hook_name", "=", hook_name)]  # what heads give has another hook than their patterns
    order = (Order("correlation", descending=True), Order("latent"))
    return data.ask(sae.examples, "read", "latent_partners", where=tuple(wanted), order_by=order, limit=LISTED).to_dict("records")


def fed_by(sae: Sae, layer: int, head: int) -> list[dict[str, Any]]:
    """Rows of `latent_heads` of that head, the largest share first; empty where the SAE reads other heads, or was not attributed."""
    run = sae.attribution
    if run is None or layer not in {row["layer"] for row in run.summaries.get("head_latents", ())}:
        return []
    order = (Order("share", descending=True), Order("latent"))
    wanted = (Filter("head", "=", head), Filter("active", "=", True))
    return data.ask(run, "read", "latent_heads", where=wanted, order_by=order, limit=LISTED).to_dict("records")


def tasks_words(sae: Sae, layer: int, head: int) -> str:
    """How many latents have the head for their largest, and whether those that lie in it most have to do with each other."""
    rows = sae.attribution.summaries.get("head_latents", ()) if sae.attribution is not None else ()
    row = next((one for one in rows if (one["layer"], one["head"]) == (layer, head)), None)
    if row is None:
        return ""
    said = f"It is the largest head of {row['n_top']:,} of {count(int(row['n_latents']), 'active latent')}."
    if row["top_similarity"] is not None:
        said += (
            f" Mean cosine of the parts that its {len(row['top_latents'])} first latents have in it: {row['top_similarity']:.2f}; near 0, "
            "the head writes different things for them, as one with several tasks does."
        )
    return said


def _listed(sae: Sae, latents: list[tuple[int, str]]) -> None:
    labels = labels_of(sae)
    st.markdown(f"**{plain(sae.name)}**")
    with st.container(horizontal=True, gap="small"):
        for latent, said in latents:
            named = f" · {plain(labels[latent].text)}" if latent in labels else ""
            st.page_link(LATENT_PAGE, label=f"Latent {latent} · {said}{named}", query_params=query(sae, latent), width="content")
