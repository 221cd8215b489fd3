"""Next tokens at a chosen token: chips of all tokens with their ids, and the most probable next ones of every state with the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import streamlit as st

from analysis.live import Played
from analysis.live.playing import TOP
from figures.words import visible
from ui.playground.states import State, glyphs, same_text
from ui.words import code, plain

_UNSEEN = "\u2060"


def chosen_tokens(states: Sequence[State]) -> list[int]:
    """The token that each state is asked about: one for all where they read the same text, else one each; the last one at first."""
    if any(state.played.is_row for state in states):
        return [0] * len(states)
    st.markdown("## Tokens and what comes next")
    if same_text(states):
        return [_chips("Token", "at", states[0])] * len(states)
    by_text = {state.played.tokens: state for state in states}
    keys = dict(zip(by_text, ("at", "at2")))
    found = {tokens: _chips(f"Token of {plain(state.name)}", keys[tokens], state) for tokens, state in by_text.items()}
    return [found[state.played.tokens] for state in states]


def _chips(label: str, key: str, state: State) -> int:
    """Not bound to the address by Streamlit, which would write the token there, not its place."""
    played = state.played
    n = len(played.tokens)
    asked = st.query_params.get(key, "")
    first = int(asked) if asked.isascii() and asked.isdecimal() and int(asked) < n else n - 1
    labels = chip_labels(played)
    widget = f"playground_{key}_{crc32(repr(played.ids).encode())}"
    chosen = st.pills(
        label, range(n), default=first, required=True, key=widget, wrap=True, on_change=_choose, args=(key, widget),
        format_func=labels.__getitem__,
        help="Every token with its id; ␣ is a space, ↵ a line end, ⇥ a tab. Choose one to see what the model expects behind it.",
    )  # fmt: skip
    return first if chosen is None else chosen


def chip_labels(played: Played) -> list[str]:
    """Token and id, as Markdown. Streamlit tells options apart by their labels: equal ones differ in joiners that nobody sees."""
    found: list[str] = []
    seen: dict[int, int] = {}
    for token, i in zip(played.tokens, played.ids, strict=True):
        found.append(f"{plain(glyphs(token))} :small[{i}]" + _UNSEEN * seen.setdefault(i, 0))
        seen[i] += 1
    return found


def _choose(key: str, widget: str) -> None:
    st.query_params[key] = str(st.session_state[widget])


def show_next(states: Sequence[State], at: Sequence[int]) -> None:
    """One table: a row per next token, a column per state."""
    if any(state.arm.next is None for state in states):
        why = "tells no classes apart" if states[0].played.is_row else "has no unembedding, so it predicts no tokens"
        st.info(f"This model {why}.", icon=":material/info:")
        return
    rows = _rows(states, at)
    what = "Most probable tokens in its place" if states[0].played.task == "masked-lm" else "Most probable next tokens"
    what = "Most probable classes" if states[0].played.is_row else what
    where = " and ".join(dict.fromkeys(code(glyphs(state.played.tokens[t])) for state, t in zip(states, at, strict=True)))
    st.markdown(f"**{what}** at {where}")
    st.dataframe(rows, height="content", width="content", hide_index=True, column_config=_configured(states))
    if len(states) > 1:
        st.caption(f"Of each state its {TOP} most probable ones; None: not among them. Difference: the second minus the first.")


def _rows(states: Sequence[State], at: Sequence[int]) -> list[dict[str, Any]]:
    """By token: of different models by its text, since ids mean nothing between them."""
    by_text = len({state.played.label for state in states}) > 1
    found: dict[Any, dict[str, Any]] = {}
    for i, (state, t) in enumerate(zip(states, at, strict=True)):
        for token, p in (state.arm.next or ())[t]:
            piece = state.piece(token)
            row = found.setdefault(piece if by_text else token, {"token": glyphs(piece), "id": token})
            row[f"p{i}"] = max(p, row.get(f"p{i}", 0.0))
    rows = list(found.values())
    if len(states) == 2:
        for row in rows:
            both = row.get("p0"), row.get("p1")
            row["difference"] = None if None in both else both[1] - both[0]  # pyright: ignore[reportOptionalOperand]
    return [{name: row.get(name) for name in _columns(states)} for row in rows]


def _columns(states: Sequence[State]) -> list[str]:
    more = ["difference"] if len(states) == 2 else []
    return ["token", "id", *(f"p{i}" for i in range(len(states))), *more]


def _configured(states: Sequence[State]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "token": st.column_config.TextColumn("Class" if states[0].played.is_row else "Token"),
        "id": st.column_config.NumberColumn("Id", format="%d"),
        "difference": st.column_config.NumberColumn("Difference", format="%+.4f"),
    }
    for i, state in enumerate(states):
        words = visible(state.name) if len(states) > 1 else "Probability"
        found[f"p{i}"] = st.column_config.NumberColumn(words, format="%.4f", help="Probability, 0 to 1")
    return found


def show_texts(states: Sequence[State], prompts: Sequence[str]) -> None:
    """How each state continues the text, side by side."""
    if not any(state.arm.text is not None for state in states):
        return
    st.markdown("## Continued")
    for column, state, prompt in zip(st.columns(len(states), gap="medium"), states, prompts, strict=True):
        with column:
            made = state.arm.text
            st.markdown(f"**{plain(state.name)}**")
            if made is None:
                st.caption("This model predicts no next token.")
                continue
            written = "".join(state.piece(i) for i in made.ids)
            st.code(f"{prompt}⟦{written}⟧", language=None, wrap_lines=True)
            st.caption(_ending(state, len(made.ids), made.ended))
    texts = [state.arm.text.ids for state in states if state.arm.text is not None]
    if len(texts) == 2 and prompts[0] == prompts[1] and states[0].played.label == states[1].played.label:
        apart = next((i for i, pair in enumerate(zip(*texts)) if pair[0] != pair[1]), None)
        parts = min(map(len, texts)) if apart is None else apart
        st.caption("Both write the same." if texts[0] == texts[1] else f"They part at the new token {parts + 1}.")


def _ending(state: State, n: int, ended: bool) -> str:
    words = f"Between ⟦ ⟧: {n} new {'token' if n == 1 else 'tokens'}"
    return f"{words}; {plain(state.name)} came to the end of the text." if ended else f"{words}."
