"""What stands on a model's card about its weights: two numbers, and three rows of its bar code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.spec import Headline, Stripe, Summaries


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """Exact and near zeros over all weights."""
    for row in summaries.get("totals", ()):
        if row["scope"] == "all weights":
            over = f"Of {row['n_weights']:,} weights in {row['n_tensors']:,} tensors, tied ones once; exact zeros are near zero, too."
            return (
                Headline("Weights exactly zero", row["zero_share"], over),
                Headline("Weights near zero", row["near_zero_share"], over),
            )
    return ()


def _pq_index(kind: str) -> Callable[[Summaries], Mapping[int, float]]:
    def values(summaries: Summaries) -> Mapping[int, float]:
        rows = [row for row in summaries.get("layer_weights", ()) if row["kind"] == kind]
        return {row["layer"]: row["pq_index"] for row in rows if row["pq_index"] is not None}

    return values


def _near_zero_share(summaries: Summaries) -> Mapping[int, float]:
    """Near zeros / weights over all matrices of each block."""
    near: dict[int, float] = {}
    n: dict[int, int] = {}
    for row in summaries.get("layer_weights", ()):
        near[row["layer"]] = near.get(row["layer"], 0.0) + row["near_zero_share"] * row["n_weights"]
        n[row["layer"]] = n.get(row["layer"], 0) + row["n_weights"]
    return {layer: near[layer] / n[layer] for layer in n}


_PQ = "mean PQ Index of the {} matrices of the block: 0 when all magnitudes are equal, 0.15 for a normal distribution, 1 when few carry all"

STRIPES = (
    Stripe("PQ Index, FFN", _PQ.format("FFN"), 0.1, 1.0, _pq_index("ffn"), log=True, unit=""),
    Stripe("PQ Index, attention", _PQ.format("attention"), 0.1, 1.0, _pq_index("attention"), log=True, unit=""),
    Stripe(
        "Near-zero weights",
        "share of the weights of the block's matrices that are zero or nearly so, relative to each matrix' root mean square",
        1e-4,
        1.0,
        _near_zero_share,
        log=True,
    ),
)
