"""One job, live: `?job=<id>`. It lives in its own process and in the catalogue, so a reload or a new server shows the same."""

import streamlit as st

from ui.jobs import title_of
from ui.links import CHECKPOINT_PAGE, RUNS_PAGE, copy_link
from ui.uploads.kept import shown
from ui.watching import chosen_job, request, watch
from ui.words import code, plain

wanted = st.query_params.get("job")
job = chosen_job(wanted) if wanted else None

if job is None:
    st.title("No such job" if wanted else "No job chosen", anchor=False)
    if wanted:
        st.markdown(f"There is no job {code(wanted)} in this store; it may have been forgotten, or the address was cut short.")
    st.page_link(RUNS_PAGE, label="Jobs and runs", icon=":material/list:")
    st.stop()

st.set_page_config(page_title=f"{title_of(job)} · {shown(job.model)}")
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(plain(title_of(job)), anchor=False)
    copy_link()
st.page_link(CHECKPOINT_PAGE, label=f"of {code(shown(job.model))}", icon=":material/inventory_2:", query_params={"model": job.model})
watch(job)
request(job)
