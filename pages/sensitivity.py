"""How much can go before the model notices: `?run=<essential_sparsity run>` or `?model=…`, and every choice in the address."""

import streamlit as st

from ui import provenance
from ui.links import copy_link
from ui.runs import MATRICES, readable, weights_of
from ui.sensitivity.between import between_runs
from ui.sensitivity.curves import curves_of, measures
from ui.sensitivity.grid import grid
from ui.sensitivity.live import CURVES, at_work, follow
from ui.sensitivity.plane_latents import label_of, show_latents, show_latents_of
from ui.sensitivity.shared_out import shared_out
from ui.sensitivity.shown import answers, curves_chart, differences, head, nothing_yet
from ui.sensitivity.tokens import token_changes
from ui.sensitivity.view import MODEL, RUN, closer, first_run, is_of, known_runs, look, run_picker, tolerance
from ui.sensitivity.whatif import what_if
from ui.sensitivity.where import scope, where_they_sit
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Sensitivity", anchor=False)
    copy_link()

asked, model = st.query_params.get(RUN), st.query_params.get(MODEL)
follow([job for job in at_work(CURVES) if model in (None, job.model)])
known = known_runs()
if asked and asked not in known:
    st.warning(f"There is no run {code(asked)} with curves in this store; another one is shown.", icon=":material/link_off:")
first = first_run(known)
if first is None:
    nothing_yet(model)
    alone = next((one for one in readable(MATRICES) if model is None or is_of(one, model)), None)
    if alone is not None:
        shared_out(alone, grid(alone))
    show_latents_of(model)
    st.stop()

runs = run_picker(known, first)
st.markdown(provenance.headline(runs[0]))
curves = curves_of(runs)
with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = look(measures(curves))
    eps = tolerance(curves)
answers(curves, eps)
curves_chart(curves, measure, eps)
differences(runs[0])
between_runs(curves, eps)
show_latents(weights_of(runs[0]), label_of(runs[0]))
scope(runs[0])

st.header("One curve closer", anchor="closer")
curve = closer(curves)
if curve.has_continuum:
    what_if(curve)
token_changes(curve, where_they_sit(curve, eps))
shared_out(runs[0], grid(runs[0]))
head(runs)
