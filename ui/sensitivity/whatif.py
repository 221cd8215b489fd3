"""What a level would do: its loss and its cost, between the measured levels by straight lines, saying between which."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import streamlit as st

from figures.words import number
from ui.sensitivity.curves import LOSS, Curve
from ui.words import percent, plain

COSTS = {
    "cost_params": "Parameters left",
    "cost_flops": "FLOPs of a pass",
    "cost_bytes": "Bytes per token, B = 1",
    "cost_bytes_32": "Bytes per token, B = 32",
    "cost_resident": "Bytes held",
}
"""Columns of the cost of a level, and what they are called on the page."""
_THOUSAND = 1000.0


@dataclass(frozen=True)
class Expected:
    """A level on a curve."""

    level: float
    below: float
    above: float
    """Measured levels around it; both itself where it was measured."""
    delta: float | None
    """Loss above dense; None where it is infinite or no number at one of the two."""
    perplexity: float | None
    costs: dict[str, float]
    shares: dict[str, float]
    """Of the dense model's cost."""

    @property
    def is_measured(self) -> bool:
        """Whether it is one of the levels measured."""
        return self.below == self.above


def expected(curve: Curve, level: float) -> Expected:
    """Linear between the two measured levels around ``level``; beyond the last one, that one. Unit of the loss; costs in theirs.

    Perplexity is the exponential of the interpolated loss, not an interpolated perplexity. Range: first to last measured level.
    """
    rows = curve.of(LOSS)
    levels = rows["level"].to_numpy(float)
    level = float(min(max(level, levels[0]), levels[-1]))
    right = int(np.searchsorted(levels, level - 1e-9))
    left = right if abs(levels[right] - level) <= 1e-9 else right - 1
    share = 0.0 if left == right else (level - levels[left]) / (levels[right] - levels[left])

    def between(column: str) -> float:
        one, other = (float(rows[column].iloc[i]) for i in (left, right))
        return one if left == right else one + share * (other - one)

    found = {name: between(name) for name in COSTS if rows[name].notna().all()}
    dense = {name: float(rows[name].iloc[0]) for name in found}
    delta, value = between("delta"), between("value")
    has_perplexity = rows["perplexity"].notna().any() and math.isfinite(value) and value < 700  # noqa: PLR2004 - exp of more overflows
    return Expected(
        level, float(levels[left]), float(levels[right]), delta if math.isfinite(delta) else None,
        math.exp(value) if has_perplexity else None, found, {name: found[name] / dense[name] for name in found if dense[name]},
    )  # fmt: skip


def words(curve: Curve, at: Expected) -> str:
    """Where the numbers come from (foreign text)."""
    if at.is_measured:
        return f"{curve.label} at {percent(at.level)} removed: measured there."
    return (
        f"{curve.label} at {percent(at.level)} removed: not measured, but read off a straight line between the measured levels "
        f"{percent(at.below)} and {percent(at.above)}."
    )


def what_if(curve: Curve) -> None:
    """A slider over the levels of a curve, and what to expect there."""
    rows = curve.of(LOSS)
    last = 100 * float(rows["level"].max())
    st.markdown("### What if")
    what = "Weights removed, %" if curve.is_on_weights else "Removed, %"
    level = st.slider(what, 0.0, last, min(50.0, last), 0.5, format="%.1f %%", key="level", bind="query-params")
    at = expected(curve, level / 100)
    with st.container(horizontal=True):
        shown = "infinite" if at.delta is None else f"{at.delta:+.3g}"
        _metric("Loss above dense", shown, str(rows["unit"].iloc[0]))
        if at.perplexity is not None:
            _metric("Perplexity", number(at.perplexity), f"dense: {number(float(rows['perplexity'].iloc[0]))}")
        for name, cost in at.costs.items():
            _metric(COSTS[name], short(cost), f"{percent(at.shares[name])} of dense" if name in at.shares else None)
    st.caption(plain(" ".join([words(curve, at), *_limits(at), str(curve.facts.get("cost", ""))])))


def _metric(name: str, shown: str, below: str | None) -> None:
    st.metric(name, shown, below, delta_color="off", delta_arrow="off", width="content", border=True)


def _limits(at: Expected) -> list[str]:
    said = ["The loss is infinite or no number at one of the two."] if at.delta is None else []
    if "cost_bytes" not in at.costs:
        said.append("Bytes per token cannot be told: this model keeps no keys and values that could be seen.")
    return said


def short(value: float) -> str:
    """A large number with its prefix: ``134.5 M``."""
    for prefix in ("", " k", " M", " G", " T"):
        if abs(value) < _THOUSAND:
            return f"{value:.4g}{prefix}"
        value /= _THOUSAND
    return f"{value:.4g} P"
