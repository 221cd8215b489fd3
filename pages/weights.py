"""The weights of a checkpoint: `?run=<weight_sparsity run>&view=…`, and every filter in the address."""

import streamlit as st

from ui import data, provenance
from ui.links import CHECKPOINT_PAGE, START_PAGE, copy_link
from ui.runs import WEIGHTS, readable, reference_of, sealed
from ui.weights.difference import show_difference
from ui.weights.maps import map_spec, show_map, show_treemap, shown_of, treemap_spec
from ui.weights.measures import measure_control, sources_of
from ui.weights.over_time import show_series
from ui.weights.rows import OPEN, open_tensor
from ui.weights.runs import TIMELINE, outdated
from ui.weights.table import show_table
from ui.weights.verdict import show_totals, show_verdict
from ui.weights.view import ONE, OTHER, picked, view_control
from ui.words import code, count

known = {run.id: run for run in readable(WEIGHTS)}
asked = st.query_params.get("run")
named = sealed(asked, WEIGHTS, "tensor_patterns")
if named is not None:
    known.setdefault(named.id, named)
opened = st.session_state.pop(OPEN, None)
if opened is not None and asked in known:
    open_tensor(known[asked], opened)

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Weights", anchor=False)
    copy_link()
if asked and asked not in known:
    st.warning(f"There is no run {code(asked)} of weights in this store; another one is shown.", icon=":material/link_off:")
if not known:
    if outdated():
        st.markdown(f"{count(len(outdated()), 'run')} of an older version cannot be drawn here; run the analysis again:")
    else:
        st.markdown("No weights have been measured yet. The bundled model takes half a minute:")
    st.code(data.command(WEIGHTS, "smollm2"), language="bash", wrap_lines=True)
    st.page_link(START_PAGE, label="Measure a model's weights", icon=":material/play_arrow:", query_params={"analysis": WEIGHTS})
    if readable(TIMELINE):
        show_series(None)
    st.stop()

run = picked(known, asked)
st.markdown(provenance.headline(run))
show_verdict(run)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    view = view_control()
    st.page_link(
        CHECKPOINT_PAGE,
        label="What its files hold",
        icon=":material/inventory_2:",
        query_params={"model": reference_of(run)},
        width="content",
    )

if view == ONE:
    show_totals(run)
    sources = sources_of(run)
    measure = measure_control(sources)
    tensors = shown_of(run, measure, sources[measure.slug])
    show_treemap(run, treemap_spec(run, tensors))
    drawn = map_spec(run, tensors)
    if drawn is None:
        st.caption("None of its matrices lies in a numbered block, so there is no map of layers; the table has them all.")
    else:
        show_map(run, drawn)
    show_table(run)
elif view == OTHER:
    show_difference(run)
else:
    show_series(run)
