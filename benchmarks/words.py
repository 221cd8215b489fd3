"""Numbers of benchmarks as words: seconds, ratios with their spread, memory, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A `Result` as it was written down."""
_UNITS = ((1.0, "s", 1.0), (1e-3, "ms", 1e3), (1e-6, "µs", 1e6), (0.0, "ns", 1e9))


def seconds(value: float | None) -> str:
    """Three digits and the unit that fits; a dash where there is none."""
    if value is None:
        return "–"
    unit, scale = next((unit, scale) for least, unit, scale in _UNITS if value >= least)
    return f"{value * scale:.3g} {unit}" if value * scale < 100 else f"{value * scale:,.0f} {unit}"


def ratio(spread: list[float] | tuple[float, ...] | None) -> str:
    """Median with the lowest and the highest round."""
    if spread is None:
        return "–"
    middle, low, high = spread
    return f"{middle:.2f} x" if low == high else f"{middle:.2f} x ({low:.2f} to {high:.2f})"


def memory(row: Row) -> str:
    """Peaks of both processes, in MB."""
    if row["peak_mb"] is None:
        return "–"
    other = "" if row["beside_peak_mb"] is None else f" / {row['beside_peak_mb']:,.0f}"
    return f"{row['peak_mb']:,.0f}{other}"


def target(row: Row) -> str:
    """In words, and whether it is met."""
    if not row["target"]:
        return "–"
    return f"{row['target']}: {'met' if row['met'] else '**missed**'}"


def slower(row: Row) -> bool:
    """Whether a peer took less time than ours at the median round, by the clock."""
    return bool(row["peer"] and row["wall"] and row["wall"][0] > 1)


def shortfall(row: Row) -> str:
    """What is missed, as a sentence; empty where nothing is."""
    if not slower(row) and row["met"] is not False:
        return ""
    measured = ratio(row["wall"]) if row["wall"] else seconds(row["seconds"])
    beside = f" of {row['beside']}" if row["beside"] else ""
    by_processor = f", {ratio(row['processor'])} by processor time" if row["processor"] else ""
    wanted = f"; the target is {row['target']}" if row["met"] is False else ""
    lead = f"slower than {row['beside']}" if slower(row) else "misses its target"
    return f"{row['what']} ({row['arm']}): {lead}: {measured}{beside} by the clock{by_processor}{wanted}."
