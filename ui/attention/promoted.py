"""Which tokens one head reads and writes, from a `head_weights` on the same weights: a list per direction of what it moves."""

from __future__ import annotations

from typing import Any

import streamlit as st

from store import RunInfo
from ui import data
from ui.attention.heads import Head
from ui.attention.patterns import how_to
from ui.links import RUN_PAGE, run_query
from ui.python import copy_as_python
from ui.runs import beside
from ui.tables import shown_text
from ui.words import percent, plain, short

WEIGHTS = "head_weights"
SIDES = {"read": "reads", "promoted": "promotes", "reversed": "reads in reverse", "suppressed": "suppresses"}
"""By their names in `head_tokens`, as a column says it; tokens read in reverse raise what is suppressed."""


def show_promoted(run: RunInfo, head: Head) -> None:
    """The directions side by side, each with its tokens; where the weights have not been read so, the way to do it."""
    weights = beside(run, WEIGHTS, "head_tokens")
    if weights is None:
        words = "Which tokens a head reads and which it raises has not been looked at in this model's weights."
        how_to(run, WEIGHTS, words, "Read the weights of its heads")
        return
    found = data.ask(weights, "read", "heads_ov", where=head.where, order_by=("direction",)).to_dict("records")
    if not found:
        why = (weights.provenance.get("facts") or {}).get("places_left_out", {}).get(head.place.hook_name)
        said = f"{why}." if why else "its W_V W_O is zero."
        st.markdown(plain(f"By its weights alone no tokens can be told for this head: {said}"))
        return
    tokens = data.ask(weights, "read", "head_tokens", where=head.where, order_by=("direction", "side", "rank"))
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.page_link(RUN_PAGE, label="Its run", icon=":material/analytics:", query_params=run_query(weights))
        copy_as_python(weights, "head_tokens", where=head.where, rows="this head's tokens", key="python-head-tokens")
    for row in found:
        st.markdown(plain(direction_words(row)))
        lists = columns_of(tokens[tokens["direction"] == row["direction"]])
        label = f"Tokens of direction {row['direction'] + 1} of this head."
        st.dataframe(lists, hide_index=True, height="content", placeholder="—", alt=label)
    st.caption(
        "By its weights alone: singular directions of W_V W_O, what is read against token embeddings through the norm before the values, "
        "what is written through the final norm's gain and the unembedding. What it reads raises what it promotes and lowers what it "
        "suppresses; what it reads in reverse does the opposite. Strongest first. In later layers it reads more than embeddings, in early "
        "ones later layers change what it writes."
    )


def direction_words(row: Any) -> str:
    """How much of the head a direction is, in words (foreign text)."""
    share, value = percent(row["energy_share"]), short(row["singular_value"])
    return f"Direction {row['direction'] + 1}: {share} of the energy of its W_V W_O (singular value {value})."


def columns_of(tokens: Any) -> dict[str, list[str]]:
    """The tokens of one direction as columns, strongest first; sides that are not there have none."""
    sides = {side: part.sort_values("rank") for side, part in tokens.groupby("side")}
    return {
        words: [_named(piece, number) for piece, number in zip(sides[side]["token"], sides[side]["token_id"], strict=True)]
        for side, words in SIDES.items()
        if side in sides
    }


def _named(piece: Any, number: int) -> str:
    return shown_text(piece) if isinstance(piece, str) else f"token {number}"
