"""What is at work, what waits, what has been run; stopping, resuming and deleting. The filters are in the address."""

import streamlit as st

from ui.history import history, retention
from ui.jobs import live_list
from ui.links import START_PAGE, copy_link

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Runs", anchor=False)
    copy_link()
st.header("At work", anchor=False)
if not live_list():
    st.markdown("Nothing is running or waiting.")
    st.page_link(START_PAGE, label="Start an analysis", icon=":material/play_arrow:")
st.header("Finished", anchor=False)
history()
retention()
