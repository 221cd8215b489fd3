"""The parts of one latent's page: getting about, its state in words, and its numbers with their place among the SAE's latents."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.spec import UserError
from store import Filter, RunInfo
from ui import data
from ui.latents.saes import Sae, find, where
from ui.playground.ways import play_link
from ui.words import count, percent, plain, short

Row = Mapping[str, Any]
_NUMBERS = (
    ("max", "Largest"),
    ("mean", "Mean when active"),
    ("activations_per_window", "Tokens per window"),
    ("encoder_bias", "Encoder bias"),
    ("decoder_norm", "Decoder norm"),
    ("encoder_decoder_cosine", "Encoder · decoder"),
    ("max_decoder_cosine", "Nearest direction"),
    ("logit_std", "Logit spread"),
    ("logit_skewness", "Logit skewness"),
    ("logit_kurtosis", "Logit kurtosis"),
)
"""What each means is the column's comment in the sealed file."""
CLASS_WORDS: Mapping[str, str] = {
    "dead": "silent on enough text to say so",
    "rare": "active, but on less than the rare cut-off",
    "undecided": "too few tokens were read to tell",
    "normal": "between the cut-offs",
    "dense": "active on more than the dense cut-off: such latents seldom stand for one thing",
}
_JUMP, _REFUSED = "jump", "_refused_latent"


def row_of(run: RunInfo, latent: int) -> Row:
    """Its row of `latents`, missing values as None. Raises `UserError` where the run has none."""
    row = data.first_row(data.ask(run, "read", "latents", where=where(latent), limit=1))
    if row is None:
        raise UserError(f"the run must hold latent {latent}, got a run without that row; choose another latent.")
    return row


def getting_about(sae: Sae, latent: int) -> None:
    """Previous, next, random, and a box to jump; the arrow keys do the same as the buttons."""
    n = sae.n_latents
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        st.button("Previous", icon=":material/chevron_left:", on_click=_go, args=((latent - 1) % n,), key="previous", shortcut="Left")
        st.button("Next", icon=":material/chevron_right:", on_click=_go, args=((latent + 1) % n,), key="next", shortcut="Right")
        st.button("Random", icon=":material/casino:", on_click=_go_anywhere, args=(sae,), key="random", help="Of those that were active")
        st.text_input(
            "Jump to", key=_JUMP, placeholder=str(latent), on_change=_jump, args=(sae,), width=110, label_visibility="collapsed",
            help="The number of a latent",
        )  # fmt: skip
        if sae.run.slug == "sae_train":
            play_link(sae.run, f"latent {sae.run.id}:{latent}")
    refused = st.session_state.pop(_REFUSED, None)
    if refused:
        st.warning(plain(refused), icon=":material/turn_slight_right:")


def _go(latent: int) -> None:
    st.query_params["latent"] = str(latent)


def _go_anywhere(sae: Sae) -> None:
    active = [] if sae.told is None else _active(sae.told)
    _go(random.choice(active) if active else random.randrange(sae.n_latents))


def _active(run: RunInfo) -> list[int]:
    return data.ask(run, "read", "latents", columns=("latent",), where=(Filter("n_active", ">", 0),))["latent"].tolist()


def _jump(sae: Sae) -> None:
    typed = st.session_state[_JUMP].strip()
    st.session_state[_JUMP] = ""
    if typed:
        try:
            _go(find(sae, typed))
        except UserError as error:
            st.session_state[_REFUSED] = str(error)


# ---------------------------------------------------------------------------------------------------------------------


def state(row: Row) -> str:
    """How often it is active, with what that is worth (foreign text)."""
    seen = f"{count(int(row['n_tokens']), 'token')} from {count(int(row['n_documents']), 'document')}"
    if not row["n_active"]:
        return (
            f"Active on none of {seen}: with 95 % confidence it is active in fewer than {percent(row['document_high'])} of such documents."
        )
    interval = f"{percent(row['density_low'])} to {percent(row['density_high'])}"
    return (
        f"Active on {int(row['n_active']):,} of {seen}: density {percent(row['density'])} (95 % interval {interval} if tokens were "
        f"independent, which they are not: an estimate), in {int(row['documents_active']):,} documents and "
        f"{count(int(row['windows_active']), 'window')}."
    )


def badges(row: Row, run: RunInfo) -> None:
    """Its class and whether it is doubled, each with why."""
    rare, dense = run.config.get("rare"), run.config.get("dense")
    cut = {"rare": f" ({rare:g} of tokens)" if rare else "", "dense": f" ({dense:g} of tokens)" if dense else ""}.get(row["class"], "")
    colours: Mapping[str, Any] = {"dead": "red", "rare": "orange", "undecided": "gray", "normal": "blue", "dense": "yellow"}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(plain(row["class"]), color=colours.get(row["class"], "gray"))
        said = [f"{row['class']}: {CLASS_WORDS.get(row['class'], 'a class of a later version')}{cut}."]
        if row["near_duplicate"]:
            st.badge("duplicate", color="violet")
            said.append(f"Duplicate: the decoder direction of latent {row['most_similar']} is nearly its own.")
        st.caption(plain(" ".join(said)), width="content")


def numbers(run: RunInfo, row: Row) -> None:
    """Its numbers, each with its place among the other latents of the SAE."""
    comments = {column.name: column.comment for info in data.tables(run) if info.name == "latents" for column in info.columns}
    others = max(1, int(run.rows["latents"]) - 1)
    limits = data.ask(run, "limits", "latents", columns=tuple(name for name, _ in _NUMBERS if name in comments))
    with st.container(horizontal=True, gap="small"):
        for name, label in _NUMBERS:
            if row.get(name) is None:
                continue
            below = data.ask(run, "count", "latents", where=(Filter(name, "<", float(row[name])),)) / others
            place = above(below) if _differ(limits.get(name)) else None
            st.metric(label, short(row[name]), place, delta_color="off", delta_arrow="off", width=150, help=plain(comments.get(name, "")))


def above(share: float) -> str:
    """Its place among the others; only the largest of all is above all of them, however many they are."""
    return "above all others" if share == 1 else f"above {min(99, round(100 * share))} % of latents"


def _differ(limits: tuple[float, float] | None) -> bool:
    """Whether the latents have different numbers at all: norms that are 1 but for rounding have no order."""
    return limits is not None and limits[1] - limits[0] > 1e-4 * max(abs(limits[0]), abs(limits[1]))
