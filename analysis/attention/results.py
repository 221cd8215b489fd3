"""From tallies to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.attention.measures import BLOCK_LEVELS, LEVELS, MEASURES, POSITION_LEVELS, SEEN_LEVELS
from analysis.capture.attention_places import AttentionPlace
from analysis.stats.attention import BY_DOCUMENT, HeadTally
from analysis.stats.attention_columns import WINDOW
from analysis.stats.attention_measures import DENOMINATOR, LATER, OF_DISTANCE, PAIRS, ROW, ROWS
from analysis.stats.intervals import mean_over_documents

Floats = NDArray[np.float64]
Values = list[float | None]
FROM_BIN = LATER.bit_length()
"""First bin of positions from `LATER` on."""
SLOPE_FROM = 4
"""First bin of the slope: positions from 8 on."""
SINK_HEAD = 0.3


def _maybe(values: Floats, known: NDArray[np.bool_]) -> Values:
    return [float(v) if k else None for v, k in zip(values, known, strict=True)]


def means(tally: HeadTally, row: int, crosses: bool, bins: slice = slice(None)) -> Values:
    """A measure of each head over the rows of some bins; None where no row has it."""
    sums = tally.sums[:, bins, row].sum(1)
    n = tally.counts[:, bins, DENOMINATOR.get(row, ROWS)].sum(1)
    if crosses and (row in OF_DISTANCE or row == ROW.value_current):
        n = np.zeros_like(n)
    return _maybe(sums / np.maximum(n, 1), n > 0)


def window_means(tally: HeadTally, place: int) -> Values:
    """A measure of whole windows, over windows."""
    n = tally.window_counts[:, place]
    return _maybe(tally.window_sums[:, place] / np.maximum(n, 1), n > 0)


def slopes(tally: HeadTally) -> Values:
    """Least squares of the bins' mean ln(keys for 90 %) on their mean ln(position + 1), each bin weighing the same; bins from position
    8 on, at least three. No unit. Source: ours."""
    n = tally.counts[:, SLOPE_FROM:, ROWS]
    found: Values = []
    for h in range(tally.heads):
        some = n[h] > 0
        x, y = (tally.sums[h, SLOPE_FROM:, row][some] / n[h][some] for row in (ROW.log_position, ROW.log_keys_90))
        found.append(float(np.polyfit(x, y, 1)[0]) if some.sum() >= 3 else None)
    return found


def channel_shares(tally: HeadTally) -> Values:
    """Share of sum_t |q_tc k_tc| in the quarter (rounded up) of channels that have most of it (METHODS C7)."""
    if not tally.channels.size:
        return [None] * tally.heads
    ordered = -np.sort(-tally.channels, axis=1)
    kept = -(-ordered.shape[1] // 4)
    total = ordered.sum(1)
    return _maybe(ordered[:, :kept].sum(1) / np.where(total > 0, total, 1), total > 0)


def _head_columns(place: AttentionPlace, heads: NDArray[np.int64] | None = None) -> dict[str, Any]:
    heads = np.arange(place.heads) if heads is None else heads
    n = len(heads)
    site = place.site
    return {"layer": [site.layer] * n, "hook_name": [site.hook_name] * n, "turn": [place.turn] * n, "head": heads}


def head_rows(place: AttentionPlace, tally: HeadTally, scores: dict[str, Values]) -> dict[str, Any]:
    """Rows of `heads`."""
    n = place.heads
    rows = _head_columns(place) | {k: [v] * n for k, v in _kind(place).items()}
    rows |= {"n_rows": tally.counts[:, :, ROWS].sum(1), "n_pairs": tally.counts[:, :, PAIRS].sum(1)}
    rows |= {m.column.name: means(tally, m.row, place.crosses) for m in MEASURES}
    names = ("key_share", "relative_entropy", "first_mass", "local_mass")
    for i, (name, row) in enumerate(zip(names, BY_DOCUMENT, strict=True)):
        rows |= _limits(tally, name, i, place.crosses and row in OF_DISTANCE)
    rows["sink_mass"] = means(tally, ROW.sink, False, slice(FROM_BIN, None))
    for name in ("detected_sinks", "detected_sink_mass", "heavy_mass", "zipvl"):
        rows[name] = window_means(tally, getattr(WINDOW, name))
    rows["block_density"] = window_means(tally, WINDOW.block_64)
    return rows | {"slope": slopes(tally), "channel_share": channel_shares(tally)} | scores


def _limits(tally: HeadTally, name: str, i: int, hidden: bool) -> dict[str, Values]:
    low: Values = [None] * tally.heads
    high: Values = [None] * tally.heads
    for h in range(0 if hidden else tally.heads):
        if tally.document_sums[:, h, -1].any():
            found = mean_over_documents(tally.document_sums[:, h, i], tally.document_sums[:, h, -1])
            if found.low is not None and found.high is not None:  # of shares, which lie between 0 and 1
                low[h], high[h] = max(0.0, found.low), min(1.0, found.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _kind(place: AttentionPlace) -> dict[str, Any]:
    return {"operator": place.site.operator, "causal": place.causal, "crosses": place.crosses}


def level_rows(place: AttentionPlace, tally: HeadTally, seen: Sequence[Values]) -> dict[str, Any]:
    """Rows of `head_levels`; ``seen``: the agreement at each of `SEEN_LEVELS`."""
    found = [(name, level, means(tally, row, place.crosses)) for name, level, row in LEVELS]
    found += [(name, level, window_means(tally, WINDOW.block_16 + i)) for i, (name, level) in enumerate(BLOCK_LEVELS)]
    found += [(name, level, values) for (name, level), values in zip(SEEN_LEVELS, seen, strict=True)]
    parts = [(name, level, h, v) for name, level, values in found for h, v in enumerate(values) if v is not None]
    rows = _head_columns(place, np.array([h for _, _, h, _ in parts], np.int64))
    return rows | {"measure": [p[0] for p in parts], "level": [p[1] for p in parts], "value": [p[3] for p in parts]}


def position_rows(place: AttentionPlace, tally: HeadTally) -> dict[str, Any]:
    """Rows of `head_positions`: bins with a row."""
    rows: dict[str, list[Any]] = {}
    for b in np.flatnonzero(tally.counts[:, :, ROWS].any(0)):
        low, high = _bin(int(b))
        n = tally.counts[:, b, ROWS]
        part = _head_columns(place) | {"position_from": [low] * place.heads, "position_to": [high] * place.heads, "n_rows": n}
        part |= {m.column.name: means(tally, m.row, place.crosses, slice(b, b + 1)) for m in MEASURES}
        part["sink_mass"] = means(tally, ROW.sink, False, slice(b, b + 1))
        for name, values in part.items():
            rows.setdefault(name, []).extend(v for v, some in zip(values, n) if some)
    return rows


def position_level_rows(place: AttentionPlace, tally: HeadTally) -> dict[str, Any]:
    """Rows of `head_position_levels`: bins with a row."""
    parts = [
        (name, level, b, h, v)
        for name, level, row in POSITION_LEVELS
        for b in np.flatnonzero(tally.counts[:, :, ROWS].any(0)).tolist()
        for h, v in enumerate(means(tally, row, place.crosses, slice(b, b + 1)))
        if v is not None
    ]
    rows = _head_columns(place, np.array([p[3] for p in parts], np.int64))
    rows |= {"measure": [p[0] for p in parts], "level": [p[1] for p in parts]}
    return rows | {"position_from": [_bin(p[2])[0] for p in parts], "value": [p[4] for p in parts]}


def distance_rows(place: AttentionPlace, tally: HeadTally) -> dict[str, Any]:
    """Rows of `head_distances`: bins up to the last one that any head reaches."""
    n = tally.counts[:, :, ROWS].sum(1)
    used = int(np.flatnonzero(tally.distances.any(0)).max(initial=-1)) + 1
    bins = range(0 if place.crosses else used)
    parts = [(h, *_bin(b), tally.distances[h, b] / n[h]) for h in range(place.heads) if n[h] for b in bins]
    rows = _head_columns(place, np.array([p[0] for p in parts], np.int64))
    return rows | {"distance_from": [p[1] for p in parts], "distance_to": [p[2] for p in parts], "mass": [min(1.0, p[3]) for p in parts]}


def _bin(b: int) -> tuple[int, int]:
    """First and last number of a bin that doubles: {0}, {1}, {2, 3}, {4 .. 7}, ..."""
    return (0, 0) if b == 0 else (2 ** (b - 1), 2**b - 1)


def layer_row(place: AttentionPlace, tally: HeadTally) -> dict[str, Any]:
    """The row of `attention_layers`."""
    site = place.site
    masked, single = tally.odd[0]
    row: dict[str, Any] = {"layer": site.layer, "hook_name": site.hook_name, "turn": place.turn} | _kind(place)
    row |= {"n_heads": place.heads, "n_queries": int(tally.counts[0, :, ROWS].sum() + masked + single)}
    row |= {"n_masked": int(tally.odd[:, 0].max()), "n_single": int(tally.odd[:, 1].max())}
    for name, measure in (
        ("key_share", ROW.share_90),
        ("relative_entropy", ROW.relative_entropy),
        ("first_mass", ROW.first),
        ("local_mass", ROW.local_64),
    ):
        known = [v for v in means(tally, measure, place.crosses) if v is not None]
        row[name] = float(np.mean(known)) if known else None
    sinks = means(tally, ROW.sink, False, slice(FROM_BIN, None))
    row["n_sink_heads"] = sum(1 for v in sinks if v is not None and v > SINK_HEAD)
    return {name: [value] for name, value in row.items()}
