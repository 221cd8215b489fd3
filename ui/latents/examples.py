"""A latent's histogram and its examples as token strips, with the toggles that say what of them is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from store import Filter, RunInfo
from ui import data
from ui.latents.saes import Sae, where
from ui.neurons.examples import Choice, Chosen, choose
from ui.neurons.histogram import histogram
from ui.python import copy_as_python
from ui.strips import Histogram, show_strips
from ui.words import count, plain

Row = Mapping[str, Any]


def rows_of(run: RunInfo, latent: int) -> Any:
    """The latent's examples, with the text of their windows."""
    found = data.ask(run, "read", "latent_examples", where=where(latent), order_by=("kind", "rank"))
    if found.empty:
        return found
    wanted = (Filter("window", "in", tuple(sorted(set(found["window"].tolist())))),)
    return found.merge(data.ask(run, "read", "latent_windows", where=wanted), on="window", how="left", validate="many_to_one")


def drawn_histogram(row: Row) -> Histogram | None:
    """Of the values at which it is active, ready to draw; None for a silent one."""
    if not row["n_active"]:
        return None
    bins, counts = ([int(one) for one in row[name]] for name in ("bins", "counts"))
    n, silent = int(row["n_active"]), int(row["n_tokens"]) - int(row["n_active"])
    found = histogram(bins, counts, 0.0, float(row["max"]), n)
    sentence = f"Histogram of the activations on the {count(n, 'token')} on which it is active, up to {row['max']:.4g}."
    notes = (
        f"The {count(n, 'token')} on which it is active, on a log scale; on the {silent:,} others that count it is exactly 0.",
        "Bars get wider away from zero, as the stored bins do (eight per octave). Point at a token to find its value here.",
    )
    return None if found is None else replace(found, title="Activations", sentence=sentence, notes=notes)


def show_examples(sae: Sae, latent: int, row: Row) -> None:
    """Histogram and examples of one latent; where no examples were collected, the histogram alone."""
    run = sae.examples
    if run is None:
        show_strips([], drawn_histogram(row), scale=1.0, key="strips")
        return
    frame = rows_of(run, latent)
    with st.container(horizontal=True, vertical_alignment="center"):
        whole = st.segmented_control(
            "Context", ("around the peak", "whole window"), default="around the peak", required=True, key="context", bind="query-params"
        )
        breaks = st.toggle("Line breaks", key="breaks", bind="query-params", help="Draw line ends and tabs of the text as such")
        repeats = st.toggle(
            "Repeats", key="repeats", bind="query-params",
            help="Also show examples whose five tokens around the peak were shown before in the same group",
        )  # fmt: skip
        copy_as_python(run, "latent_examples", where=where(latent), key="python-examples")
    # What the run left out of its examples is not there; nothing more is hidden for standing at a start.
    chosen = choose(frame, Choice(whole == "whole window", breaks, repeats, special=True))
    show_strips(chosen.groups, drawn_histogram(row), scale=chosen.scale, key="strips", breaks=breaks)
    left = (run.provenance.get("facts") or {}).get("left_out_of_examples") or []
    left = [left.removesuffix(" left out")] if isinstance(left, str) else left  # the first runs of version 1 hold one text
    said = plain(f"No example peaks where the run did not look: {', '.join(map(str, left))}.") if left else ""
    st.caption(" ".join(filter(None, [_none(frame, chosen), chosen.words, said])))


def _none(frame: Any, chosen: Chosen) -> str:
    if frame.empty:
        return "There is no example of this latent: it was active on no token that counts as one."
    return f"None of its {count(len(frame), 'example')} is shown: the toggles above hide them all." if not chosen.groups else ""
