"""One latent: `?run=…&latent=…`. What it is called, how often it is active, where it peaks, what it writes, what is like it."""

import streamlit as st

from analysis.spec import UserError
from figures.words import visible
from ui import provenance
from ui.latents.attribution import show_attribution
from ui.latents.examples import show_examples
from ui.latents.labels import label_control
from ui.latents.latent_page import badges, getting_about, numbers, row_of, state
from ui.latents.live import live_latent
from ui.latents.next_steps import show_next
from ui.latents.overview import about
from ui.latents.related import show_partners, show_similar, show_tokens
from ui.latents.saes import find, sae_of, saes, where
from ui.latents.together import show_together
from ui.links import LATENTS_PAGE, RUN_PAGE, copy_link, run_query
from ui.python import copy_as_python
from ui.words import code, plain

asked = st.query_params.to_dict()
sae = sae_of(asked["run"], saes()) if asked.get("run") else None
if sae is None:
    st.title("No such latent" if asked.get("run") else "No latent chosen", anchor=False)
    if asked.get("run"):
        st.markdown(
            f"There is no run {code(asked['run'])} of an SAE in this store; it may be in another one, or the address was cut short."
        )
    st.page_link(LATENTS_PAGE, label="Choose one of the latents", icon=":material/hub:")
    st.stop()

run = sae.told
try:
    latent = find(sae, asked.get("latent", ""))
    row = row_of(run, latent) if run is not None else None
except UserError as error:
    st.title("No such latent", anchor=False)
    st.markdown(plain(error))
    st.page_link(LATENTS_PAGE, label="Choose one of the latents", icon=":material/hub:", query_params=run_query(sae.run))
    st.stop()

st.set_page_config(page_title=visible(f"Latent {latent} · {sae.run.model}"))
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(f"Latent {latent}", anchor=False)
    getting_about(sae, latent)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.markdown(f"{provenance.headline(run or sae.run)} · {about(sae)}")
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.page_link(LATENTS_PAGE, label="All its latents", icon=":material/hub:", query_params=run_query(sae.run))
        st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(run or sae.run))
        if run is not None:
            copy_as_python(run, "latents", where=where(latent), rows="this latent's row")
        copy_link(f"Latent {latent} of an SAE of {sae.run.model}")
label_control(sae, latent)
if run is None or row is None:
    st.markdown("Nothing has been measured of single latents of this SAE yet.")
    show_next(sae)
    st.stop()

badges(row, run)
st.markdown(f"**{plain(state(row))}**")
numbers(run, row)
show_examples(sae, latent, row)
if sae.examples is not None:
    show_together(sae, sae.examples, latent)
live_latent(sae, run, latent, row)
if sae.examples is not None:
    show_tokens(sae.examples, latent)
    show_similar(sae, sae.examples, latent)
    show_partners(sae.examples, latent)
show_attribution(sae, latent)
show_next(sae)
with st.expander("Where these numbers come from", icon=":material/receipt_long:"):
    provenance.show(run)
