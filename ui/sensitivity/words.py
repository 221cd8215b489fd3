"""Drop points and what they are worth, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.sensitivity.curve_figures import left_out
from analysis.stats.paired import FEW_DOCUMENTS
from ui.sensitivity.curves import ACCURACY, Curve
from ui.words import count, percent

_TINY = 0.01
_WIDE = 0.03
"""A bracket wider than this is said: adaptive levels are closer than a half of it."""


def answer(curve: Curve, eps: float, metric: str = "loss") -> str:
    """How much may go within a tolerance, with its interval and its denominator; or why there is no such number (foreign text)."""
    if curve.is_point:
        return _pattern(curve)
    drop = curve.drop(eps, metric)
    if drop is None:
        return f"Its run did not ask for the tolerance {eps:g}."
    of = curve.denominator
    limit = _limit(drop)
    if curve.is_patterns:
        share = drop["last_level"] if drop["level"] is None else drop["level"]
        return f"{percent(share)} of {of} may go before {limit}: {drop['words']}; one shot, no fine-tuning"
    if drop["answer"] == "reached":
        drawn = f"; {drop['draws_words']}" if (drop["n_draws"] or 0) > 1 else ""
        return f"{_share(drop)} of {of} may go before {limit}; one shot, no fine-tuning{_between(drop)}{drawn}"
    if drop["answer"] == "not reached":
        return f"Not reached: with up to {percent(drop['last_level'])} of {of} removed, {_limit(drop, 'never ')}; one shot, no fine-tuning"
    if drop["answer"] == "not resolvable":
        return f"Not resolvable: the noise (standard error {_small(drop['stderr'])}) exceeds a third of {eps:g}; measure more documents"
    return f"Fewer than the first level measured may go before {limit}: {drop['words']}"


def _pattern(curve: Curve) -> str:
    rows = curve.of("loss")
    if not len(rows):
        return "A pattern that was not measured."
    row = rows.iloc[-1]
    delta = "is infinite or no number" if row["delta"] != row["delta"] else f"rises by {row['delta']:.3g} {row['unit']}"
    of = "the scope" if curve.is_on_weights else curve.denominator
    return f"A pattern without a continuum, {percent(row['level'])} of {of} removed: the loss {delta}"


def _limit(drop: Mapping[str, Any], never: str = "") -> str:
    if drop["metric"] == ACCURACY:
        return f"accuracy {never}falls by {100 * drop['eps']:g} percentage points"
    return f"the loss {never}rises by {drop['eps']:g} {drop['unit']}"


def _share(drop: Mapping[str, Any]) -> str:
    """``40.2 % [37.9, 42.5]``; the end that is not known in words, and per cent with each number where they are tiny."""
    if drop["low"] is None:
        return f"{percent(drop['level'])} (no interval: one document)"
    ends = [drop["low"], drop["high"]]
    if min(end for end in (*ends, drop["level"]) if end is not None) < _TINY:
        told = ["beyond " + percent(drop["last_level"]) if end is None else percent(end) for end in ends]
    else:
        told = [f"beyond {100 * drop['last_level']:.1f}" if end is None else f"{100 * end:.1f}" for end in ends]
    return f"{percent(drop['level'])} [{told[0]}, {told[1]}]"


def _between(drop: Mapping[str, Any]) -> str:
    """Between which levels an answer was read off, where they lie so far apart that it matters."""
    if drop["below"] is None or drop["above"] is None or drop["above"] - drop["below"] <= _WIDE:
        return ""
    return f" (a straight line between the measured {percent(drop['below'])} and {percent(drop['above'])}: measure levels between for more)"


def _small(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2g}"


def worth(curve: Curve) -> list[str]:
    """What limits the numbers of a run, a sentence each (foreign text)."""
    facts, said = curve.facts, []
    n = facts.get("n_documents_measured")
    few = n if isinstance(n, int) and n < FEW_DOCUMENTS else 0
    if few:
        said.append(f"Only {count(few, 'document')}: fewer than {FEW_DOCUMENTS}, so the intervals themselves are rough.")
    floor = facts.get("noise_floor")
    if isinstance(floor, (int, float)):
        said.append(
            "Noise floor: measured a second time, the dense model gave exactly the same loss for every document."
            if floor == 0
            else f"Noise floor: measured a second time, the dense model's loss of a document changed by at most {floor:.2g}."
        )
    notes = [part for row in curve.run.summaries.get("drop_points", ()) if row["note"] for part in row["note"].split("; ")]
    if few:
        notes = [one for one in notes if not one.startswith("rough interval")]  # it says the same
    said += left_out(facts)
    return said + [f"{one[:1].upper()}{one[1:].rstrip('.')}." for one in dict.fromkeys(notes)]


def scope_words(members: int, weights: int, skipped: int, skipped_weights: int) -> str:
    """What was in scope and what was left alone."""
    return (
        f"{count(weights, 'weight')} of {count(members, 'tensor')} may be removed. Left alone: {count(skipped_weights, 'parameter')} "
        f"of {count(skipped, 'tensor')}, which says nothing about how robust they are."
    )


def so_far(rows: Any, tolerances: Sequence[float]) -> str:
    """Of a curve that is not finished: the measured levels, and up to which the loss stays within a tolerance. No drop point."""
    levels, worst = rows["level"].tolist(), rows["delta"].cummax().tolist()
    said = f"{count(len(levels), 'level')} measured, up to {percent(max(levels))}"
    for eps in tolerances:
        within = [level for level, delta in zip(levels, worst, strict=True) if delta <= eps]
        if within and len(within) < len(levels):
            said += f"; within {eps:g} up to {percent(max(within))}"
    return f"{said}."
