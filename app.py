"""Navigation, nothing else. Started by `python -m analysis serve`."""

import streamlit as st

from ui.links import (
    ATTENTION_PAGE,
    CHECKPOINT_PAGE,
    HEAD_PAGE,
    HOME_PAGE,
    JOB_PAGE,
    NEURON_PAGE,
    NEURONS_PAGE,
    RUN_PAGE,
    RUNS_PAGE,
    SENSITIVITY_PAGE,
    START_PAGE,
    TENSOR_PAGE,
    WEIGHTS_PAGE,
)
from ui.serve import ROOT

st.set_page_config(page_title="Sparsescope", page_icon=str(ROOT / "ui" / "mark.svg"), layout="wide")
st.logo(str(ROOT / "ui" / "wordmark.svg"), size="large", icon_image=str(ROOT / "ui" / "mark.svg"))

# Streamlit writes white on every primary button, which the light blue of the dark theme is too light for.
st.html("<style>[data-testid^='stBaseButton-primary'] {color: light-dark(#ffffff, #0b1016)}</style>")

# Home alone is the default page: a default page loses its query, and every other page is told by its query what to show.
st.navigation(
    [
        st.Page(HOME_PAGE, title="Home", icon=":material/home:", default=True),
        st.Page(START_PAGE, title="Start an analysis", icon=":material/play_arrow:", url_path="start"),
        st.Page(CHECKPOINT_PAGE, title="Checkpoint", icon=":material/inventory_2:", url_path="checkpoint"),
        st.Page(WEIGHTS_PAGE, title="Weights", icon=":material/grid_on:", url_path="weights"),
        st.Page(NEURONS_PAGE, title="Neurons", icon=":material/scatter_plot:", url_path="neurons"),
        st.Page(ATTENTION_PAGE, title="Attention", icon=":material/center_focus_strong:", url_path="attention"),
        st.Page(SENSITIVITY_PAGE, title="Sensitivity", icon=":material/trending_up:", url_path="sensitivity"),
        st.Page(RUNS_PAGE, title="Runs", icon=":material/list:", url_path="runs"),
        st.Page(JOB_PAGE, title="Job", icon=":material/hourglass:", url_path="job", visibility="hidden"),
        st.Page(RUN_PAGE, title="Run", icon=":material/analytics:", url_path="run", visibility="hidden"),
        st.Page(NEURON_PAGE, title="Neuron", icon=":material/scatter_plot:", url_path="neuron", visibility="hidden"),
        st.Page(HEAD_PAGE, title="Head", icon=":material/center_focus_strong:", url_path="head", visibility="hidden"),
        st.Page(TENSOR_PAGE, title="Tensor", icon=":material/grid_on:", url_path="tensor", visibility="hidden"),
    ]
).run()
