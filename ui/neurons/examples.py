"""A neuron's examples as token strips: which of them are shown, and how much of their text."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from store import RunInfo
from ui.strips import Group, Strip
from ui.words import count

KINDS: dict[str, tuple[str, str]] = {
    "top": ("Top", "Where it is largest: the highest value of each window, repetitions of the same five tokens left out by the run."),
    "quantile": ("Across its range", "Windows of a seeded sample, evenly spread by their highest value: what it does on ordinary text."),
    "bottom": ("Bottom", "Where it is smallest: the lowest value of each window."),
}  # fmt: skip
_SPECIAL = re.compile(r"<\|.*\|>|<(s|/s|pad|unk|bos|eos|mask|cls|sep)>|\[(CLS|SEP|PAD|MASK|UNK)\]", re.IGNORECASE)
_TELLING = 10
"""Thousandths of the strip's largest |a| that a peak must reach to give the strip its scale within 5 %."""
_AROUND = 2
"""Tokens on each side of a peak that make two examples repeats of each other, as in the run's own rule."""


@dataclass(frozen=True)
class Choice:
    """What the toggles say."""

    whole_window: bool = False
    breaks: bool = False
    repeats: bool = False
    special: bool = False


@dataclass(frozen=True)
class Chosen:
    """Examples to draw, and what was left out."""

    groups: tuple[Group, ...]
    scale: float
    hidden_repeats: int
    hidden_special: int
    without_text: bool

    @property
    def words(self) -> str:
        """What the toggles have hidden; empty for nothing."""
        peaks = count(self.hidden_special, "peak on a first or special token", "peaks on a first or special token")
        hidden = [words for n, words in ((self.hidden_repeats, count(self.hidden_repeats, "repeat")), (self.hidden_special, peaks)) if n]
        return f"Hidden: {' and '.join(hidden)}." if hidden else ""


def choose(frame: Any, choice: Choice) -> Chosen:
    """The examples of one neuron (a frame as `queries.examples` reads it), in their groups."""
    groups, hidden = [], {"repeat": 0, "special": 0}
    scale = float(frame["value"].abs().max()) if len(frame) else 0.0
    for kind, (title, about) in KINDS.items():
        seen: set[Hashable] = set()
        strips = []
        for row in frame[frame["kind"] == kind].to_dict("records"):
            reason = _left_out(row, choice, seen)
            if reason:
                hidden[reason] += 1
            else:
                strips.append(_strip(row, choice.whole_window, title))
        if strips:
            groups.append(Group(title, f"{about} {count(len(strips), 'example')}.", tuple(strips)))
    without = bool(len(frame)) and frame["tokens"].isna().all()
    return Chosen(tuple(groups), scale, hidden["repeat"], hidden["special"], bool(without))


def _left_out(row: dict[str, Any], choice: Choice, seen: set[Hashable]) -> str:
    position, tokens = int(row["position"]), _tokens(row)
    if not choice.special and (position == 0 or (tokens and _SPECIAL.fullmatch(tokens[position].strip()))):
        return "special"
    context = tuple(tokens[max(0, position - _AROUND) : position + _AROUND + 1]) or (row["window"], position)
    if not choice.repeats and context in seen:
        return "repeat"
    seen.add(context)
    return ""


def _tokens(row: dict[str, Any]) -> list[str]:
    return list(row["tokens"]) if isinstance(row["tokens"], (list, np.ndarray)) else []


def _strip(row: dict[str, Any], whole: bool, title: str) -> Strip:
    values, first, position = [int(v) for v in row["strip"]], int(row["first"]), int(row["position"])
    tokens = _tokens(row) or [f"position {first + i}" if i == position - first else "·" for i in range(first + len(values))]
    stop = first + len(values)
    start, end = (0, len(tokens)) if whole else (first, stop)
    per_mille = values[position - first]
    # The strip is in thousandths of its largest |a|; the peak's own value, kept exactly, says how much that is.
    # Of a peak below a hundredth of that, rounding leaves too little to say: its neighbours then have no value.
    unit = abs(float(row["value"]) / per_mille) if abs(per_mille) >= _TELLING else 0.0
    shown = tuple(
        float(values[i - first]) if unit and first <= i < stop else float(row["value"]) if i == position else None
        for i in range(start, end)
    )
    where = (
        f"{row['document']}, token {int(row['start']) + position:,}" if row["document"] == row["document"] else f"window {row['window']}"
    )
    return Strip(
        tokens=tuple(tokens[start:end]),
        values=shown,
        unit=unit,
        peak=position - start,
        value=float(row["value"]),
        where=where,
        words=f"{title} example, peak {float(row['value']):.3g}, from {where}",
        first=start,
        cut_before=start > 0,
        cut_after=end < len(tokens),
    )


def left_out_by_run(run: RunInfo) -> str:
    """What the run itself kept from its rankings, in words; empty for nothing."""
    found = (run.provenance.get("facts") or {}).get("left_out_of_rankings") or []
    return f"The run left out of its rankings: {', '.join(map(str, found))}." if found else ""
