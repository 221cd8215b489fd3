"""One attention head: `?run=…&layer=…&head=…`. What it does in words, its numbers, how far it looks, and how that grows with context."""

import streamlit as st

from analysis.spec import UserError
from figures.words import visible
from ui import provenance
from ui.attention import curves
from ui.attention.charts import opened
from ui.attention.head_page import getting_about, interval_words, numbers, row_of, show_writes, state
from ui.attention.heads import find, places_of, run_of
from ui.attention.measures import by_position, measures
from ui.attention.patterns import patterns_of
from ui.attention.similar import show_similar
from ui.attention.windows import show_windows
from ui.latents.followed import show_followers
from ui.links import ATTENTION_PAGE, HEAD_PAGE, RUN_PAGE, copy_link, run_query
from ui.neighbours import show_matrices
from ui.notes import notes, of_head
from ui.python import copy_as_python
from ui.removal import HEAD, show_removed
from ui.words import code, plain

asked = st.query_params.to_dict()
run = run_of(asked["run"]) if asked.get("run") else None
if run is None:
    st.title("No such head" if asked.get("run") else "No head chosen", anchor=False)
    if asked.get("run"):
        st.markdown(f"There is no run {code(asked['run'])} with heads in this store; it may be in another, or the address was cut short.")
    st.page_link(ATTENTION_PAGE, label="Choose one of the heads", icon=":material/center_focus_strong:")
    st.stop()

places = places_of(run)
try:
    head = find(places, asked.get("layer", ""), asked.get("head", ""), asked.get("hook"), asked.get("turn", "0"))
    row = row_of(run, head)
except UserError as error:
    st.title("No such head", anchor=False)
    st.markdown(plain(error))
    st.page_link(ATTENTION_PAGE, label="Choose one of the heads", icon=":material/center_focus_strong:", query_params=run_query(run))
    st.stop()

st.set_page_config(page_title=visible(f"Head {head.name} · {run.model}"))
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(f"Head {head.place.layer}:{head.head}", anchor=False)
    getting_about(run, places, head)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.markdown(f"{provenance.headline(run)} · {code(head.place.hook_name)} · {head.place.kind}")
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        query = run_query(run) | {"site": head.place.label}
        st.page_link(ATTENTION_PAGE, label=f"Layer {plain(head.place.label)}", icon=":material/center_focus_strong:", query_params=query)
        st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(run))
        copy_as_python(run, "heads", where=head.where, rows="this head's row")
        copy_link(f"Head {head.name} of {run.model}")
notes(of_head(run, head.place.hook_name, head.place.turn, head.head))
st.markdown(f"**{plain(state(row))}**")
st.caption(interval_words(row))

known = measures(run)
numbers(run, head, row, known)
left, right = st.columns(2, gap="large")
with left:
    curves.show("How far it looks", "distances", curves.distance_spec, run, head, row)
with right:
    curves.show("Keys needed", "mass", curves.mass_spec, run, head, row)
curves.show_curves(run, head, row, by_position(run))
show_windows(run, head)
show_similar(run, patterns_of(run), places, head)
show_writes(run, head, row)
show_followers(run, HEAD, head.place.layer, head.place.hook_name, head.head)
left, right = st.columns(2, gap="large")
with left:
    show_matrices(run, "attention", head.place.layer, head.place.hook_name)
with right:
    show_removed(run, HEAD, head.place.layer, head.place.hook_name, head.head)
with st.expander("Where these numbers come from", icon=":material/receipt_long:"):
    provenance.show(run)

if (clicked := opened(places)) is not None:
    st.switch_page(HEAD_PAGE, query_params=clicked.query(run))
