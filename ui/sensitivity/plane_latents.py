"""Loss over L0: what the model loses with an SAE's reconstruction in place, from every `sae_quality` run of the same weights.

An SAE adds work instead of sparing it, so it stands on no plane of costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from figures.spec import Axis, FigureError, FigureSpec, NothingToDraw, Series
from figures.words import visible
from store import Filter, RunInfo
from ui import data
from ui.charts import show_spec
from ui.links import browse_link
from ui.runs import readable, weights_of
from ui.sensitivity.curves import LOSS
from ui.sensitivity.view import is_of
from ui.words import code, count, plain

SLUG = "sae_quality"
SAE = "SAE"


def reconstructions(weights: str) -> list[RunInfo]:
    """Sealed runs that judged an SAE of these weights, newest first."""
    return [run for run in readable(SLUG) if run.rows.get("curve_points") and weights_of(run) == weights]


def rows_of(runs: Sequence[RunInfo]) -> Any:
    """A row for everything that stands in place of activations, with the SAE it was judged beside as ``sae``."""
    import pandas as pd

    parts = []
    for run in runs:
        rows: Any = data.rows(run, "curve_points", where=(Filter("metric", "=", LOSS), Filter("level", ">", 0.0)))
        name = str((run.provenance.get("facts") or {}).get("sae") or run.id)
        # One colour for all SAEs and one for each rival; which SAE it is, pointing at it tells.
        method = (
            rows["method"].str.removeprefix("reconstruction by ").map(lambda one, name=name: SAE if name.startswith(f"{one} (") else one)
        )
        parts.append(rows.assign(method=method, sae=visible(name), text=str(run.data)))
    return pd.concat(parts, ignore_index=True).rename(columns={"native_value": "l0", "structure": "place", "scope": "tokens"})


def latents_spec(rows: Any, model: str) -> FigureSpec:
    """Loss above dense over L0, coloured by what reconstructs; ablations have no L0 and stand in the notes."""
    known = rows[rows["l0"].notna() & rows["delta"].notna()].reset_index(drop=True)
    if not len(known):
        raise NothingToDraw("No reconstruction has an L0 and a loss that is a number.")
    ablated = rows[rows["l0"].isna() & rows["delta"].notna()]
    told = "; ".join(f"{row.method} at {row.place} {row.delta:+.3g}" for row in ablated.drop_duplicates(["method", "place"]).itertuples())
    texts = list(dict.fromkeys(known["text"]))
    return FigureSpec(
        kind="scatter",
        data=known[["l0", "delta", "low", "high", "method", "sae", "place", "tokens", "n", "n_documents", "text"]],
        x=Axis("l0", "L0", unit="numbers per token", scale="log" if known["l0"].max() > 10 * known["l0"].min() > 0 else "linear"),
        y=Axis("delta", "Loss above dense", unit=str(known["unit"].iloc[0])),
        series=Series("method", "Instead of activations", order=tuple(dict.fromkeys(known["method"]))),
        title="Reconstructions: loss over L0",
        sentence=f"Increase of the loss of {model} with a reconstruction of as many numbers per token in place of the activations of one "
        f"place, {count(len(known), 'point')} from {count(known['sae'].nunique(), 'SAE')}, on {' and '.join(texts)}.",
        hover=("sae", "place", "tokens", "low", "high", "n", "n_documents"),
        notes=(
            "An SAE adds work to the model instead of sparing it, so it stands on this picture only, not on planes of costs.",
            "Of different places or texts, points do not compare.", *([f"Without an L0: {told}."] if told else []),
        ),
    )  # fmt: skip


def show_latents_of(model: str | None) -> None:
    """The picture of the model that an address names, or of the one whose SAE was judged last; nothing where none was."""
    run = next((one for one in readable(SLUG) if model is None or is_of(one, model)), None)
    if run is not None:
        show_latents(weights_of(run), label_of(run))


def label_of(run: RunInfo) -> str:
    """What the model of a run is called in full (foreign text)."""
    return str(run.provenance.get("model_label") or run.model)


def show_latents(weights: str, model: str) -> None:
    """The picture and the ways to its SAEs; nothing where none was judged."""
    runs = reconstructions(weights)
    if not runs:
        return
    try:
        spec = latents_spec(rows_of(runs), model)
    except FigureError as error:
        st.caption(plain(error))
        return
    show_spec(spec, runs[0].provenance, name="loss-over-l0", key="loss-over-l0")
    for run in runs:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(code((run.provenance.get("facts") or {}).get("sae") or run.id), width="content")
            browse_link(run)
