"""The table of `coding_rates`."""

from __future__ import annotations

from analysis.spec import Column, Table

_N = (0, 1e15)
RATES = Table(
    "coding_rates",
    "A row per layer and what was measured there.",
    ("layer", "hook_name", "of"),
    (
        Column("layer", "int", "Layer, from 0", range=(0, 1e6)),
        Column("hook_name", "str", "Name of the place"),
        Column("of", "str", "residual stream (R), or values of the heads (R^c: the sum over heads)"),
        Column("rate", "float", "Mean over windows of the coding rate of their tokens, each at length 1", unit="nats per window", range=(0, 1e308), evidence="O"),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL for a single document", unit="nats per window", optional=True),
        Column("high", "float", "Upper end of it; NULL for a single document", unit="nats per window", optional=True),
        Column("heads", "int", "Heads whose rates are summed (those of keys and values); 1 for the residual stream", unit="heads", range=_N),
        Column("width", "int", "Numbers in a token's vector there", range=_N),
        Column("most", "float", "The largest rate that so many tokens of length 1 could have there: all directions used alike", unit="nats per window", range=(0, 1e308), evidence="O"),
        Column("n_windows", "int", "Windows", unit="windows", range=_N),
        Column("n_tokens", "int", "Tokens", unit="tokens", range=_N),
    ),
    summary=True,
)  # fmt: skip
