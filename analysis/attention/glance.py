"""What stands on a model's card about its attention: four numbers, and two rows of its bar code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis.spec import Headline, Stripe, Summaries


def _mean(rows: Any, name: str) -> float | None:
    """Mean over heads; places weigh by their heads. None where none has the number."""
    known = [(row[name], row["n_heads"]) for row in rows if row[name] is not None]
    return sum(v * n for v, n in known) / sum(n for _, n in known) if known else None


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """Keys needed, mass on the first token, locality, sink heads."""
    rows = summaries.get("attention_layers", ())
    if not rows:
        return ()
    heads = sum(row["n_heads"] for row in rows)
    over = f"Mean over {heads:,} heads, {rows[0]['n_queries']:,} queries each."
    words = (
        ("Keys for 90 % of attention", "key_share"),
        ("Attention on the first token", "first_mass"),
        ("Attention within 64 tokens", "local_mass"),
    )
    found = [Headline(label, value, over) for label, name in words if (value := _mean(rows, name)) is not None]
    sinks = sum(row["n_sink_heads"] for row in rows) / heads
    return (*found, Headline("Sink heads", sinks, f"Of {heads:,} heads; over 30 % of later queries' attention is on the first 4 tokens."))


def _per_layer(name: str) -> Callable[[Summaries], Mapping[int, float]]:
    """The mean over the heads of each layer."""

    def values(summaries: Summaries) -> Mapping[int, float]:
        rows = summaries.get("attention_layers", ())
        found = {layer: _mean([r for r in rows if r["layer"] == layer], name) for layer in {r["layer"] for r in rows}}
        return {layer: value for layer, value in sorted(found.items()) if value is not None}

    return values


STRIPES = (
    Stripe("Attention keys", "mean share of valid keys that hold 90 % of a query's attention", 0.0, 1.0, _per_layer("key_share")),
    Stripe("First token", "mean share of attention on the first token", 0.0, 1.0, _per_layer("first_mass")),
)
