"""Which tokens a head looks at, and from which it looks most sharply, over stored windows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Frame = Any
Tokens = Mapping[int, Sequence[str]]
FEWEST = 2
"""Queries of a token below which how sharply it looks says little."""


def top_tokens(rows: Frame, queries: Tokens, keys: Tokens) -> tuple[Frame, Frame]:
    """By token, most first: what share of all attention falls on it and at how many positions it was seen; and the mean largest weight of
    its queries, and how many there are. ``rows`` of `head_examples`; ``queries``, ``keys``: the tokens of each window."""
    import pandas as pd

    received, sharpest = defaultdict[str, float](float), defaultdict[str, list[float]](list)
    for window, query, at, weights in zip(rows["window"], rows["query"], rows["keys"], rows["weights"], strict=True):
        for key, weight in zip(at, weights, strict=True):
            received[keys[window][int(key)]] += float(weight) / len(rows)
        sharpest[queries[window][int(query)]].append(max(map(float, weights), default=0.0))
    positions = Counter(token for window in set(rows["window"]) for token in keys[window])
    means = {token: sum(values) / len(values) for token, values in sharpest.items() if len(values) >= FEWEST}
    looked, told = (sorted(values.items(), key=lambda one: (-one[1], one[0])) for values in (received, means))
    names = ("token", "attention")
    at = pd.DataFrame(looked, columns=names).assign(positions=[positions[token] for token, _ in looked])
    return at, pd.DataFrame(told, columns=names).assign(queries=[len(sharpest[token]) for token, _ in told])
