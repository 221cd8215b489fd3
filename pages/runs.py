"""Every run there is, newest first."""

import streamlit as st

from ui import data
from ui.cards import run_line
from ui.links import HOME_PAGE

runs = data.runs()

st.title("Runs", anchor=False)
if not runs:
    st.markdown("Nothing has been run yet.")
    st.page_link(HOME_PAGE, label="How to make the first run", icon=":material/home:")
for run in runs:
    run_line(run, with_model=True)
