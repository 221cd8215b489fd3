"""What changed most between matched units, with what noise alone could do where it can be told. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.changes import corrected, gap_interval, gap_p, largest_changes, share_gap, share_p
from ui.compare.matching import BASE, Frame, Matched

SHOWN = 100
"""Rows of a ranked list: what is beyond is in the tables of both runs."""
SURE = 0.05
"""Share of false ones that is put up with among the units called changed."""


@dataclass(frozen=True)
class Changes:
    """The units that changed most by one measure."""

    rows: Frame
    """At most `SHOWN`, the largest first: the columns of `Matched`, and ``value``, ``base``, ``change``, ``low``, ``high``, ``q``."""
    n: int
    """Units that both models have."""
    n_known: int
    """Of these, those with a number on both sides."""
    n_changed: int
    """Of these, those whose numbers differ at all."""
    n_sure: int | None
    """Units whose q is below `SURE`; None where nothing was tested."""


@dataclass(frozen=True)
class Noise:
    """What is known of noise in a difference, an entry per unit."""

    low: NDArray[np.float64]
    """Ends of the difference's 95 % interval."""
    high: NDArray[np.float64]
    p: NDArray[np.float64]


def changes(matched: Matched, column: str, noise: Noise | None = None, k: int = SHOWN) -> Changes:
    """Rank by |second - first| of a column; with ``noise``, q is its p corrected for the number of units."""
    rows = matched.rows
    value, base = floats(rows[column]), floats(rows[column + BASE])
    places = largest_changes(value, base, k)
    none = np.full(len(value), np.nan)
    q = none if noise is None else corrected(noise.p)
    low, high = (none, none) if noise is None else (noise.low, noise.high)
    more = {"value": value, "base": base, "change": value - base, "low": low, "high": high, "q": q}
    shown = rows.iloc[places].reset_index(drop=True).assign(**{name: whole[places] for name, whole in more.items()})
    known = ~(np.isnan(value) | np.isnan(base))
    n_changed = int((known & (value != base)).sum())
    return Changes(shown, len(rows), int(known.sum()), n_changed, None if noise is None else int((q < SURE).sum()))


def share_noise(matched: Matched, active: str, n_documents: int) -> Noise:
    """Of the share of documents a unit was active in, from counts of the same documents (`analysis.stats.changes.share_p`)."""
    one, base = (matched.rows[name].to_numpy(np.int64) for name in (active, active + BASE))
    return Noise(*share_gap(one, base, n_documents), share_p(one, base, n_documents))


def interval_noise(matched: Matched, column: str, n_documents: int) -> Noise | None:
    """Of a column whose 95 % interval over documents is stored as ``_low`` and ``_high``; None where it is not, or of one document."""
    rows = matched.rows
    if f"{column}_low" not in rows or f"{column}_low{BASE}" not in rows or n_documents < 2:
        return None
    value, low, high = (floats(rows[f"{column}{end}"]) for end in ("", "_low", "_high"))
    base, base_low, base_high = (floats(rows[f"{column}{end}{BASE}"]) for end in ("", "_low", "_high"))
    p = gap_p(value, (high - low) / 2, base, (base_high - base_low) / 2, n_documents)
    return Noise(*gap_interval(low, high, base_low, base_high), p)


def by_measure(matched: Matched, measures: Mapping[str, str]) -> dict[str, list[Any]]:
    """A row per measure: how many units differ by it, and the largest difference; columns are lists of equal length."""
    found: dict[str, list[Any]] = {"measure": [], "differ": [], "of": [], "largest": []}
    for name, column in measures.items():
        if column not in matched.rows or column + BASE not in matched.rows:
            continue
        gap = floats(matched.rows[column]) - floats(matched.rows[column + BASE])
        known = gap[~np.isnan(gap)]
        if not len(known):
            continue
        largest = float(known[np.argmax(np.abs(known))])
        for key, one in zip(found, (name, int((known != 0).sum()), len(known), largest), strict=True):
            found[key].append(one)
    return found


def floats(column: Any) -> NDArray[np.float64]:
    """A column as numbers, NaN where it has none."""
    return column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
