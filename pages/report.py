"""One model on one page, and the same as one HTML file to send: `?model=<name, or what a comparison calls it>`."""

import streamlit as st

from ui import data
from ui.compare.sides import known_models
from ui.links import COMPARE_PAGE, HOME_PAGE, copy_link
from ui.report import show_report
from ui.words import code

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Report", anchor=False)
    copy_link()

known = known_models()
asked = st.query_params.get("model")
if not known:
    st.markdown("Nothing has been measured yet, so there is nothing to report. The bundled model takes half a minute:")
    st.code(data.command("weight_sparsity", "smollm2"), language=None, wrap_lines=True)
    st.page_link(HOME_PAGE, label="What can be asked", icon=":material/home:")
    st.stop()

first = next((ref for ref, side in known.items() if asked in (ref, side.entry.name, side.entry.ref)), None)
if asked and first is None:
    st.warning(f"There is no model {code(asked)} with a sealed run in this store; another one is shown.", icon=":material/link_off:")
refs = list(known)
chosen = st.selectbox("Model", refs, refs.index(first or refs[0]), format_func=lambda ref: known[ref].name, key="report_model")
if st.query_params.get("model") != chosen:
    st.query_params["model"] = chosen
show_report(known[chosen].entry)
if len(known) > 1:
    st.page_link(COMPARE_PAGE, label="Compare it with another model", icon=":material/compare_arrows:", query_params={"a": chosen})
