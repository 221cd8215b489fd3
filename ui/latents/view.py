"""What the latents page shows: SAE, filters and order, each a widget whose key is its name in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from analysis.stats.intervals import CLASSES
from store import Filter, RunInfo
from ui import data
from ui.controls import bound
from ui.latents.saes import EXAMPLES, Sae
from ui.paging import first_page
from ui.runs import run_picker
from ui.words import code

MEASURES: dict[str, str] = {
    "density": "density",
    "tokens": "n_active",
    "documents": "documents_active",
    "largest": "max",
    "mean when active": "mean",
    "per window": "activations_per_window",
    "nearest direction": "max_decoder_cosine",
    "encoder · decoder": "encoder_decoder_cosine",
    "encoder bias": "encoder_bias",
    "decoder norm": "decoder_norm",
    "logit spread": "logit_std",
    "logit skewness": "logit_skewness",
    "logit kurtosis": "logit_kurtosis",
}
"""What can bound a range and sort the table: its name on the page and in the address, and its column."""
OWN, TWINS = "near duplicates", "no duplicates"
NONE = (Filter("latent", "=", -1),)
"""No latent at all."""
PICKER = "sae_shown"
"""Key of the list of SAEs."""
PROMOTED = (Filter("side", "=", "promoted"),)


@dataclass(frozen=True)
class View:
    """One state of the page, all of it in the address."""

    run: RunInfo
    """The run with a row per latent."""
    classes: tuple[str, ...]
    twins: str | None
    measure: str
    bounds: tuple[float | None, float | None]
    token: str
    found: tuple[int, ...] | None
    """Latents that promote a token with that text; None where nothing is searched."""

    @property
    def where(self) -> tuple[Filter, ...]:
        """The latents that meet the filters."""
        found: list[Filter] = [Filter("class", "in", self.classes)] if self.classes else []
        found += [Filter("near_duplicate", "=", self.twins == OWN)] if self.twins else []
        column = MEASURES[self.measure]
        found += [Filter(column, op, end) for op, end in zip((">=", "<="), self.bounds, strict=True) if end is not None]
        if self.found is not None:
            found += [Filter("latent", "in", self.found)] if self.found else NONE
        return tuple(found)

    @property
    def words(self) -> str:
        """The filters in words (safe Markdown); empty where there are none."""
        parts = [f"class {' or '.join(self.classes)}"] if self.classes else []
        parts += [self.twins] if self.twins else []
        low, high = self.bounds
        parts += [f"{self.measure} at least {low:g}"] if low is not None else []
        parts += [f"{self.measure} at most {high:g}"] if high is not None else []
        return ", ".join([*parts, *([f"promoting {code(self.token)}"] if self.token else [])])


def picked(known: Mapping[str, Sae], asked: str | None) -> Sae:
    """Which SAE."""
    runs = {reference: sae.run for reference, sae in known.items()}
    chosen = run_picker(runs, asked, key=PICKER, label="SAE", forget=_forget, name=lambda one: known[one].name)
    return known[next(reference for reference, run in runs.items() if run is chosen)]


def _forget() -> None:
    """Another SAE has other values: of the old view only what fits any stays."""
    for name in ("from", "to"):
        st.session_state[name] = None


def filters(run: RunInfo) -> View:
    """The widgets above scatter and table."""
    there = {column.name for info in data.tables(run) if info.name == "latents" for column in info.columns}
    names = [name for name, column in MEASURES.items() if column in there]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        token = ""
        if run.slug == EXAMPLES and run.rows.get("latent_tokens"):
            token = st.text_input(
                "Promotes a token with", key="search", bind="query-params", on_change=first_page, placeholder="part of a token", width=190,
                help="Latents that raise the logit of a token with this text most, among those the run kept; capitals count",
            )  # fmt: skip
        classes = st.pills("Class", CLASSES, selection_mode="multi", key="class", bind="query-params", on_change=first_page)
        twins = st.pills(
            "Directions", (OWN, TWINS), key="twins", bind="query-params", on_change=first_page,
            help="A near duplicate has another decoder direction at a cosine of at least 0.9",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
            measure = st.selectbox("Only where", names, key="only", bind="query-params", on_change=first_page, width=180)
            low, high = bound("is at least", "from"), bound("and at most", "to")
    return View(run, tuple(classes), twins, measure or names[0], (low, high), token, promoting(run, token) if token else None)


def promoting(run: RunInfo, token: str) -> tuple[int, ...]:
    """The latents among whose promoted tokens is one with this text."""
    wanted = (*PROMOTED, Filter("token", "contains", token))
    return tuple(sorted(set(data.ask(run, "read", "latent_tokens", columns=("latent",), where=wanted)["latent"].tolist())))


def promoted(run: RunInfo, latents: tuple[int, ...]) -> dict[int, list[str]]:
    """The promoted tokens of each of these latents, the strongest first; empty where the run kept none."""
    if run.slug != EXAMPLES or not run.rows.get("latent_tokens"):
        return {}
    wanted = (*PROMOTED, Filter("latent", "in", latents), Filter("rank", "<", 5), Filter("token", "!=", None))
    found: dict[int, list[str]] = {}
    for row in data.ask(run, "read", "latent_tokens", where=wanted, order_by=("latent", "rank")).to_dict("records"):
        found.setdefault(int(row["latent"]), []).append(str(row["token"]))
    return found
