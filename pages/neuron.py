"""One neuron: `?run=…&layer=…&hook=…&neuron=…`. Its state in words, its numbers, its values, its examples, its neighbours."""

import streamlit as st

from analysis.spec import UserError
from ui import provenance
from ui.latents.followed import show_followers
from ui.links import NEURONS_PAGE, copy_link
from ui.neurons import queries
from ui.neurons.live_panel import live_panel
from ui.neurons.related import show_related
from ui.neurons.unit_page import examples, getting_about, more_numbers, numbers
from ui.neurons.units import find, sites
from ui.neurons.words import class_words, state
from ui.notes import notes, of_neuron
from ui.python import copy_as_python
from ui.runs import NEURONS, sealed
from ui.words import code, plain

asked = st.query_params.to_dict()
run = sealed(asked.get("run"), NEURONS, "neurons")
if run is None:
    st.title("No such neuron" if asked.get("run") else "No neuron chosen", anchor=False)
    if asked.get("run"):
        st.markdown(
            f"There is no run {code(asked['run'])} with neurons in this store; it may be in another one, or the address was cut short."
        )
    st.page_link(NEURONS_PAGE, label="Choose one of the neurons", icon=":material/scatter_plot:")
    st.stop()

places = sites(run)
try:
    unit = find(places, asked.get("layer", ""), asked.get("neuron", ""), asked.get("hook"))
    row = queries.neuron(run, unit)
    if row is None:
        raise UserError(f"the run must hold the neuron {unit.name}, got a run without that row; choose another neuron.")
except UserError as error:
    st.title("No such neuron", anchor=False)
    st.markdown(plain(error))
    st.page_link(NEURONS_PAGE, label="Choose one of the neurons", icon=":material/scatter_plot:", query_params={"run": run.id})
    st.stop()

st.set_page_config(page_title=f"Neuron {unit.name} · {run.model}")
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(f"Neuron {unit.site.layer}:{unit.neuron}", anchor=False)
    getting_about(run, places, unit)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    function = plain(unit.site.row["activation"]) + (", gated" if unit.site.row["gated"] else "")
    st.markdown(f"{provenance.headline(run)} · {code(unit.site.hook_name)} · {function}")
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        query = {"run": run.id, "site": unit.site.label}
        st.page_link(NEURONS_PAGE, label=f"Layer {plain(unit.site.label)}", icon=":material/scatter_plot:", query_params=query)
        copy_as_python(run, "neurons", where=unit.where, rows="this neuron's row")
        copy_link(f"Neuron {unit.name} of {run.model}")
notes(of_neuron(run, unit.site.hook_name, unit.neuron))
st.markdown(f"**{plain(state(row))}**")
st.caption(f"{plain(class_words(row, run))} Active means: {plain(unit.site.row['active_rule'])}.")

numbers(run, unit, row)
examples(run, unit, row)
more_numbers(run, unit, row)
live_panel(run, unit.site.layer, unit.site.hook_name, unit.neuron)
show_followers(run, "neuron", unit.site.layer, unit.site.hook_name, unit.neuron)
show_related(run, unit)
