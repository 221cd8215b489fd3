"""Rows of `head_pairs`: all pairs within a place, and each head's most similar ones elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.attention.patterns_results import Measured, place_columns

Floats = NDArray[np.float64]
ELSEWHERE = 5
"""Similar heads of other places that are kept for each head."""


def within_rows(seen: Measured) -> dict[str, Any]:
    """All pairs of one place, each once."""
    heads = seen.place.heads
    a, b = np.triu_indices(heads, 1)
    overlap = overlaps(seen.known("pooled"), seen.known("pooled"))
    rows = place_columns(seen.place, len(a), "a") | place_columns(seen.place, len(a), "b")
    rows |= {"head_a": a, "head_b": b, "within": [True] * len(a), "overlap": overlap[a, b]}
    for name, source, low, high in (
        ("agreement", "agreement", 0.0, 1.0),
        ("divergence", "divergence", 0.0, np.log(2)),
        ("output_cosine", "cosine", -1.0, 1.0),
        ("output_cka", "cka", 0.0, 1.0),
    ):
        values = seen.mean(source)
        rows[name] = [None] * len(a) if values is None else np.clip(values[a, b], low, high)
    return rows


def overlaps(one: Floats, other: Floats) -> Floats:
    """`head_similarity.overlap` of arrays; patterns pooled to different sizes have none: 0."""
    import torch

    from analysis.stats.head_similarity import overlap

    if one.shape[1:] != other.shape[1:]:
        return np.zeros((len(one), len(other)))
    return overlap(torch.from_numpy(one), torch.from_numpy(other)).numpy()


def elsewhere_rows(number: int, every: Sequence[Measured], kept: dict[tuple[int, int, int, int], float]) -> dict[str, Any]:
    """Pairs of the heads of place ``number`` with their `ELSEWHERE` most similar heads of other places, but for those in ``kept``
    already, whichever way round; the new ones are put there. Every place's pairs are the same in any order of asking."""
    me = every[number]
    pooled = me.known("pooled")
    scores = [
        overlaps(pooled, other.known("pooled")) if i != number else np.full((len(pooled), len(pooled)), -1.0)
        for i, other in enumerate(every)
    ]
    owner = np.concatenate([np.full(s.shape[1], i) for i, s in enumerate(scores)])
    head = np.concatenate([np.arange(s.shape[1]) for s in scores])
    whole = np.concatenate(scores, axis=1)
    pairs: list[tuple[int, int, int, int]] = []
    for h, row in enumerate(whole):
        for j in np.argsort(-row, kind="stable")[:ELSEWHERE]:
            pair = (number, h, int(owner[j]), int(head[j]))
            turned = pair if pair[0] < pair[2] else (*pair[2:], *pair[:2])
            if row[j] >= 0 and turned not in kept:
                kept[turned] = float(row[j])
                pairs.append(turned)
    columns: dict[str, list[Any]] = {}
    for i, h, j, g in pairs:
        part = place_columns(every[i].place, 1, "a") | place_columns(every[j].place, 1, "b") | {"head_a": [h], "head_b": [g]}
        part |= {"within": [False], "overlap": [kept[i, h, j, g]]}
        part |= dict.fromkeys(("agreement", "divergence", "output_cosine", "output_cka"), [None])
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    return columns
