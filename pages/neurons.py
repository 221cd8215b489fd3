"""All neurons of a model, by layer, in a scatter and in a table: `?run=<id>` and every filter in the address."""

import streamlit as st

from ui import data, provenance
from ui.links import HOME_PAGE, NEURON_PAGE, copy_link
from ui.neurons.charts import OPEN, layer_strip, scatter
from ui.neurons.table import show_table
from ui.neurons.units import Unit, runs, sites
from ui.neurons.view import controls, picked
from ui.neurons.words import wakes
from ui.runs import NEURONS, sealed
from ui.words import code, plain

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Neurons", anchor=False)
    copy_link()

known = {run.id: run for run in runs()}
asked = st.query_params.get("run")
if asked and asked not in known:
    found = sealed(asked, NEURONS, "neurons")
    if found is not None:
        known[found.id] = found
    else:
        st.warning(f"There is no run {code(asked)} with neurons in this store; the newest one is shown.", icon=":material/link_off:")
if not known:
    st.markdown("No neurons have been measured yet. The bundled model takes about a minute:")
    st.code(data.command(NEURONS, "smollm2"), language="bash", wrap_lines=True)
    st.page_link(HOME_PAGE, label="What else can be asked", icon=":material/home:")
    st.stop()

run = picked(known, asked)
places = sites(run)
st.markdown(provenance.headline(run))
if not places:
    st.info("This run found no feed-forward neurons in the model, so there is nothing to browse.", icon=":material/search_off:")
    st.stop()

view = controls(run, places)
layer_strip(view, places)
st.caption(plain(wakes([site.row for site in places])))
in_cloud = data.ask(run, "count", "neurons", where=view.cloud, derive=view.derive)
if in_cloud:
    scatter(view, places, in_cloud)
in_table = in_cloud if view.box is None else data.ask(run, "count", "neurons", where=view.where, derive=view.derive)
show_table(view, places, in_table)

opened = st.session_state.pop(OPEN, None)
if opened is not None:
    st.switch_page(NEURON_PAGE, query_params=Unit(places[opened[0]], opened[1]).query(run))
