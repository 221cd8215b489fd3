"""Any run of any analysis, drawn from its declaration: `?run=<id>`. Tables need no registered analysis; figures do."""

import streamlit as st

from analysis import find_analysis
from analysis.spec import UnknownName
from ui import data, provenance
from ui.charts import show_figure
from ui.links import RUNS_PAGE, browse_link, copy_link, gallery_link, run_title
from ui.tables import paged_tables
from ui.words import code, plain

wanted = st.query_params.get("run")
run = data.chosen_run(wanted) if wanted else None

if run is None:
    st.title("No such run" if wanted else "No run chosen", anchor=False)
    if wanted:
        st.markdown(f"There is no run {code(wanted)} in this store; it may be in another one, or the address was cut short.")
    st.page_link(RUNS_PAGE, label="Choose one of the runs", icon=":material/list:")
    st.stop()

try:
    analysis, unregistered = find_analysis(run.slug), ""
except UnknownName as error:
    analysis, unregistered = None, str(error)

st.set_page_config(page_title=f"{run_title(run)} · {run.model}")
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(plain(run_title(run)), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        if run.status == "sealed" and analysis is not None and analysis.version == run.version:
            browse_link(run)
        if run.status == "sealed":
            gallery_link(run)
        copy_link()
if analysis is not None:
    st.markdown(f"**{plain(analysis.question)}**")
st.markdown(provenance.headline(run))
if run.status != "sealed":
    st.warning(f"This run cannot be shown: {plain(run.words)}", icon=":material/warning:")
with st.expander("How these numbers were made", icon=":material/fact_check:"):
    provenance.show(run)
if run.status in ("missing", "unreadable"):
    st.stop()

if analysis is None:
    st.info(f"Its figures cannot be drawn, only its tables shown: {plain(unregistered)}", icon=":material/info:")
else:
    if analysis.version != run.version:
        st.warning(
            f"Made by version {run.version} of this analysis; version {analysis.version} is installed, and its numbers mean something else."
        )
    for figure in analysis.figures:
        with st.container(border=True):
            show_figure(run, figure.slug, figure.title)

st.header("Tables", anchor="tables")
paged_tables(run)
