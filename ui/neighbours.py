"""Ways from a unit (a neuron, a head, a tensor) to its neighbours of other kinds, on the same weights."""

from __future__ import annotations

from typing import Any

import streamlit as st

from store import Filter, RunInfo
from ui import data
from ui.attention.heads import Head, Place, places_of
from ui.links import ATTENTION_PAGE, HEAD_PAGE, START_PAGE, TENSOR_PAGE, run_query, tensor_query
from ui.runs import HEADS, WEIGHTS, beside, reference_of
from ui.words import code, count, plain

_LISTED = 24
"""Matrices or heads that are named one by one at most."""


def tensor_link(run: RunInfo, tensor: str) -> None:
    """The way to a tensor's page; where its model's weights have not been measured, the way to measure them."""
    home = beside(run, WEIGHTS, "tensor_patterns")
    if home is not None:
        query = tensor_query(home, tensor)
        st.page_link(TENSOR_PAGE, label=f"All about {code(tensor)}", icon=":material/grid_on:", query_params=query)
    else:
        _measure_weights(run, "Measure the weights of this model to see this matrix itself")


def _measure_weights(run: RunInfo, label: str) -> None:
    query = {"analysis": WEIGHTS, "model": reference_of(run)}
    st.page_link(START_PAGE, label=label, icon=":material/grid_on:", query_params=query)


def show_matrices(run: RunInfo, kind: str, layer: int, hook_name: str) -> None:
    """The matrices that a head (``kind`` attention) or a neuron (ffn) is part of, each with the way to its page."""
    st.markdown("## Its matrices")
    home = beside(run, WEIGHTS, "tensor_patterns")
    if home is None:
        st.markdown("The matrices themselves show once the model's weights have been measured.")
        _measure_weights(run, "Measure its weights")
        return
    found = matrices(home, kind, layer, hook_name)
    if not found:
        st.markdown(f"The checkpoint has no matrix that is known to be of the {_PARTS[kind]} of layer {layer}.")
        return
    for row in found[:_LISTED]:
        label = f"{code(row['role'])} · {row['n_rows']:,} × {row['n_columns']:,}"
        query = tensor_query(home, str(row["tensor"]))
        st.page_link(TENSOR_PAGE, label=label, icon=":material/grid_on:", query_params=query)
    left = f" {count(len(found) - _LISTED, 'further one')} not listed." if len(found) > _LISTED else ""
    st.caption(f"The matrices of the {_PARTS[kind]} of layer {layer}, rows by columns as they compute; all its units share them.{left}")


_PARTS = {"attention": "attention", "ffn": "feed-forward part"}


def matrices(home: RunInfo, kind: str, layer: int, hook_name: str) -> list[dict[str, Any]]:
    """Rows of the matrices of one place, in the order of the checkpoint.

    Those below the hook's module where the hook has the module's name; else, under TransformerLens' names, those of the layer.
    """
    columns = ("tensor", "role", "n_rows", "n_columns")
    where = (Filter("kind", "=", kind), Filter("layer", "=", layer), Filter("n_rows", ">", 0))
    rows = data.ask(home, "read", "tensors", columns=columns, where=where).to_dict("records")
    module = hook_name.rpartition(".")[0]
    return [row for row in rows if str(row["tensor"]).startswith(f"{module}.")] or rows


# ---------------------------------------------------------------------------------------------------------------------


def show_heads(run: RunInfo, layer: int, tensor: str) -> bool:
    """The heads of the attention that a matrix is part of, each with the way to its page; False where none have been measured."""
    measured = beside(run, HEADS, "heads")
    places = places_around(places_of(measured), layer, tensor) if measured is not None else []
    if measured is None or not places:
        return False
    for place in places:
        several = f" ({place.kind})" if len(places) > 1 else ""
        st.markdown(f"It belongs to the attention of layer {layer}{several}, which has {count(place.n_heads, 'head')} of queries.")
        query = run_query(measured) | {"site": place.label}
        label = f"Heads of layer {plain(place.label)}"
        st.page_link(ATTENTION_PAGE, label=label, icon=":material/center_focus_strong:", query_params=query, width="content")
        with st.container(horizontal=True, gap="small"):
            for number in range(min(place.n_heads, _LISTED)):
                head = Head(place, number)
                st.page_link(HEAD_PAGE, label=plain(head.name), query_params=head.query(measured), width="content")
    return True


def places_around(places: list[Place], layer: int, tensor: str) -> list[Place]:
    """The places whose hooks are in a module that the tensor is in, too; else, under TransformerLens' names, all of its layer."""
    here = [place for place in places if place.layer == layer]
    return [place for place in here if tensor.startswith(f"{place.hook_name.rpartition('.')[0]}.")] or here
