"""The drop zone: a component that sends one file to the routes of uploads, and tells this session when it has arrived.

A token is made only when a file has been dropped: the browser asks with a number of its own (a ticket), and the answer with the
token goes to this page alone. All text is set as text; a file's name is never parsed as anything.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from analysis.models.files.header import size_words
from analysis.spec import UserError
from ui.uploads.kept import quarantine
from ui.uploads.route import ROUTE, TOKEN
from ui.words import plain

_HERE = Path(__file__).parent
_ALLOWED = "allowed-upload"

_component = component(
    "sparsescope_drop",
    html='<div class="root"></div>',
    css=(_HERE / "drop.css").read_text(encoding="utf-8"),
    js=(_HERE / "drop.js").read_text(encoding="utf-8"),
)


def drop_zone(key: str) -> str | None:
    """Draw the zone; the id of an upload in the one run of the page in which it has arrived, otherwise None."""
    try:
        most = size_words(quarantine().cap)
    except UserError as error:
        st.warning(f"Files cannot be uploaded here: {plain(error)}", icon=":material/block:")
        return None
    ticket, token = st.session_state.get(_ALLOWED, ("", ""))
    about = f"safetensors, GGUF, a torch state dict, or a zip of a model folder; up to {most}"
    data = {"route": ROUTE, "header": TOKEN, "ticket": ticket, "token": token, "about": about}
    found = _component(key=key, data=data, on_wanted_change=lambda: _allow(key), on_arrived_change=_over)
    arrived = found.get("arrived")
    return arrived if isinstance(arrived, str) else None


def _allow(key: str) -> None:
    """A token for the file that was just dropped."""
    wanted = st.session_state[key].get("wanted")
    if isinstance(wanted, str):
        st.session_state[_ALLOWED] = (wanted[:64], quarantine().token())


def _over() -> None:
    """The token has been used: nothing of it stays on the page."""
    st.session_state.pop(_ALLOWED, None)
