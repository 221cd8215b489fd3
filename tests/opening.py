"""The app under Streamlit's own test driver, sent to a page as an address would send it: for the tests of pages and their benchmarks."""

import functools
from collections.abc import Mapping

import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from ui.serve import ROOT

HOME = "pages/home.py"
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)
"""Streamlit looks for components through everything that is installed, anew for each app: half a second of each test of a page."""


def app(patience: float) -> AppTest:
    """The app, not run yet; ``patience`` is how many seconds a run may take."""
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=patience)


def send(at: AppTest, page: str, query: Mapping[str, str]) -> AppTest:
    """The same app, whose next run shows that page with that query."""
    for name, value in query.items():
        at.query_params[name] = value
    return at if page == HOME else at.switch_page(page)


def forget() -> None:
    """What pages keep of earlier answers."""
    st.cache_data.clear()
