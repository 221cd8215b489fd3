"""The way from a unit's page into the playground, with its tokens coloured by that unit."""

from __future__ import annotations

import streamlit as st

from store import RunInfo
from ui.links import PLAYGROUND_PAGE
from ui.playground.address import query
from ui.runs import reference_of


def play_link(run: RunInfo, unit: str) -> None:
    """A prompt through the model of ``run``, coloured by ``unit``, which is named as the playground reads it: ``head 3:1``."""
    st.page_link(PLAYGROUND_PAGE, label="In the playground", icon=":material/experiment:", query_params=query(reference_of(run), unit=unit))
