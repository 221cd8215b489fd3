"""Navigation, nothing else. Started by `python -m analysis serve`."""

import streamlit as st

from ui.links import HOME_PAGE, RUN_PAGE, RUNS_PAGE
from ui.serve import ROOT

st.set_page_config(page_title="Sparsescope", page_icon=str(ROOT / "ui" / "mark.svg"), layout="wide")
st.logo(str(ROOT / "ui" / "wordmark.svg"), size="large", icon_image=str(ROOT / "ui" / "mark.svg"))

# Home alone is the default page: a default page loses its query, and every other page is told by its query what to show.
st.navigation(
    [
        st.Page(HOME_PAGE, title="Home", icon=":material/home:", default=True),
        st.Page(RUNS_PAGE, title="Runs", icon=":material/list:", url_path="runs"),
        st.Page(RUN_PAGE, title="Run", icon=":material/analytics:", url_path="run", visibility="hidden"),
    ]
).run()
