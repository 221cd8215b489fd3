"""All labels and notes of the store: found again, led back to their units, taken along as files and brought in from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import streamlit as st

from store import Label, RunInfo, StoreError, label_files
from store.labels import Merged, Prefer, conflict_words
from ui import data
from ui.attention.heads import Head, places_of
from ui.latents.labels import owner_of as owner_of_sae
from ui.latents.saes import Sae, saes
from ui.latents.saes import query as latent_query
from ui.links import HEAD_PAGE, LATENT_PAGE, NEURON_PAGE, TENSOR_PAGE, tensor_query
from ui.neurons.units import Unit, sites
from ui.notes import downloads, owner_of
from ui.paging import paged
from ui.runs import HEADS, NEURONS, WEIGHTS, readable
from ui.words import code, count, moment, plain

Address = tuple[str, dict[str, str]]
_STAYS: Mapping[Prefer, str] = {"newer": "the newer one stays", "ours": "the one here stays", "theirs": "the one of the file stays"}
_SAID = "_labels_said"
_ICONS = {"neuron": "scatter_plot", "head": "center_focus_strong", "latent": "hub", "tensor": "grid_on"}
_LISTED = 20
"""Differences that are told one by one."""


def noted() -> None:
    """The list with its search, and both ways of files."""
    labels = data.store().labels.all()
    st.header("Labels and notes", anchor="labels")
    if not labels:
        st.markdown("Nothing has been written yet. Every neuron, head, latent and tensor has a box for a label on its page.")
    there = _There()
    for one in paged(labels, "label", lambda one: f"{one.text} {one.note} {one.unit} {one.model} {one.kind}"):
        _row(one, there)
    with st.container(horizontal=True, vertical_alignment="center"):
        if labels:
            st.markdown(f"{count(len(labels), 'label')} as", width="content")
            downloads(labels, "all-labels")
        _bring_in()
    _told()


def _row(one: Label, there: _There) -> None:
    name = f"{one.kind.capitalize()} {code(one.unit)} of {plain(one.model) or 'an SAE'}" + (f": **{plain(one.text)}**" if one.text else "")
    found = target(one, there)
    with st.container(gap=None):
        if found is not None:
            st.page_link(found[0], label=name, icon=f":material/{_ICONS[one.kind]}:", query_params=found[1])
        else:
            st.markdown(name)
        nowhere = "" if found is not None else " No run of this store shows it."
        st.caption(f"{plain(one.note)} · {moment(one.changed)}.{nowhere}" if one.note else f"{moment(one.changed)}.{nowhere}")


class _There:
    """What the store holds, listed once for all labels."""

    def __init__(self) -> None:
        self._runs: dict[str, list[RunInfo]] = {}

    @cached_property
    def saes(self) -> list[Sae]:
        return list(saes().values())

    def runs(self, slug: str) -> list[RunInfo]:
        if slug not in self._runs:
            self._runs[slug] = readable(slug)
        return self._runs[slug]


def target(one: Label, there: _There) -> Address | None:
    """The page of the unit, in the newest run on the same weights; None where no run shows it."""
    return _TARGETS[one.kind](one, there) if one.kind in _TARGETS else None


def _neuron(one: Label, there: _There) -> Address | None:
    hook, _, number = one.unit.rpartition(" ")
    for run in there.runs(NEURONS):
        if owner_of(run) == one.owner:
            for site in sites(run):
                if site.hook_name == hook and number.isdecimal() and int(number) < site.n_neurons:
                    return NEURON_PAGE, Unit(site, int(number)).query(run)
    return None


def _head(one: Label, there: _There) -> Address | None:
    place, _, number = one.unit.rpartition(" ")
    for run in there.runs(HEADS):
        if owner_of(run) == one.owner:
            for found in places_of(run):
                if f"{found.hook_name} {found.turn}" == place and number.isdecimal() and int(number) < found.n_heads:
                    return HEAD_PAGE, Head(found, int(number)).query(run)
    return None


def _tensor(one: Label, there: _There) -> Address | None:
    return next(((TENSOR_PAGE, tensor_query(run, one.unit)) for run in there.runs(WEIGHTS) if owner_of(run) == one.owner), None)


def _latent(one: Label, there: _There) -> Address | None:
    found = next((sae for sae in there.saes if owner_of_sae(sae) == one.owner), None)
    return (LATENT_PAGE, latent_query(found, int(one.unit))) if found is not None and one.unit.isdecimal() else None


_TARGETS: Mapping[str, Callable[[Label, _There], Address | None]] = {"neuron": _neuron, "head": _head, "tensor": _tensor, "latent": _latent}


# ---------------------------------------------------------------------------------------------------------------------


def _bring_in() -> None:
    """A file that was taken along here or elsewhere, beside what is here."""
    with st.popover("Bring labels in", icon=":material/upload:", type="tertiary"):
        given = st.file_uploader("A file of labels, CSV or JSON", type=("csv", "json"), max_upload_size=10, key="labels-file")
        prefer = st.radio(
            "Where both have a label for the same unit", list(_STAYS), format_func=lambda one: _STAYS[one], key="labels-prefer"
        )
        if st.button("Bring in", key="labels-in", disabled=given is None) and given is not None:
            try:
                st.session_state[_SAID] = data.store().labels.merge(label_files.read(given.getvalue()), prefer)
            except StoreError as error:
                st.session_state[_SAID] = str(error)
            st.rerun()


def _told() -> None:
    """What became of the file that was brought in last."""
    said: Merged | str | None = st.session_state.pop(_SAID, None)
    if isinstance(said, str):
        st.error(plain(said), icon=":material/error:")
    elif said is not None:
        st.success(f"{count(said.added, 'label')} added, {said.same:,} were here already.", icon=":material/label:")
        if said.conflicts:
            lines = [f"- {plain(words)}" for words in conflict_words(said.conflicts[:_LISTED])]
            more = len(said.conflicts) - len(lines)
            head = f"{count(len(said.conflicts), 'unit')} had another label or note here:"
            st.warning("\n".join([head, "", *lines, *([f"- and {more:,} more"] if more else [])]), icon=":material/difference:")
