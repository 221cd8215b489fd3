"""All runs in SQL: `?sql=<a SELECT>`, the figure drawn from its answer in the address too; and what readers wrote on units."""

import streamlit as st

from ui import data
from ui.links import START_PAGE, copy_link
from ui.noted import noted
from ui.sql.answer import about, asked, show_rows
from ui.sql.chart import show_chart
from ui.sql.editor import editor
from ui.sql.tables import held, show_tables

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Data", anchor=False)
    copy_link()

sealed = [run for run in data.runs(summaries=False) if run.status == "sealed"]
runs = [run for run in sealed if run.current]
if not runs:
    st.markdown("There is no run yet whose tables could be asked; the first result appears here as soon as it is there.")
    st.page_link(START_PAGE, label="Start an analysis", icon=":material/play_arrow:")
else:
    st.markdown(about(runs, len(sealed) - len(runs)))
    left, right = st.columns((3, 2), gap="large")
    with right:
        show_tables(runs)
    with left:
        text = editor(held(runs))
        answer = asked(text, runs) if text.strip() else None
    if answer is not None:
        show_chart(answer, show_rows(answer))
noted()
