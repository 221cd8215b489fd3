"""Stored windows of one head, from a `head_examples` on the same weights: which one is shown, and its text as a strip of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from figures.words import visible
from store import Filter, RunInfo
from ui import data
from ui.attention.heads import Head
from ui.attention.matrix import show_matrix
from ui.attention.patterns import EXAMPLES, PLACE, how_to
from ui.attention.tokens import show_tokens
from ui.python import copy_as_python
from ui.runs import beside
from ui.strips import Group, Strip, show_strips
from ui.words import count, percent, plain

Frame = Any
LONGEST = 400
"""Tokens of a window that the strip holds at most; longer ones are cropped, which is said."""
SHARES = ("attention", "what is moved")
_MEASURES: Mapping[str, str] = {
    "first": "attention on the first token",
    "current": "attention on the own token",
    "previous": "attention on the token before",
    "next": "attention on the token after",
    "same": "attention on the same token elsewhere",
    "after_same": "attention on tokens that followed the same token",
    "special": "attention on special tokens",
    "spread": "spread (entropy / that of equal weights)",
}
"""What a head does more than other heads, by its name in `head_at_work`."""


@dataclass(frozen=True)
class Window:
    """One stored window, as one head sees it."""

    run: RunInfo
    head: Head
    number: int
    where: str
    """Where its text comes from (foreign text)."""
    queries: tuple[str, ...]
    """Tokens of the queries; empty where they are no tokens."""
    keys: tuple[str, ...]
    """Tokens of the keys, likewise; the same ones but for cross-attention."""
    rows: Frame
    """Its rows of `head_examples`, by query."""

    @property
    def crosses(self) -> bool:
        """Whether queries and keys are different sequences."""
        return bool(self.head.place.row["crosses"])

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Its rows in any table of the run."""
        return (*self.head.where, Filter("window", "=", self.number))


def show_windows(run: RunInfo, head: Head) -> None:
    """The window chosen of those kept, the ones where the head is at work first: as text, and as a matrix."""
    st.markdown("## In text")
    examples = beside(run, EXAMPLES, "head_examples")
    if examples is None:
        words = "Where it looks in text that one can read has not been kept for this model."
        how_to(run, EXAMPLES, words, "Keep a few windows")
        return
    at_work = data.ask(examples, "read", "head_at_work", where=head.where, order_by=("rank",)).to_dict("records")
    if not at_work:
        st.markdown("The run that kept windows has none of this head.")
        return
    window = _chosen(examples, head, at_work)
    if window.rows.empty:
        st.markdown("No query of this window has a valid key.")
        return
    show_strip(window)
    show_matrix(examples, head.name, window.filters, window.rows, window.queries, window.keys)
    show_tokens(examples, head, *_tokens_of(examples, head, at_work))


def _chosen(examples: RunInfo, head: Head, at_work: Sequence[Mapping[str, Any]]) -> Window:
    numbers = tuple(int(row["window"]) for row in at_work)
    frame = data.ask(examples, "read", "head_windows", where=(Filter("window", "in", numbers),))
    known = {(row["window"], row["stream"]): row for row in frame.to_dict("records")}
    first = {row["window"]: row for row in reversed(list(known.values()))}
    labels = {f"{row['rank']}: {_origin(first[row['window']])}": row for row in at_work}
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        label = st.selectbox("Window", list(labels), key="window", bind="query-params", width=420, help=_help(at_work[0]))
        copy_as_python(examples, "head_examples", where=head.where, rows="the keys kept of all its windows", key="python-examples")
    row = labels.get(label or "", at_work[0])
    st.caption(plain(work_words(row, len(at_work))))
    number = int(row["window"])
    own = _place_row(examples, head)
    queries, keys = (_tokens(known.get((number, own.get(f"{side}_stream", "")))) for side in ("query", "key"))
    where = (*head.where, Filter("window", "=", number))
    rows = data.ask(examples, "read", "head_examples", where=where, order_by=("query",))
    return Window(examples, head, number, _origin(first[number]), queries, keys, rows)


def _tokens_of(examples: RunInfo, head: Head, at_work: Sequence[Mapping[str, Any]]) -> tuple[dict[int, tuple[str, ...]], ...]:
    """The tokens of the queries and of the keys of all its windows."""
    numbers = tuple(int(row["window"]) for row in at_work)
    frame = data.ask(examples, "read", "head_windows", where=(Filter("window", "in", numbers),))
    known = {(row["window"], row["stream"]): row for row in frame.to_dict("records")}
    own = _place_row(examples, head)
    return tuple({n: _tokens(known.get((n, own.get(f"{side}_stream", "")))) for n in numbers} for side in ("query", "key"))


def _help(row: Mapping[str, Any]) -> str:
    measure = plain(_MEASURES.get(row["measure"], row["measure"]))
    return f"By rank: first where the head does most of what it does more than other heads, {measure}."


def _origin(row: Mapping[str, Any]) -> str:
    start = row["start"]
    return visible(
        f"{row['document']}, window {row['window']}" if start != start or start is None else f"{row['document']}, token {int(start):,}"
    )


def _place_row(examples: RunInfo, head: Head) -> Mapping[str, Any]:
    rows = examples.summaries.get("example_places", ())
    return next((row for row in rows if tuple(row[name] for name in PLACE) == head.place.key), {})


def _tokens(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Without the padding at the end."""
    if row is None:
        return ()
    texts, padding = list(row["tokens"]), set(map(int, row["padding"]))
    while texts and len(texts) - 1 in padding:
        texts.pop()
    return tuple(texts)


def work_words(row: Mapping[str, Any], n: int) -> str:
    """What the head does on this window, beside a typical head (foreign text)."""
    measure = _MEASURES.get(row["measure"], row["measure"])
    if row["value"] is None or row["value"] != row["value"]:
        return f"No query of this window has two valid keys; number {row['rank']} of {count(n, 'window')} kept."
    typical = "" if row["typical"] is None else f" (the median head of the model: {percent(row['typical'])} on all windows)"
    return (
        f"More than other heads it has {measure}: {percent(row['value'])} here{typical}; number {row['rank']} of "
        f"{count(n, 'window')} kept by that."
    )


# ---------------------------------------------------------------------------------------------------------------------


def show_strip(window: Window) -> None:
    """Its text: pointing at a token shows where it looks and who looks at it."""
    if not window.queries or not window.keys:
        st.caption("The inputs of this attention are no tokens, or their text is not known, so there is only the matrix.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        moves = bool(window.rows["moved"].notna().all()) and st.segmented_control(
            "Shares of", SHARES, default=SHARES[0], required=True, key="shares", bind="query-params",
            help="Attention A itself, or A times the length of what is moved from each key, |v W_O|: a sink that moves nothing fades",
        ) == SHARES[1]  # fmt: skip
        breaks = st.toggle("Line breaks", key="breaks", bind="query-params", help="Draw line ends and tabs of the text as such")
    strip = strip_of(window, "moved" if moves else "weights")
    what = "what is moved" if moves else "all attention"
    mass, k = float(window.rows["mass_kept"].mean()), int(window.run.config["top_k"])
    about = (
        f"Point at a token to see where it looks and who looks at it; a click, or Enter, holds it. Colours grow with the square root of "
        f"the share; before you point they say how much of {what} a token gets. Kept are the {k} largest weights of "
        f"{count(len(window.rows), 'query', 'queries')}: {percent(mass)} of their attention."
    )
    scale = max((value for value in strip.values if value is not None), default=0.0)
    show_strips([Group("Where it looks, token by token", about, (strip,))], None, scale=scale or 1.0, key="looks", breaks=breaks)
    longest = max(len(window.queries), len(window.keys))
    if longest > LONGEST:
        st.caption(f"Cropped: the first {LONGEST:,} of {longest:,} tokens are drawn, and attention among them.")


def strip_of(window: Window, shares: str = "weights") -> Strip:
    """The window as a strip with where each token looks; ``shares``: the column that says how much."""
    queries, keys = window.queries[:LONGEST], window.keys[:LONGEST]
    looks: list[tuple[tuple[int, float], ...] | None] = [None] * len(queries)
    received = [0.0] * len(keys)
    for query, at, weights in zip(window.rows["query"].tolist(), window.rows["keys"], window.rows[shares], strict=True):
        found = ((int(key), float(weight)) for key, weight in zip(at, weights, strict=True) if key < len(keys))
        pairs = tuple(sorted(found, key=lambda pair: -pair[1]))  # what is moved has another order than attention
        for key, weight in pairs:
            received[key] += weight / len(window.rows)
        if query < len(queries):
            looks[query] = pairs
    values = (0.0,) * len(queries) if window.crosses else tuple(received)
    most = max(range(len(values)), key=values.__getitem__)
    return Strip(
        tokens=queries, values=values, unit=1.0, peak=most, value=values[most], where=window.where, rough=False,
        words=f"Attention of head {window.head.name} on {window.where}", cut_after=len(window.queries) > len(queries),
        looks=tuple(looks), looked_at=keys if window.crosses else (),
    )  # fmt: skip
