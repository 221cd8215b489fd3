"""The model library: a card per model with its sparsity bar code; for a newcomer, one clear first action."""

import streamlit as st

from analysis import ANALYSES
from ui import data
from ui.cards import legend, model_card, start_link
from ui.jobs import live_jobs, live_list
from ui.library import library
from ui.links import START_PAGE, copy_link
from ui.paging import paged
from ui.welcome import MODEL, welcome
from ui.words import count, plain

entries = library(data.runs(), data.store().models())

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Which parts of this model matter?", anchor=False)
    copy_link()
if live_jobs():
    st.header("At work", anchor=False)
n_live = live_list()
if not entries and not n_live:
    welcome()
elif not entries:
    st.markdown("The first results appear here as soon as they are there.")
else:
    n_runs = sum(len(entry.runs) for entry in entries)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"{count(n_runs, 'run')} of {count(len(entries), 'model')}, in {plain(data.store_folder())}.", width="content")
        st.page_link(START_PAGE, label="Start an analysis", icon=":material/play_arrow:")
    legend()
    for entry in paged(entries, "model", lambda one: f"{one.name} {one.label} {one.source}"):
        model_card(entry)

st.header("What you can ask", anchor=False)
for analysis in ANALYSES:
    with st.expander(f"**{plain(analysis.title)}** — {plain(analysis.question)}"):
        st.markdown("\n".join(f"- {plain(table.name)}: {plain(table.meaning)}" for table in analysis.tables))
        start_link(analysis, MODEL, "Ask it of the bundled model")
        st.code(data.command(analysis.slug, MODEL), language="bash", wrap_lines=True)
