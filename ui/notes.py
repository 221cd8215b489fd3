"""What readers call a unit and note of it: written on the unit's page, kept in the catalogue under the weights it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from store import Label, RunInfo, StoreError, label_files
from store.labels import LONGEST, LONGEST_NOTE, Kind
from ui import data
from ui.links import DATA_PAGE
from ui.runs import weights_of
from ui.words import count, moment, plain

if TYPE_CHECKING:
    import pandas as pd

LABEL = "label"
_SAID = "_note_said"


@dataclass(frozen=True)
class Noted:
    """A unit that can have a label and a note, by names that any run on the same weights gives it."""

    kind: Kind
    owner: str
    unit: str
    model: str


def of_neuron(run: RunInfo, hook_name: str, neuron: int) -> Noted:
    """A neuron of the model a run is of."""
    return Noted("neuron", owner_of(run), f"{hook_name} {neuron}", run.model)


def of_head(run: RunInfo, hook_name: str, turn: int, head: int) -> Noted:
    """A head; ``turn`` is which call of its place it is of."""
    return Noted("head", owner_of(run), f"{hook_name} {turn} {head}", run.model)


def of_tensor(run: RunInfo, tensor: str) -> Noted:
    """A tensor of the checkpoint."""
    return Noted("tensor", owner_of(run), tensor, run.model)


def owner_of(run: RunInfo) -> str:
    """What labels of a model's own units are filed under: its weights."""
    return f"weights {weights_of(run)}"


def notes(noted: Noted) -> None:
    """What this unit is called and what was noted of it, to be written and changed here; where it is embedded, to be read."""
    labels = data.store().labels.of(noted.owner)
    known = labels.get(noted.unit)
    if not st.context.is_embedded:
        _controls(noted, known, [one for one in labels.values() if one.kind == noted.kind])
    said = st.session_state.pop(_SAID, None)
    if said:
        st.warning(plain(said), icon=":material/label_off:")
    if known is None:
        return
    if st.context.is_embedded and known.text:
        st.markdown(f"**{plain(known.text)}**")
    if known.note:
        st.markdown("  \n".join(plain(line) for line in known.note.splitlines()))
    if not said:
        st.caption(f"Written {moment(known.changed)}.")


def insert_labels(shown: pd.DataFrame, place: int, units: Sequence[Noted]) -> None:
    """Put what readers call these units, a row each, into a table as its column ``label``; no column where none has a name."""
    known = {owner: data.store().labels.of(owner) for owner in {one.owner for one in units}}
    said = [known[one.owner].get(one.unit) for one in units]
    texts = [one.text or None if one is not None else None for one in said]
    if any(texts):
        shown.insert(place, LABEL, texts)


def label_heading() -> Any:
    """The heading of that column."""
    return st.column_config.TextColumn("Label", help="Written by readers of this dashboard")


def _controls(noted: Noted, known: Label | None, others: Sequence[Label]) -> None:
    label_key, note_key = (f"{what}-{noted.owner}-{noted.unit}" for what in ("label", "note"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Label", known.text if known else "", key=label_key, max_chars=LONGEST, on_change=_write, args=(noted, label_key, note_key),
            placeholder="what it stands for, in your words",
            help="Kept in this store for all its readers, whatever happens to runs. Enter saves it; empty takes it away.",
        )  # fmt: skip
        with st.popover("Note", icon=":material/edit_note:", type="tertiary"):
            st.text_area(
                "Note", known.note if known else "", key=note_key, max_chars=LONGEST_NOTE, height=180, on_change=_write,
                args=(noted, label_key, note_key), placeholder="what you saw, and where",
                help="Ctrl+Enter saves it, and so does a click elsewhere; empty takes it away.",
            )  # fmt: skip
        take_labels(others, noted.kind)


def _write(noted: Noted, label_key: str, note_key: str) -> None:
    try:
        data.store().labels.write(
            noted.owner, noted.unit, st.session_state[label_key], note=st.session_state[note_key], kind=noted.kind, model=noted.model
        )
    except StoreError as error:
        st.session_state[_SAID] = str(error)


def take_labels(labels: Sequence[Label], noun: str = "label") -> None:
    """Labels and notes as files, and the way to all of them; nothing where there is none."""
    if not labels:
        return
    with st.popover(count(len(labels), "label"), icon=":material/label:", type="tertiary", key="labels-export"):
        whose = "SAE" if noun == "latent" else "model"
        st.caption(f"What was written on {noun}s of this {whose}, with its fingerprint." if noun != "label" else "All that was written.")
        downloads(labels, "labels")
        if noun != "label":
            st.page_link(DATA_PAGE, label="All labels and notes", icon=":material/label:")


def downloads(labels: Sequence[Label], key: str) -> None:
    """A button for each format."""
    for suffix, mime, made in (("csv", "text/csv", label_files.as_csv), ("json", "application/json", label_files.as_json)):
        st.download_button(
            suffix.upper(), data=partial(_bytes, made, labels), file_name=f"labels.{suffix}", mime=mime, key=f"{key}-{suffix}",
            on_click="ignore", type="tertiary",
        )  # fmt: skip


def _bytes(made, labels: Sequence[Label]) -> bytes:
    return made(labels).encode()
