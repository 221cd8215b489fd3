"""How much can go before the model notices: `?run=<essential_sparsity run>` or `?model=…`, and every choice in the address."""

import streamlit as st

from ui import provenance
from ui.links import copy_link
from ui.sensitivity.curves import curves_of, measures
from ui.sensitivity.grid import SLUG as MATRICES
from ui.sensitivity.grid import grid, newest
from ui.sensitivity.live import GROWING, at_work, follow
from ui.sensitivity.shared_out import shared_out
from ui.sensitivity.shown import answers, curves_chart, differences, head, nothing_yet
from ui.sensitivity.view import MODEL, RUN, closer, first_run, is_of, known_runs, look, run_picker, tolerance
from ui.sensitivity.whatif import what_if
from ui.sensitivity.where import scope, where_they_sit
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Sensitivity", anchor=False)
    copy_link()

asked, model = st.query_params.get(RUN), st.query_params.get(MODEL)
follow([job for job in at_work(tuple(GROWING)) if model in (None, job.model)])
known = known_runs()
if asked and asked not in known:
    st.warning(f"There is no run {code(asked)} with curves in this store; another one is shown.", icon=":material/link_off:")
first = first_run(known)
if first is None:
    nothing_yet(model)
    alone = newest(MATRICES, "matrix_points")
    if alone is not None and (model is None or is_of(alone, model)):
        shared_out(alone, grid(alone))
    st.stop()

runs = run_picker(known, first)
st.markdown(provenance.headline(runs[0]))
curves = curves_of(runs)
with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = look(measures(curves))
    eps = tolerance(curves)
answers(curves, eps)
curves_chart(curves, measure, eps)
differences(runs[0], several=len(runs) > 1)
scope(runs[0])

st.header("One curve closer", anchor="closer")
curve = closer(curves)
if not curve.is_point:
    what_if(curve)
where_they_sit(curve, eps)
shared_out(runs[0], grid(runs[0]))
head(runs)
