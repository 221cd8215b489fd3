"""Models side by side: `?a=<model or run>&b=<model or run>,…`. What differs, what changed most, and what cannot be compared, each said."""

import streamlit as st

from ui import data
from ui.compare.curves import curves
from ui.compare.heads import heads
from ui.compare.latents import latents
from ui.compare.losses import losses
from ui.compare.matrices import matrices
from ui.compare.neurons import neurons
from ui.compare.overview import overview
from ui.compare.section import legend, section
from ui.compare.sides import asked_names, chosen_sides, closer_side, known_sides
from ui.links import COMPARED, HOME_PAGE, copy_link
from ui.words import code, plain

TITLES = ("Matrices", "Neurons", "Heads", "Latents", "Loss", "Curves")
SECTIONS = tuple(zip(COMPARED, TITLES, (matrices, neurons, heads, latents, losses, curves), strict=True))

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Compare", anchor=False)
    copy_link()

known = known_sides()
for name in asked_names(known):
    st.warning(f"There is no model and no run {code(name)} in this store; another one is shown.", icon=":material/link_off:")
if len(known) < 2:
    only = f" The store holds one model, {plain(next(iter(known.values())).name)}." if known else " Nothing has been measured yet."
    st.markdown(f"Two models are needed to be set beside each other, for example one dense and one pruned.{only} Measure another:")
    st.code(data.command("weight_sparsity", "smollm2"), language=None, wrap_lines=True)
    st.page_link(HOME_PAGE, label="What can be asked", icon=":material/home:")
    st.stop()

sides = chosen_sides(known)
if len(sides) < 2:
    st.markdown("Choose at least one model to compare with the first.")
    st.stop()
closer = closer_side(sides)
legend(sides)
overview(sides, closer)
for slug, title, body in SECTIONS:
    section(sides, slug, title, body, closer)
