"""The dashboard with the toy analysis registered, and nothing else changed: what the browser tests are served."""

import streamlit as st

import analysis
from tests.toy import BROKEN, TOY
from ui.serve import ROOT
from ui.server import middleware, routes, say_fault
from ui.uploads.route import sweeping

analysis.ANALYSES = (*analysis.ANALYSES, TOY, BROKEN)
app = st.App(ROOT / "app.py", routes=routes(), middleware=middleware(), lifespan=sweeping, on_script_error=say_fault)
