"""What a newcomer meets on an empty store: one clear first action, and the same as commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.spec import UserError
from store import StoreError
from ui import data
from ui.words import plain

MODEL = "smollm2"
QUICK: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("weight_sparsity", {}),
    ("neuron_activity", {"n_tokens": 2048, "window": 64}),
)
"""The quick analyses: about a minute on two cores."""


def welcome() -> None:
    """The first action: the quick analyses on the bundled model."""
    st.markdown(
        "Sparsescope measures which weights, neurons and attention heads of a model carry its result, and which are idle. "
        "**Nothing has been measured yet.** Start with the small language model that is bundled (SmolLM2, 135 million parameters, "
        "dequantised Q4_1): its weights, and its neurons on 2,048 tokens of Python's documentation. It takes about a minute."
    )
    if st.button("Analyse the bundled model", type="primary", icon=":material/play_arrow:"):
        try:
            for slug, settings in QUICK:
                data.desk().submit(slug, MODEL, config=settings)
        except (UserError, StoreError) as error:
            st.error(plain(error), icon=":material/error:")
        else:
            st.rerun()
    st.caption("The same in a terminal, in the folder of Sparsescope:")
    st.code("\n".join(data.command(slug, MODEL, **settings) for slug, settings in QUICK), language="bash", wrap_lines=True)
