"""Ask a question of a model: `?analysis=<slug>&model=<reference>`. The form is made from the declaration alone."""

import streamlit as st

from analysis.spec import UserError
from store import StoreError
from ui import data
from ui.forms import ask, checked, choose, fields, obstacle, told
from ui.library import library, references
from ui.links import CHECKPOINT_PAGE, copy_link
from ui.words import plain

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Start an analysis", anchor=False)
    copy_link()
store = data.store()
analysis, model = choose(references(library(data.runs(summaries=False), store.models())))
st.markdown(f"**{plain(analysis.question)}**")
if not model:
    st.info("Choose a model, or type the path of one.", icon=":material/inventory_2:")
    st.page_link(CHECKPOINT_PAGE, label="Bring a model: drop a file, or name one", icon=":material/upload_file:")
    st.stop()
st.page_link(CHECKPOINT_PAGE, label="What this model holds", icon=":material/inventory_2:", query_params={"model": model})
if obstacle(analysis, model):
    st.stop()

with st.form("start"):
    filled = fields(analysis)
    with st.container(horizontal=True):
        start = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
        look = st.form_submit_button("Check and show the command", icon=":material/terminal:")

if start or look:
    try:
        spec = checked(analysis, model, filled)
    except (UserError, StoreError) as error:
        st.error(plain(error), icon=":material/error:")
    else:
        if start:
            ask(lambda: data.desk().start(spec, origin="page"))
        told(spec)
