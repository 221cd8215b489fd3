"""What else is known of a latent: the tokens it promotes, latents like it, neurons and heads that do the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.latents.example_figures import draw_logits
from analysis.latents.example_tables import COACTIVE, DECODER, HEAD, PROMOTED, SUPPRESSED
from figures.spec import FigureError
from store import RunInfo
from ui import data
from ui.attention.heads import Place, places_of
from ui.charts import show_spec
from ui.latents.labels import labels_of
from ui.latents.saes import Sae, query, where
from ui.links import HEAD_PAGE, LATENT_PAGE, NEURON_PAGE, run_query
from ui.neurons.units import sites
from ui.python import copy_as_python
from ui.runs import HEADS, NEURONS, beside
from ui.tables import column_config, readable
from ui.words import count, number, plain

Row = Mapping[str, Any]
_TITLES = {PROMOTED: "Promoted", SUPPRESSED: "Suppressed", DECODER: "By decoder direction", COACTIVE: "By being active together"}


def _heading(run: RunInfo, title: str, table: str, latent: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {title}")
        copy_as_python(run, table, where=where(latent), key=f"python-{table}")


def show_tokens(run: RunInfo, latent: int) -> None:
    """Tokens whose logits it raises and lowers most, and the histogram of what it does to all of them."""
    _heading(run, "Tokens it writes", "latent_tokens", latent)
    frame = data.ask(run, "read", "latent_tokens", where=where(latent), order_by=("rank",))
    said = str((run.provenance.get("facts") or {}).get("promoted_and_suppressed") or "")
    if frame.empty:
        st.caption(plain(f"No tokens: {said or 'it writes nothing'}"))
        return
    info = next(one for one in data.tables(run) if one.name == "latent_tokens")
    config = column_config(info)
    lists, picture = st.columns(2, gap="large")
    with lists:
        sides = st.columns(2)
    for place, side in zip(sides, (PROMOTED, SUPPRESSED), strict=True):
        with place:
            st.markdown(f"**{_TITLES[side]}**")
            rows = readable(frame[frame["side"] == side], info)[["token", "token_id", "score"]]
            st.dataframe(
                rows, hide_index=True, column_config=config, placeholder="—", alt=f"Tokens {side} by latent {latent}.", height="content"
            )
    lists.caption(plain("Its decoder direction as logits per unit of activation" + (f": {said}." if said else ".")))
    with picture:
        _logits(run, latent)


def _logits(run: RunInfo, latent: int) -> None:
    try:
        show_spec(
            draw_logits(data.ask(run, "read", "latents", where=where(latent)), run.provenance),
            run.provenance,
            name="latent-logits",
            key="latent-logits",
        )
    except FigureError as error:
        st.caption(f"Nothing to draw: {plain(error)}")


def show_similar(sae: Sae, run: RunInfo, latent: int) -> None:
    """Latents of this SAE most like it."""
    _heading(run, "Similar latents", "latent_neighbours", latent)
    frame = data.ask(run, "read", "latent_neighbours", where=where(latent), order_by=("by", "rank"))
    labels = labels_of(sae)
    for place, by in zip(st.columns(2), (DECODER, COACTIVE), strict=True):
        with place:
            st.markdown(f"**{_TITLES[by]}**")
            rows = frame[frame["by"] == by].to_dict("records")
            for row in rows:
                other = int(row["other"])
                named = f" · {plain(labels[other].text)}" if other in labels else ""
                st.page_link(
                    LATENT_PAGE, label=f"Latent {other} · {row['value']:.2f}{named}", query_params=query(sae, other), width="content"
                )
            if not rows:
                st.caption("None: it has no direction." if by == DECODER else "None: no other was active on the same tokens.")
    st.caption("Behind each: the cosine of both decoder directions, or tokens on which both are active over tokens on which either is.")


def show_partners(run: RunInfo, latent: int) -> None:
    """Neurons and heads whose values rise and fall with it, each with the way to its page where that has been measured."""
    _heading(run, "Neurons and heads that follow it", "latent_partners", latent)
    frame = data.ask(run, "read", "latent_partners", where=where(latent), order_by=("kind", "rank"))
    if frame.empty:
        st.caption("None: it was active on none of the tokens on which this was looked at, or nothing was compared.")
        return
    neurons, heads = _neuron_pages(run), head_pages(run)
    parts = [part for part in ("neuron", HEAD) if (frame["kind"] == part).any()]
    for place, kind in zip(st.columns(2), parts, strict=False):
        with place:
            st.markdown(f"**{kind.capitalize()}s**")
            for row in frame[frame["kind"] == kind].to_dict("records"):
                layer = int(row["layer"])
                _partner(row, heads.get(layer) if kind == HEAD else neurons.get((str(row["hook_name"]), layer)))
    n = (run.provenance.get("facts") or {}).get("n_sampled")
    over = count(int(n or 0), "sampled token")
    said = f"Pearson correlation over {over}; in brackets what chance gives for so heavy-tailed a latent."
    missing = [kind for kind, pages in (("neuron", neurons), (HEAD, heads)) if kind in parts and not pages]
    if missing:
        said += (
            f" The {' and '.join(f'{one}s' for one in missing)} of this model have not been measured themselves: no page shows them yet."
        )
    st.caption(said)


def _partner(row: Row, address: dict[str, str] | None) -> None:
    name = str(row["kind"])
    said = f"{name.capitalize()} {row['layer']}:{row['unit']} · {row['correlation']:.2f} ({number(row['chance'])})"
    said += "" if row["above_noise"] else " · no more than chance"
    if address is None:
        st.markdown(plain(said))
    else:
        page = HEAD_PAGE if name == HEAD else NEURON_PAGE
        st.page_link(page, label=plain(said), query_params=address | {name: str(row["unit"])}, width="content")


def _neuron_pages(run: RunInfo) -> dict[tuple[str, int], dict[str, str]]:
    """Where neurons of a site are shown: the address without the neuron, by the site; empty where they have not been measured."""
    measured = beside(run, NEURONS, "neurons")
    if measured is None:
        return {}
    return {
        (site.hook_name, site.layer): run_query(measured) | {"layer": str(site.layer), "hook": site.hook_name} for site in sites(measured)
    }


def head_pages(run: RunInfo) -> dict[int, dict[str, str]]:
    """The same for heads, by layer: what heads give flows through another hook than their patterns, so the layer decides, where it has
    one place alone."""
    measured = beside(run, HEADS, "heads")
    return {} if measured is None else {place.layer: _address(measured, place) for place in only_places(measured).values()}


def only_places(measured: RunInfo) -> dict[int, Place]:
    """The places with heads of a run that are the only one of their layer."""
    places = places_of(measured)
    layers = [place.layer for place in places]
    return {place.layer: place for place in places if layers.count(place.layer) == 1}


def _address(measured: RunInfo, place: Place) -> dict[str, str]:
    return run_query(measured) | {"layer": str(place.layer), "hook": place.hook_name}
