"""The three ways in, the uploads that are here, and what became of TransformerLens' bridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.jobs import BRIDGE
from analysis.models import BUNDLED
from analysis.spec import UserError
from figures.words import visible
from store import StoreError
from store.errors import size_words
from ui import data
from ui.checkpoint.place import Asked
from ui.folders import words
from ui.library import library, references
from ui.uploads import kept
from ui.uploads.drop import drop_zone
from ui.words import code, plain

_BRIDGE_ICONS = {"agrees": "check_circle", "differs": "warning", "none": "info"}


def ways_in() -> None:
    """Drop a file; or type a path or a hub id; or choose what is here."""
    arrived = drop_zone("drop")
    if arrived:
        _go({"upload": arrived})
    with st.form("path", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        typed = st.text_input(
            "Path on the server, or hub id",
            key="typed",
            placeholder="/models/my-llama, /models/weights.pt, or owner/name",
            help=f"Paths may lie inside of {plain(words())}. A hub id is fetched when the model is opened, where this machine may.",
        )
        if st.form_submit_button("Look", icon=":material/search:") and typed.strip():
            _go({"model": typed.strip()})


def here() -> None:
    """The uploads and the models of the library, to go on with."""
    uploads = kept.quarantine().uploads()
    if uploads:
        st.header("Uploaded files", anchor="uploads")
        for one in reversed(uploads):
            label = f"**{plain(one.name)}** · {size_words(one.n_bytes)} · {plain(one.kind_words)}"
            _way(label, "upload_file", {"upload": one.id})
    st.header("Models of this dashboard", anchor="models")
    known = [ref for ref in references(library(data.runs(summaries=False), data.store().models())) if not kept.upload_of(ref)]
    for ref in known:
        words = " (bundled)" if ref in BUNDLED else ""
        _way(f"{code(ref)}{words}", "inventory_2", {"model": ref})


def _way(label: str, icon: str, query: Mapping[str, str]) -> None:
    """A button, as a link from a page to itself loses its query."""
    if st.button(label, icon=f":material/{icon}:", type="tertiary", key=f"way-{next(iter(query.values()))}"):
        _go(query)


def _go(query: Mapping[str, str]) -> None:
    st.query_params.from_dict(dict(query))
    st.rerun()


def another_control() -> None:
    """A button that leads back to the ways in."""
    if st.button("Another model", icon=":material/folder_open:", type="tertiary", key="another"):
        _go({})


def delete_control(asked: Asked) -> None:
    """A button that asks before it deletes an upload."""
    if asked.upload is None:
        return
    with st.popover("Delete this upload", icon=":material/delete:", type="tertiary"):
        st.markdown("Delete the file from the server? Results that were made of it stay.")
        if st.button("Delete it", type="primary", key="delete-upload"):
            try:
                kept.delete(asked.upload, data.desk())
            except (UserError, StoreError) as error:
                st.error(plain(error), icon=":material/error:")
            else:
                _go({})


def opened(asked: Asked) -> None:
    """What was found out when the model was last opened: its facts, and whether TransformerLens' bridge computes the same."""
    if asked.known is None:
        return
    facts = asked.known.facts
    bridge: Mapping[str, Any] = facts.get(BRIDGE) or {}
    lines = [f"task: {plain(asked.known.task or 'none: it cannot be run')}", f"numbers: {plain(asked.known.dtype)}"]
    for name, label in _FACTS.items():
        if facts.get(name) is not None:
            shown = f"{facts[name]:,}" if isinstance(facts[name], int) else visible(str(facts[name]))
            lines.append(f"{label}: {plain(shown)}")
    st.header("Since it was opened", anchor="opened")
    st.markdown(" · ".join(lines))
    for note in facts.get("notes") or []:
        st.caption(plain(note))
    st.markdown("**TransformerLens names**")
    if not bridge:
        st.caption("Not compared yet: look inside the model to compare TransformerLens' bridge with it.")
        return
    icon = _BRIDGE_ICONS.get(str(bridge.get("verdict")), "info")
    st.markdown(f":material/{icon}: {plain(bridge.get('words', ''))}")


_FACTS: Mapping[str, str] = {
    "architecture": "architecture",
    "n_layers": "layers",
    "d_model": "width",
    "n_heads": "heads",
    "d_vocab": "vocabulary",
    "context_length": "context",
    "activation": "activation",
}
