"""Columns that name a neuron and another one, and bins of their similarity: what `neuron_weights` and `neuron_correlation` share."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.spec import Column

HELD = 1 << 31
"""Bytes of unit rows kept between sites; beyond that they are made again when needed."""
BIN = 0.05
"""Width of the bins that the figures' similarities are counted in."""

SITE = (
    Column("layer", "int", "Rank of the block, from 0, by first execution", range=(0, 1e6)),
    Column("hook_name", "str", "Name of the site: TransformerLens' where its bridge knows the model, else the module path"),
)
UNIT = (*SITE, Column("neuron", "int", "Coordinate of the FFN inner activation, from 0", range=(0, 1e9)))
OTHER = (
    Column("other_layer", "int", "Layer of the other neuron", range=(0, 1e6)),
    Column("other_hook_name", "str", "Site of the other neuron"),
    Column("other_neuron", "int", "Coordinate of the other neuron", range=(0, 1e9)),
)


def bins_of(values: np.ndarray) -> dict[str, Any]:
    """Counts of values in [-1, 1] in bins of `BIN`, the last one closed: columns low, high and n_neurons of the bins that are not empty."""
    n_bins = round(2 / BIN)
    place = np.clip(np.floor((values + 1) / BIN + 1e-9), 0, n_bins - 1).astype(np.int64)
    found, counts = np.unique(place, return_counts=True)
    return {"low": np.round(found * BIN - 1, 10), "high": np.round((found + 1) * BIN - 1, 10), "n_neurons": counts}


def bin_columns(of: str) -> tuple[Column, ...]:
    """The columns that `bins_of` fills."""
    return (
        Column("low", "float", f"Lower edge of the bin of {of}", range=(-1, 1)),
        Column("high", "float", "Upper edge", range=(-1, 1)),
        Column("n_neurons", "int", "Neurons in the bin; the last one includes 1", "neurons", (0, 1e15)),
    )


def bin_heatmap(rows: Any) -> Any:
    """Bins summed over the sites of a layer, as shares of its neurons: a row per layer and bin, empty bins between filled ones too."""
    import pandas as pd

    counts = rows.groupby(["layer", "low"], as_index=False)["n_neurons"].sum()
    steps = np.arange(round(rows["low"].min() / BIN), round(rows["low"].max() / BIN) + 1)
    layers = np.sort(counts["layer"].unique())
    full = pd.MultiIndex.from_product([layers, np.round(steps * BIN, 10)], names=["layer", "low"]).to_frame(index=False)
    full["key"], counts["key"] = (np.rint(frame["low"] / BIN).astype(int) for frame in (full, counts))
    full = full.merge(counts[["layer", "key", "n_neurons"]], on=["layer", "key"], how="left").fillna({"n_neurons": 0})
    full["share"] = full["n_neurons"] / full.groupby("layer")["n_neurons"].transform("sum")
    full["bin"] = [f"{low:.2f} to {low + BIN:.2f}" for low in full["low"]]
    return full[["layer", "bin", "n_neurons", "share"]]
