"""One tensor: `?run=<weight_sparsity run>&tensor=<name>`. Its numbers, its pictures, its structure, and what it belongs to."""

import streamlit as st

from figures.words import visible
from store import Filter
from ui import provenance
from ui.links import RUN_PAGE, WEIGHTS_PAGE, copy_link, run_query
from ui.notes import notes, of_tensor
from ui.python import copy_as_python
from ui.runs import WEIGHTS, sealed
from ui.weights import drawn, panels
from ui.weights.charts import headline
from ui.weights.places import getting_about, row_of
from ui.words import code, plain

asked = st.query_params.to_dict()
run = sealed(asked.get("run"), WEIGHTS, "tensor_patterns")
if run is None:
    st.title("No such tensor" if asked.get("run") else "No tensor chosen", anchor=False)
    if asked.get("run"):
        st.markdown(
            f"There is no run {code(asked['run'])} of weights in this store; it may be in another one, or the address was cut short."
        )
    st.page_link(WEIGHTS_PAGE, label="Choose one of the tensors", icon=":material/grid_on:")
    st.stop()

row = row_of(run, asked.get("tensor", ""))
if row is None:
    st.title("No such tensor", anchor=False)
    st.markdown(f"The checkpoint {code(run.model)} has no tensor {code(asked.get('tensor', ''))}; choose another one.")
    st.page_link(WEIGHTS_PAGE, label="All of its tensors", icon=":material/grid_on:", query_params={"run": run.id})
    st.stop()

st.set_page_config(page_title=visible(f"{row['tensor']} · {run.model}"))
st.title(code(row["tensor"]), anchor=False)
getting_about(run, row)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.markdown(f"{plain(headline(row))} · {provenance.headline(run)}")
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.page_link(WEIGHTS_PAGE, label="All tensors", icon=":material/grid_on:", query_params={"run": run.id})
        st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(run))
        copy_as_python(run, "tensors", where=(Filter("tensor", "=", row["tensor"]),), rows="this tensor's row")
        copy_link(f"{row['tensor']} of {run.model}")

notes(of_tensor(run, str(row["tensor"])))
panels.flags(row)
panels.numbers(run, row)
drawn.magnitudes(run, row)
if row["n_matrices"]:
    drawn.matrix(run, row)
    panels.dead_lines(run, row)
    panels.patterns(run, row)
    drawn.spectrum(run, row)
    drawn.ratios(run, row)
    panels.belongs(run, row)
drawn.elsewhere(run, row)
