"""What every kind of sparsity costs and saves, on planes of cost and loss: `?run=<sparsity_plane run>` or `?model=…`, and every filter."""

from dataclasses import replace

import streamlit as st

from ui import provenance
from ui.links import RUN_PAGE, SENSITIVITY_PAGE, copy_link, run_query
from ui.runs import reference_of, weights_of
from ui.sensitivity.live import at_work, follow
from ui.sensitivity.plane import SLUG, costs, measured
from ui.sensitivity.plane_combined import combined
from ui.sensitivity.plane_gain import gains
from ui.sensitivity.plane_latents import label_of, show_latents
from ui.sensitivity.plane_layers import layers
from ui.sensitivity.plane_lowers import lowering
from ui.sensitivity.plane_one import chosen, closer
from ui.sensitivity.plane_shown import drop_points, left_out, nothing_yet, panels_of, planes, removed, within_tolerance
from ui.sensitivity.plane_view import MODEL, ONE, RUN, controls, known_runs, picked, said
from ui.words import code, plain

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Planes", anchor=False)
    copy_link()

asked, model = st.query_params.get(RUN), st.query_params.get(MODEL)
follow([job for job in at_work((SLUG,)) if model in (None, job.model)])
known = known_runs()
if asked and asked not in known:
    st.warning(f"There is no run {code(asked)} with planes in this store; another one is shown.", icon=":material/link_off:")
if not known:
    nothing_yet(model)
    st.stop()

run = picked(known)
st.markdown(provenance.headline(run))
rows = costs(run)
view = controls(run, rows)
st.markdown(plain(said(rows, view)))
names = [row["method"] for row in measured(run, view)]
asked_one = st.session_state.get(ONE, st.query_params.get(ONE))
view = replace(view, one=asked_one if asked_one in names else None)
panels = panels_of(run, rows, view)
planes(run, panels, view)

st.header("One intervention closer", anchor="closer")
one = chosen(names)
if one is not None:
    closer(run, one, view)

within_tolerance(run, panels, view)
removed(run, view)
drop_points(run, view)
combined(run)
gains(run)
layers(run)
lowering(run, rows)
show_latents(weights_of(run), label_of(run))
left_out(run)
with st.container(horizontal=True):
    st.page_link(RUN_PAGE, label="Its run, all tables", icon=":material/analytics:", query_params=run_query(run))
    query = {"model": reference_of(run)}
    st.page_link(SENSITIVITY_PAGE, label="Curves of its weights", icon=":material/trending_up:", query_params=query)
