"""From the numbers of all windows to the rows of `head_patterns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.attention.patterns_observing import LEVELS, Asked
from analysis.attention.patterns_tables import COUNTED, CURVES
from analysis.capture.attention_places import AttentionPlace
from analysis.stats import head_similarity
from analysis.stats.pattern_masks import CLASSES, chosen_class
from analysis.stats.pattern_shapes import SHAPES, STATS, shape_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """Thresholds of the words."""

    share: float
    even: float
    gain: float
    near: float
    tolerance: float


@dataclass(frozen=True)
class Measured:
    """One place over all windows: each entry [windows, heads, ...], or as long as windows have it."""

    place: AttentionPlace
    windows: Sequence[Mapping[str, Floats]]

    def mean(self, name: str) -> Floats | None:
        """Mean over windows, of arrays whose size grows with the window over the longest; None where no window has it."""
        found = [w[name] for w in self.windows if name in w]
        if not found:
            return None
        longest = max(found, key=lambda array: array.size).shape
        return np.mean([array for array in found if array.shape == longest], axis=0)

    @property
    def n(self) -> int:
        """Tokens of the longest window."""
        return int(max(w["tokens"] for w in self.windows))

    def known(self, name: str) -> Floats:
        """The mean of what every window has."""
        found = self.mean(name)
        assert found is not None
        return found


def place_columns(place: AttentionPlace, n: int, end: str = "") -> dict[str, Any]:
    """Layer, hook_name and turn, ``n`` times."""
    tail = f"_{end}" if end else ""
    return {f"layer{tail}": [place.site.layer] * n, f"hook_name{tail}": [place.site.hook_name] * n, f"turn{tail}": [place.turn] * n}


def _shape(stats: Floats, recalls: Floats, rules: Rules) -> str:
    return shape_of(dict(zip(STATS, stats.tolist(), strict=True)), float(recalls[1]), rules.share, rules.even, rules.gain)


def words(seen: Measured, rules: Rules) -> dict[str, list[Any]]:
    """Class and shape of every head, each with the share of windows that agree."""
    recall, stats = seen.known("recall"), seen.known("shape")
    found: dict[str, list[Any]] = {"pattern": [], "pattern_agreement": [], "shape": [], "shape_agreement": []}
    for h in range(seen.place.heads):
        pattern, shape = chosen_class(recall[h].tolist()), _shape(stats[h], recall[h], rules)
        found["pattern"].append(pattern)
        found["shape"].append(shape)
        found["pattern_agreement"].append(float(np.mean([chosen_class(w["recall"][h].tolist()) == pattern for w in seen.windows])))
        found["shape_agreement"].append(float(np.mean([_shape(w["shape"][h], w["recall"][h], rules) == shape for w in seen.windows])))
    return found


def head_rows(seen: Measured, rules: Rules, asked: Asked, width: int) -> dict[str, Any]:
    """Rows of `head_patterns`."""
    place, heads = seen.place, seen.place.heads
    recall, density, stats, curves = (seen.known(name) for name in ("recall", "density", "shape", "curves"))
    at = LEVELS.index(1.0)
    rows = place_columns(place, heads) | {"head": list(range(heads)), "causal": [place.causal] * heads}
    rows |= {"n_windows": [len(seen.windows)] * heads, "keys": [asked.keys(seen.n)] * heads} | words(seen, rules)
    for i, name in enumerate(("a_shape", "lines", "blocks")):
        rows |= {f"{name}_recall": _shares(recall[:, i]), f"{name}_density": _shares(density[:, i])}
    rows["block_sum_recall"] = _shares(seen.known("block_sums"))
    for name, stat in (("sink_share", "sink"), ("local_share", "local"), ("evenness", "evenness")):
        rows[name] = _shares(stats[:, STATS.index(stat)])
    rows["block_gain"] = np.clip(stats[:, STATS.index("block_gain")], -1, 1)
    for i, name in enumerate(("hip_mass", "oracle_mass", "sparse_error", "low_rank_error", "combined_error")):
        rows[name] = _shares(curves[:, i, at])
    rows["hip_recall"] = _shares(curves[:, 0, at] / np.maximum(curves[:, 1, at], 1e-30))
    ranks = seen.mean("ranks")
    rows["page_rank_top"] = [None] * heads if ranks is None else _shares(ranks[:, 0])
    rows["page_rank_variance"] = [None] * heads if ranks is None else ranks[:, 1].tolist()
    return rows | _spans(seen, rules.tolerance, width) | _nearest(seen) | _clusters(seen, rules.near)


def _shares(values: Floats) -> Floats:
    """Shares as they are but for rounding beyond 0 and 1."""
    return np.where((values > 1) & (values < 1 + 1e-4), 1.0, np.where((values < 0) & (values > -1e-4), 0.0, values))


def _spans(seen: Measured, tolerance: float, width: int) -> dict[str, list[Any]]:
    costs = seen.mean("spans")
    found: dict[str, list[Any]] = {"span": [], "span_at_once": []}
    for h in range(seen.place.heads):
        for i, name in enumerate(found):
            found[name].append(None if costs is None else shortest_span(costs[h, :, i], tolerance) * width)
    return found


def shortest_span(costs: Floats, tolerance: float) -> int:
    """Blocks of the shortest span whose cost, and that of every longer one, is at most the tolerance. costs [spans], the last is 0."""
    over = np.flatnonzero(costs > tolerance)
    return int(over.max(initial=-1)) + 2 if len(over) else 1


def _nearest(seen: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, array, best in (("nearest_divergence", "divergence", np.min), ("nearest_cosine", "cosine", np.max)):
        values = seen.mean(array)
        if values is None or len(values) < 2:
            found[name] = [None] * seen.place.heads
            continue
        others = values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
        found[name] = best(others, axis=1).tolist()
    return found


def _clusters(seen: Measured, near: float) -> dict[str, Any]:
    _, leaves, clusters = head_similarity.tree(head_similarity.distance(seen.known("divergence")), near)
    return {"cluster": clusters, "leaf": leaves}


def merge_rows(seen: Measured, near: float) -> dict[str, Any]:
    """Rows of `head_merges`, with where the branches of the drawn tree stand."""
    merges, leaves, _ = head_similarity.tree(head_similarity.distance(seen.known("divergence")), near)
    heads, at, height = seen.place.heads, {h: float(x) for h, x in enumerate(leaves)}, dict.fromkeys(range(seen.place.heads), 0.0)
    rows: dict[str, list[Any]] = place_columns(seen.place, len(merges))
    names = ("merge", "left", "right", "distance", "n_heads", "left_at", "right_at", "left_from", "right_from")
    rows |= {name: [] for name in names}
    for i, (one, other, far, inside) in enumerate(merges):
        left, right = sorted((int(one), int(other)), key=lambda m: at[m])
        values = (heads + i, left, right, min(1.0, float(far)), int(inside), at[left], at[right], height[left], height[right])
        for name, value in zip(names, values, strict=True):
            rows[name].append(value)
        at[heads + i], height[heads + i] = (at[left] + at[right]) / 2, min(1.0, float(far))
    return rows


def budget_rows(seen: Measured, asked: Asked) -> dict[str, Any]:
    """Rows of `head_budgets`."""
    curves, heads = seen.known("curves"), seen.place.heads
    cells = [(h, m, i) for h in range(heads) for m in range(len(CURVES)) for i in range(len(LEVELS))]
    return place_columns(seen.place, len(cells)) | {
        "head": [h for h, _, _ in cells],
        "method": [CURVES[m] for _, m, _ in cells],
        "level": [LEVELS[i] for _, _, i in cells],
        "share": [asked.keys(seen.n, LEVELS[i]) / seen.n for _, _, i in cells],
        "value": [max(0.0, float(curves[c])) for c in cells],
    }


def span_rows(seen: Measured, width: int) -> dict[str, Any] | None:
    """Rows of `head_spans`; None where there is no loss."""
    costs = seen.mean("spans")
    if costs is None:
        return None
    cells = [(h, b) for h in range(seen.place.heads) for b in range(costs.shape[1])]
    return place_columns(seen.place, len(cells)) | {
        "head": [h for h, _ in cells],
        "span": [(b + 1) * width for _, b in cells],
        "summed": [max(0.0, float(costs[h, b, 0])) for h, b in cells],
        "at_once": [float(costs[h, b, 1]) for h, b in cells],
    }


def layer_row(seen: Measured, found: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `pattern_layers`; ``found``: the place's rows of `head_patterns`."""
    cosine = seen.mean("cosine")
    row: dict[str, Any] = {"n_heads": seen.place.heads, "n_windows": len(seen.windows)}
    row |= {"agreement": float(np.clip(seen.known("agreement").mean(), 0, 1))}
    row |= {"output_agreement": None if cosine is None else float(np.clip(cosine.mean(), -1, 1))}
    counted, importance = seen.mean("counted"), seen.mean("importance")
    row["n_ranked"] = None if counted is None else float(counted)
    row["importance_top"] = None if importance is None else float(np.clip(importance, 0, 1))
    row["n_clusters"] = int(np.max(found["cluster"])) + 1
    row |= {f"n_{name}": found["shape"].count(shape) for name, shape in zip(COUNTED, SHAPES, strict=True)}
    row |= {f"n_class_{c.lower().replace('-', '_')}": found["pattern"].count(c) for c in CLASSES}
    return place_columns(seen.place, 1) | {name: [value] for name, value in row.items()}
