"""Navigation, nothing else. Started by `python -m analysis serve`."""

import streamlit as st

from ui.links import (
    ATTENTION_PAGE,
    CHECKPOINT_PAGE,
    COMPARE_PAGE,
    DATA_PAGE,
    GALLERY_PAGE,
    HEAD_PAGE,
    HOME_PAGE,
    JOB_PAGE,
    LATENT_PAGE,
    LATENTS_PAGE,
    NEURON_PAGE,
    NEURONS_PAGE,
    PLANES_PAGE,
    PLAYGROUND_PAGE,
    REPORT_PAGE,
    RUN_PAGE,
    RUNS_PAGE,
    SENSITIVITY_PAGE,
    START_PAGE,
    TENSOR_PAGE,
    WEIGHTS_PAGE,
)
from ui.serve import ROOT

st.set_page_config(page_title="Sparsescope", page_icon=str(ROOT / "ui" / "mark.svg"), layout="wide")
if not st.context.is_embedded:  # within another page, a unit stands without the frame of the app
    st.logo(str(ROOT / "ui" / "wordmark.svg"), size="large", icon_image=str(ROOT / "ui" / "mark.svg"))

# Streamlit writes white on every primary button and every chosen tag, which the light blue of the dark theme is too light for;
# and code within a caption in a green that is too faint there, as captions are drawn at 60 %.
_ON_BLUE = "[data-testid^='stBaseButton-primary'], [data-testid='stMultiSelectTagsContainer'] span span"
_IN_CAPTION = "[data-testid='stCaptionContainer'] code"
# Its colours of code are too faint for small letters on white; the names and numbers of code are drawn as links are, texts as code in text.
_TOKEN, _NAMES, _TEXTS = "[data-testid='stCode'] .token.token", ".variable, .property, .function, .number, .builtin, .keyword", ".string"
st.html(
    f"<style>:is({_ON_BLUE}) {{color: light-dark(#ffffff, #0b1016)}} :is({_IN_CAPTION}, {_TOKEN}) {{color: inherit}} "
    f"{_TOKEN}:is({_NAMES}) {{color: light-dark(#0a5c9e, #8cc2f2)}} {_TOKEN}:is({_TEXTS}) {{color: light-dark(#0c5a44, #7ed5b0)}}</style>"
)

# Home alone is the default page: a default page loses its query, and every other page is told by its query what to show.
st.navigation(
    {
        "": [
            st.Page(HOME_PAGE, title="Home", icon=":material/home:", default=True),
            st.Page(START_PAGE, title="Start an analysis", icon=":material/play_arrow:", url_path="start"),
            st.Page(CHECKPOINT_PAGE, title="Checkpoint", icon=":material/inventory_2:", url_path="checkpoint"),
            st.Page(PLAYGROUND_PAGE, title="Playground", icon=":material/experiment:", url_path="playground"),
        ],
        "What matters": [
            st.Page(WEIGHTS_PAGE, title="Weights", icon=":material/grid_on:", url_path="weights"),
            st.Page(NEURONS_PAGE, title="Neurons", icon=":material/scatter_plot:", url_path="neurons"),
            st.Page(ATTENTION_PAGE, title="Attention", icon=":material/center_focus_strong:", url_path="attention"),
            st.Page(LATENTS_PAGE, title="Latents", icon=":material/hub:", url_path="latents"),
            st.Page(SENSITIVITY_PAGE, title="Sensitivity", icon=":material/trending_up:", url_path="sensitivity"),
            st.Page(PLANES_PAGE, title="Planes", icon=":material/bubble_chart:", url_path="planes"),
        ],
        "Use it": [
            st.Page(COMPARE_PAGE, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
            st.Page(REPORT_PAGE, title="Report", icon=":material/description:", url_path="report"),
            st.Page(GALLERY_PAGE, title="Gallery", icon=":material/photo_library:", url_path="gallery"),
            st.Page(DATA_PAGE, title="Data", icon=":material/database:", url_path="data"),
            st.Page(RUNS_PAGE, title="Runs", icon=":material/list:", url_path="runs"),
        ],
        "One thing": [
            st.Page(JOB_PAGE, title="Job", icon=":material/hourglass:", url_path="job", visibility="hidden"),
            st.Page(RUN_PAGE, title="Run", icon=":material/analytics:", url_path="run", visibility="hidden"),
            st.Page(NEURON_PAGE, title="Neuron", icon=":material/scatter_plot:", url_path="neuron", visibility="hidden"),
            st.Page(HEAD_PAGE, title="Head", icon=":material/center_focus_strong:", url_path="head", visibility="hidden"),
            st.Page(LATENT_PAGE, title="Latent", icon=":material/hub:", url_path="latent", visibility="hidden"),
            st.Page(TENSOR_PAGE, title="Tensor", icon=":material/grid_on:", url_path="tensor", visibility="hidden"),
        ],
    },
    position="hidden" if st.context.is_embedded else "sidebar",
).run()
