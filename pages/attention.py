"""All heads of a model, layer by head, in a scatter and in a table: `?run=<id>`, and every measure and filter in the address."""

import streamlit as st

from ui import data, provenance
from ui.attention.charts import opened, show_grid, show_scatter, what_they_mean
from ui.attention.heads import SLUG, places_of, run_of, runs
from ui.attention.measures import measures, pattern_measures
from ui.attention.patterns import patterns_of
from ui.attention.similar import closer, show_alike
from ui.attention.table import show_table
from ui.attention.thumbnails import show_thumbnails
from ui.attention.view import filters, picked
from ui.links import HEAD_PAGE, RUN_PAGE, START_PAGE, copy_link, run_query
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Attention", anchor=False)
    copy_link()

known = runs()
asked = st.query_params.get("run")
if asked and asked not in known:
    found = run_of(asked)
    if found is not None:
        known[found.id] = found
    else:
        st.warning(f"There is no run {code(asked)} with heads in this store; the newest one is shown.", icon=":material/link_off:")
if not known:
    st.markdown("No attention heads have been measured yet: how many keys each needs, and where it looks. For the bundled model:")
    st.code(data.command(SLUG, "smollm2"), language="bash", wrap_lines=True)
    st.page_link(START_PAGE, label="Measure heads here", icon=":material/play_arrow:", query_params={"analysis": SLUG, "model": "smollm2"})
    st.stop()

run = picked(known, asked)
places, named, patterns = places_of(run), measures(run), patterns_of(run)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.markdown(provenance.headline(run))
    st.page_link(RUN_PAGE, label="Its run, all tables", icon=":material/analytics:", query_params=run_query(run), width="content")
if not named:
    st.info("No query of this run has two valid keys, so its heads have no numbers.", icon=":material/search_off:")
    st.stop()

view, every = filters(run, places, named, patterns), named | pattern_measures(patterns)
colour = show_grid(view, places, every)
what_they_mean(every)
across, up = show_scatter(view, places, every)
show_table(view, places, named, [one for one in (colour, across, up) if one is not None])
layer = closer(view, places)
show_alike(view, places, layer)
show_thumbnails(view, places, layer)

head = opened(places)
if head is not None:
    st.switch_page(HEAD_PAGE, query_params=head.query(run))
