"""What a unit did on the reader's own text, in words, beside what the run recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.live import Answer, Unit
from ui.words import code, count, percent, plain, value

COUNTED = "special tokens count, as in the run"
_SAME = 1e-4
"""Two largest activations this close (relatively) are called equal: batches of another shape round differently."""


def verdict(answer: Answer, unit: Unit, recorded: Mapping[str, Any], noun: str = "neuron", counted: str = COUNTED) -> str:
    """Density and largest activation in this text beside those of the run, as Markdown."""
    if unit.density is None or unit.max is None or unit.peak is None:
        return f"The text has {count(len(answer.tokens), 'token')}, and none of them reached this {noun}."
    first = f"**Active on {unit.n_active} of {count(unit.n_seen, 'token')} ({percent(unit.density)})**"
    if recorded.get("density") is not None:
        first += f", in the run on {percent(recorded['density'])} of {count(int(recorded['n_tokens']), 'token')}"
    second = f"Largest activation: **{value(unit.max)}** on {code(answer.tokens[unit.peak])} (token {unit.peak})"
    known = recorded.get("max")
    if known is not None:
        close = abs(unit.max - known) <= _SAME * max(abs(unit.max), abs(known))
        words = "as large as" if close else "**larger than**" if unit.max > known else "below"
        second += f", {words} the largest of the run, {value(known)}"
    return f"{first}. {second}. Active means {plain(unit.rule)}; {counted}."
