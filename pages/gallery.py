"""Every figure and table of a run, to tick and take along as one zip: `?run=<id>`, with the ticks and how they are wanted."""

import streamlit as st

from ui import data, gallery, provenance
from ui.links import RUN_PAGE, RUNS_PAGE, copy_link, run_query, run_title
from ui.runs import run_label, run_picker
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Gallery", anchor=False)
    copy_link()

asked = st.query_params.get("run")
runs = {run.id: run for run in data.runs(summaries=False) if run.status == "sealed" and (run.current or run.id == asked)}
if asked and asked not in runs:
    found = data.chosen_run(asked)
    runs |= {found.id: found} if found is not None and found.status == "sealed" else {}
    asked = found.id if found is not None and found.id in runs else asked
    if asked not in runs:
        st.warning(f"There is no run {code(asked)} in this store that can be shown; another one is.", icon=":material/link_off:")
if not runs:
    st.info("Nothing has been measured yet, so there is nothing to take along.", icon=":material/info:")
    st.page_link(RUNS_PAGE, label="The list of runs", icon=":material/list:")
    st.stop()

run = run_picker(
    runs, asked, key="run_choice", label="Run", name=lambda one: f"{run_title(runs[one])} · {run_label(runs[one])}",
    forget=gallery.forget_ticks,
)  # fmt: skip
st.markdown(provenance.headline(run))
st.markdown("Everything below can be taken along: each figure with its numbers, a caption, what to cite, and a script that redraws it.")
wanted = gallery.wish()
all_items = gallery.known(run)
chosen = gallery.ticked(run, all_items)
gallery.take(run, chosen, wanted)
gallery.tick_buttons(run, all_items)
if any(one.kind == "figure" for one in all_items):
    st.header("Figures", anchor="figures")
    gallery.show_figures(run, all_items, chosen, wanted)
if any(one.kind == "table" for one in all_items):
    st.header("Tables", anchor="tables")
    gallery.show_tables(run, all_items, chosen)
with st.expander("The same on the command line", icon=":material/terminal:"):
    st.caption("Writes every figure and table of the run into a folder, byte for byte as the zip has them.")
    st.code(gallery.as_command(run, wanted), language="bash", wrap_lines=True)
st.page_link(RUN_PAGE, label="Back to the run", icon=":material/analytics:", query_params=run_query(run))
