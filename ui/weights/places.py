"""Tensors by name: the one an address means, its neighbours in the checkpoint, the same matrix in the layers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from analysis.spec import UserError
from store import Filter, RunInfo
from ui.data import ask, first_row
from ui.links import tensor_query
from ui.words import plain

_JUMP = "tensor_jump"
_REFUSED = "_tensor_refused"
_SAME = "_tensor_candidates"


@dataclass(frozen=True)
class Neighbours:
    """Names of the tensors beside one; None at an end."""

    before: str | None
    after: str | None
    layer_before: str | None
    layer_after: str | None
    place: int
    """Its place in the checkpoint, from 0."""
    n: int


def row_of(run: RunInfo, tensor: str) -> Mapping[str, Any] | None:
    """The row of a tensor, missing values as None; found by any of its names where it is tied."""
    frame = ask(run, "read", "tensors", where=(Filter("tensor", "=", tensor),), limit=1)
    if frame.empty:
        frame = ask(run, "read", "tensors", where=(Filter("tied", "contains", tensor),), limit=1)
    return first_row(frame)


def neighbours(run: RunInfo, row: Mapping[str, Any]) -> Neighbours:
    """What lies before and after a tensor, in the order of the checkpoint and across layers."""
    names = ask(run, "read", "tensors", columns=("tensor",))["tensor"].tolist()
    place = names.index(row["tensor"])
    before, after = ((names[i] if 0 <= i < len(names) else None) for i in (place - 1, place + 1))
    across = [_in_layer(run, row, by) for by in (-1, 1)]
    return Neighbours(before, after, across[0], across[1], place, len(names))


def _in_layer(run: RunInfo, row: Mapping[str, Any], by: int) -> str | None:
    """The same matrix so many layers on. Where several towers have it, the one whose name differs in the number alone."""
    if row["layer"] is None:
        return None
    here, there = int(row["layer"]), int(row["layer"]) + by
    where = (Filter("layer", "=", there), Filter("role", "=", row["role"]))
    found = ask(run, "read", "tensors", columns=("tensor",), where=where)["tensor"].tolist()
    wanted = str(row["tensor"]).replace(f".{here}.", f".{there}.", 1)
    return wanted if wanted in found else next(iter(found), None)


def getting_about(run: RunInfo, row: Mapping[str, Any]) -> None:
    """Previous and next tensor, the same matrix in the layers beside, and a box to jump; arrow keys do the same as the buttons."""
    beside = neighbours(run, row)
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        _button(run, "Previous", "chevron_left", beside.before, "previous", "Left")
        _button(run, "Next", "chevron_right", beside.after, "next", "Right")
        if row["layer"] is not None:
            _button(run, "Layer before", "arrow_upward", beside.layer_before, "layer_before", "Shift+Left")
            _button(run, "Layer after", "arrow_downward", beside.layer_after, "layer_after", "Shift+Right")
        st.text_input(
            "Jump to", key=_JUMP, placeholder="part of a name", on_change=_jump, args=(run,), width=180, label_visibility="collapsed"
        )
    refused = st.session_state.pop(_REFUSED, None)
    if refused:
        st.warning(plain(refused), icon=":material/turn_slight_right:")
    for name in st.session_state.pop(_SAME, []):
        st.button(plain(name), key=f"candidate-{name}", on_click=go, args=(run, name), type="tertiary")


def _button(run: RunInfo, label: str, icon: str, to: str | None, key: str, shortcut: str) -> None:
    st.button(
        label, icon=f":material/{icon}:", on_click=go, args=(run, to or ""), key=key, shortcut=shortcut, disabled=to is None, help=None
    )


def go(run: RunInfo, tensor: str) -> None:
    """Show another tensor under this page's address; which matrix of a stack was shown does not go along."""
    st.query_params.from_dict(kept_view() | tensor_query(run, tensor))


def kept_view() -> dict[str, str]:
    """What of the address stays when another tensor is shown: what is drawn of it."""
    return {name: value for name, value in st.query_params.to_dict().items() if name == "profile"}


def _jump(run: RunInfo) -> None:
    typed = st.session_state[_JUMP].strip()
    st.session_state[_JUMP] = ""
    if not typed:
        return
    try:
        found = candidates(run, typed)
    except UserError as error:
        st.session_state[_REFUSED] = str(error)
        return
    if len(found) == 1:
        go(run, found[0])
    else:
        st.session_state[_REFUSED] = f"{typed!r} is in more than one name; choose one:"
        st.session_state[_SAME] = found


def candidates(run: RunInfo, typed: str) -> list[str]:
    """The tensors that what was typed may mean, at most eight: that of exactly the name, else those whose names hold it."""
    if row_of(run, typed) is not None:
        return [typed]
    found = ask(run, "read", "tensors", columns=("tensor",), where=(Filter("tensor", "contains", typed),), limit=8)["tensor"].tolist()
    if not found:
        raise UserError(f"a tensor of this checkpoint must hold what is typed in its name, got {typed!r}; type part of another name.")
    return found
