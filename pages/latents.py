"""An SAE and all its latents: `?run=<id>` of any run that speaks of it, and every filter in the address."""

import streamlit as st

from ui import data, provenance
from ui.latents import overview
from ui.latents.attribution import show_heads
from ui.latents.charts import OPEN, show_scatter
from ui.latents.compare import show_compared
from ui.latents.labels import export_labels
from ui.latents.next_steps import how_to_train, show_next
from ui.latents.saes import query, sae_of, saes
from ui.latents.table import show_table
from ui.latents.view import filters, picked
from ui.links import LATENT_PAGE, copy_link, run_link
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Latents", anchor=False)
    copy_link()

known = saes()
asked = st.query_params.get("run")
if asked and asked not in known:
    found = sae_of(asked, known)
    if found is not None:
        known = {asked: found} | {name: one for name, one in known.items() if one.fingerprint != found.fingerprint}
    else:
        st.warning(f"There is no run {code(asked)} of an SAE in this store; the newest one is shown.", icon=":material/link_off:")
if not known:
    st.markdown("No SAE has been trained or judged yet. A small one of the bundled model takes some minutes:")
    how_to_train()
    st.stop()

sae = picked(known, asked)
st.markdown(f"{provenance.headline(sae.run)} · {overview.about(sae)}")
show_compared(known)
overview.worth(sae)
overview.numbers(sae)
show_next(sae)
overview.rivals(sae)
if sae.told is not None:
    st.header("Latents", anchor=False)
    view = filters(sae.told)
    show_scatter(view)
    show_table(sae, view, data.ask(view.run, "count", "latents", where=view.where))
    export_labels(sae)
show_heads(sae)
overview.quality(sae)
overview.training(sae)
with st.expander("The runs that say this, and how they were made", icon=":material/receipt_long:"):
    for run in sae.runs:
        run_link(run)
    provenance.show(sae.run)

opened = st.session_state.pop(OPEN, None)
if opened is not None:
    st.switch_page(LATENT_PAGE, query_params=query(sae, opened))
