"""The tables of `head_examples`."""

from __future__ import annotations

from analysis.attention.tables import KEY, PLACE, PLACE_COLUMNS
from analysis.spec import Column, Table
from analysis.stats.attention_examples import SHOWN

SHARE = (0.0, 1.0)
COUNT = (0.0, 1e12)
STREAMS = "input: the tokens the model reads; decoder: those its decoder reads; rows: no tokens (patches of an image)"
_HEAD = (*PLACE_COLUMNS, Column("head", "int", "Head of queries, from 0", range=(0, 1e6)))
_WINDOW = Column("window", "int", "The window, by its place in the run's inputs, from 0", range=COUNT)

PLACES = Table(
    "example_places",
    "A row per place with attention: whose tokens its queries and its keys are.",
    PLACE,
    (
        *PLACE_COLUMNS,
        Column("n_heads", "int", "Heads of queries", unit="heads", range=(1, 1e6)),
        Column("causal", "bool", "No query sees a later key"),
        Column("crosses", "bool", "Queries and keys are different sequences (cross-attention)"),
        Column("query_stream", "str", f"Stream of the queries ({STREAMS})"),
        Column("key_stream", "str", "Stream of the keys, likewise"),
        Column("mass_kept", "float", "Mean over heads and kept queries of the attention on the kept keys; NULL where no query has a valid key", unit="share of attention", range=SHARE, optional=True, evidence="O"),
    ),
    summary=True,
)  # fmt: skip

WINDOWS = Table(
    "head_windows",
    "A row per window and stream: its tokens.",
    ("window", "stream"),
    (
        _WINDOW,
        Column("stream", "str", STREAMS),
        Column("document", "str", "Name of the document that the window is from"),
        Column("start", "int", "Offset of its first content token in the document; NULL where that is not known", unit="tokens", range=COUNT, optional=True),
        Column("n", "int", "Tokens; NULL for rows that are no tokens, of which each place may have a number of its own", unit="tokens", range=COUNT, optional=True),
        Column("token_ids", "list[int]", "Ids of its tokens; empty where they are not known"),
        Column("tokens", "list[str]", "Its tokens as pieces of text; empty where they are not known"),
        Column("special", "list[int]", "Positions of special tokens"),
        Column("padding", "list[int]", "Positions that are padding"),
    ),
)  # fmt: skip

EXAMPLES = Table(
    "head_examples",
    "A row per head, window and query: the keys with the largest weights. Queries without a valid key and padding have no row.",
    (*KEY, "window", "query"),
    (
        *_HEAD,
        _WINDOW,
        Column("query", "int", "Position of the query in the window, from 0", range=COUNT),
        Column("n_valid", "int", "Keys it may look at", unit="keys", range=(1, 1e12)),
        Column("keys", "list[int]", "Positions of the keys kept, largest weight first", range=COUNT),
        Column("weights", "list[float]", "Attention on each of them, to 5 decimals", unit="share of attention", range=SHARE, evidence="O"),
        Column("moved", "list[float]", "Share of each of them in what is moved, A |v W_O|, to 5 decimals; NULL where the output projection or the values could not be told", unit="share of A |v W_O|", range=SHARE, optional=True, evidence="O"),
        Column("mass_kept", "float", "Attention on the kept keys together", unit="share of attention", range=SHARE, evidence="O"),
        Column("entropy", "float", "Entropy of the query's whole attention", unit="nats", range=(0, 100), evidence="O"),
        Column("learned_sink", "float", "Attention that learned sinks take, logits of no key in the softmax; all else is of the attention beside them; NULL where the model has none", unit="share of attention", range=SHARE, optional=True, evidence="O"),
    ),
)  # fmt: skip

MAPS = Table(
    "head_maps",
    "A row per head and window: its whole pattern as a picture of few cells. Nothing is left out: each row of cells adds up to 1.",
    (*KEY, "window"),
    (
        *_HEAD,
        _WINDOW,
        Column("n_queries", "int", "Queries in the window", unit="queries", range=COUNT),
        Column("n_keys", "int", "Keys in the window", unit="keys", range=COUNT),
        Column("query_step", "int", "Queries per row of cells; the last row may have fewer", unit="queries", range=(1, 1e9)),
        Column("key_step", "int", "Keys per column of cells; the last column may have fewer", unit="keys", range=(1, 1e9)),
        Column("cells", "list[float]", "Mean over the row's queries of the attention on the column's keys, row by row, to 4 decimals", unit="share of attention", range=SHARE, evidence="O"),
        Column("rows", "list[int]", "Queries averaged over in each row of cells: real tokens with a valid key; the cells of a row with 0 say nothing", unit="queries", range=COUNT),
    ),
)  # fmt: skip

AT_WORK = Table(
    "head_at_work",
    "A row per head and window: in which windows a head does most of what it does more than other heads.",
    (*KEY, "window"),
    (
        *_HEAD,
        _WINDOW,
        Column("rank", "int", "Windows by `value`, the largest first, from 1", range=(1, 1e12)),
        Column("measure", "str", f"By which the head exceeds the others most, in standard deviations + 0.05 over heads, on these windows: {', '.join(SHOWN)} (attention on the first key, the own token, the one before or after, the same token elsewhere, the token after such a one, special tokens; spread: entropy / that of uniform)"),
        Column("value", "float", "The measure on this window, mean over queries with two or more valid keys; NULL where none has", range=SHARE, optional=True, evidence="O"),
        Column("typical", "float", "Its median over the heads of the model, on all windows; NULL likewise", range=SHARE, optional=True, evidence="O"),
        Column("mass_kept", "float", "Mean over kept queries of the attention on the kept keys; NULL where no query has a valid key", unit="share of attention", range=SHARE, optional=True, evidence="O"),
        Column("n_rows", "int", "Queries averaged over", unit="queries", range=COUNT),
    ),
)  # fmt: skip

EXAMPLE_TABLES = (PLACES, WINDOWS, EXAMPLES, MAPS, AT_WORK)
