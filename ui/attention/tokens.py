"""Which tokens a head looks at, and from which it looks most sharply: over all stored windows of a `head_examples`."""

from __future__ import annotations

import streamlit as st

from analysis.attention.looked_at import FEWEST, Tokens, top_tokens
from store import RunInfo
from ui.attention.heads import Head
from ui.data import ask
from ui.tables import shown_text
from ui.words import count, percent, plain

STOPS = (5, 10, 20, 50, 100, 200, 500)


def show_tokens(examples: RunInfo, head: Head, queries: Tokens, keys: Tokens) -> None:
    """Both lists, as long as is asked for; nothing where the windows hold no tokens."""
    rows = ask(examples, "read", "head_examples", columns=("window", "query", "keys", "weights"), where=head.where)
    if rows.empty or not all(queries.get(window) and keys.get(window) for window in set(rows["window"])):
        return
    at, out_of = top_tokens(rows, queries, keys)
    st.markdown("### Tokens")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        most = int(st.select_slider("Tokens shown", [str(stop) for stop in STOPS], "10", key="tokens", bind="query-params", width=260))
    sides = zip(st.columns(2, gap="large"), (("It looks at", at), ("It looks most sharply from", out_of)), strict=True)
    for column, (title, frame) in sides:
        with column:
            st.dataframe(
                frame.head(most).assign(token=[shown_text(token) for token in frame["token"].head(most)]), hide_index=True,
                height="content" if most <= STOPS[2] else 600, alt=f"{title}: tokens of the stored windows.",
                column_config={"token": title, "attention": st.column_config.NumberColumn("attention", format="percent")},
            )  # fmt: skip
    n, kept = len(set(rows["window"])), float(sum(map(sum, rows["weights"]))) / len(rows)
    st.caption(
        plain(
            f"Left: share of the attention of {count(len(rows), 'query', 'queries')} of {count(n, 'window')} that falls on a token, and at "
            f"how many positions it stands. Right: mean largest weight of a token's queries, of tokens with {FEWEST} or more. Only the "
            f"keys kept count: {percent(kept)} of the attention."
        )
    )
