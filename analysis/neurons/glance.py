"""What stands on a model's card about its neurons: four numbers, and two rows of its bar code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.spec import Headline, Stripe, Summaries


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """Mean density and classes over all neurons; layers weigh by their neurons."""
    rows = summaries.get("layers", ())
    if not rows:
        return ()
    n = sum(row["n_neurons"] for row in rows)
    over = f"Of {n:,} neurons, on {rows[0]['n_tokens']:,} tokens from {rows[0]['n_documents']:,} documents."
    density = sum(row["density"] * row["n_neurons"] for row in rows) / n
    classes = {name: sum(row[f"n_{name}"] for row in rows) / n for name in ("dead", "undecided", "dense")}
    return (
        Headline("Mean active share", density, over),
        Headline("Dead neurons", classes["dead"], over),
        Headline("Undecided neurons", classes["undecided"], over),
        Headline("Dense neurons", classes["dense"], over),
    )


def _per_layer(amount: Callable[[Mapping[str, float]], float]) -> Callable[[Summaries], Mapping[int, float]]:
    """Neurons counted by ``amount`` / neurons, over all sites of each layer."""

    def values(summaries: Summaries) -> Mapping[int, float]:
        found: dict[int, float] = {}
        n: dict[int, int] = {}
        for row in summaries.get("layers", ()):
            found[row["layer"]] = found.get(row["layer"], 0.0) + amount(row)
            n[row["layer"]] = n.get(row["layer"], 0) + row["n_neurons"]
        return {layer: found[layer] / n[layer] for layer in n}

    return values


STRIPES = (
    Stripe(
        "Active neurons",
        "mean share of the layer's FFN neurons active on a token",
        0.0,
        1.0,
        _per_layer(lambda row: row["density"] * row["n_neurons"]),
    ),
    Stripe(
        "Silent neurons",
        "share of the layer's FFN neurons active on none of the tokens read; fewer tokens, more silent neurons",
        1e-3,
        1.0,
        _per_layer(lambda row: row["n_silent"]),
        log=True,
    ),
)
