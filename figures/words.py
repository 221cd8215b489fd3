"""The words around a figure: labels made safe to show, numbers as text, the caption, the provenance as one line.

Names of models, tensors and tokens come from files and may hold anything. Here characters that move, hide or break
text are made visible; escaping for HTML or for mathematics is left to the renderer that needs it.
"""

from __future__ import annotations

import json
import math
import numbers
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

MAX_LABEL = 28
"""Characters of a label on an axis or in a legend; longer names lose their middle (hovering shows them whole)."""

_SHOWN_AS = {"\n": "↵", "\t": "⇥", "\u2028": "↵", "\u2029": "↵"}
# Direction marks can make one name look like another; they are General_Category Cf, as are harmless joiners.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """``text`` with line ends, control, surrogate and direction characters written out, so that it is one plain line."""
    return "".join(_visible_character(c) for c in text)


def _visible_character(c: str) -> str:
    if c in _SHOWN_AS:
        return _SHOWN_AS[c]
    # U+FFFE and U+FFFF (category Cn) may not stand in XML either.
    if unicodedata.category(c) in ("Cc", "Cs") or c in _DIRECTION or c in "\ufffe\uffff":
        return f"\\u{ord(c):04x}"
    return c


def label(value: Any) -> str:
    """A category's name as shown: text made visible, whole numbers without a point, a missing value named as such."""
    if isinstance(value, str):
        return visible(value)
    if value is None or type(value).__name__ == "NAType" or value != value:  # pandas' NA; only NaN differs from itself
        return "(none)"
    return number(value) if isinstance(value, numbers.Real) else visible(str(value))


def number(value: Any) -> str:
    """A number to four significant digits, whole numbers in full; ``not available`` for a missing one."""
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}" if abs(int(value)) >= 10_000 else str(int(value))
    if math.isnan(value):
        return "not available"
    if float(value).is_integer() and abs(value) < 1e15:
        return number(int(value))
    return f"{float(value):.4g}"


def shorten(text: str, limit: int = MAX_LABEL) -> str:
    """``text`` with its middle replaced by an ellipsis where it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    # Tensor names differ most at their ends: keep two thirds of the room for the tail.
    tail = (limit - 1) * 2 // 3
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def tick_labels(labels: Sequence[str]) -> tuple[list[str], str]:
    """Short labels for the ticks of one axis, and what they have in common, for the axis' title (empty if nothing).

    Where a name is too long, the dotted parts that all names begin or end with are left out, as in ``model.*.weight``:
    they tell nothing apart. What is still too long loses its middle.
    """
    parts = [text.split(".") for text in labels]
    before = after = 0
    if len(labels) > 1 and max(map(len, labels)) > MAX_LABEL:
        spare = min(map(len, parts)) - 1
        while before < spare and len({p[before] for p in parts}) == 1:
            before += 1
        while after < spare - before and len({p[-1 - after] for p in parts}) == 1:
            after += 1
    cut = [".".join(p[before : len(p) - after]) for p in parts]
    common = ".".join([*parts[0][:before], "*", *parts[0][len(parts[0]) - after :]]) if before or after else ""
    return [shorten(text) for text in cut], common


def distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, later ones numbered where an earlier one reads the same, so that no two categories are drawn as one."""
    seen: set[str] = set()
    out: list[str] = []
    for text in labels:
        candidate, copy = text, 1
        while candidate in seen:
            copy += 1
            candidate = f"{text} ({copy})"
        seen.add(candidate)
        out.append(candidate)
    return tuple(out)


def provenance_line(provenance: Mapping[str, Any]) -> str:
    """Provenance as one line of ASCII JSON with sorted keys; values JSON does not know are written as text."""
    return json.dumps(dict(provenance), sort_keys=True, default=str, ensure_ascii=True)


def percent(share: float) -> str:
    """A share between 0 and 1 in per cent, two digits below 1 %: what is tiny but not zero never reads as zero."""
    return f"{100 * share:.2g} %" if 0 < abs(share) < 0.01 else f"{100 * share:.1f} %"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``2,000 tokens``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def moment(when: datetime) -> str:
    """A point in time: ``22 Nov 2026, 12:31 UTC``."""
    return f"{when.day} {when:%b %Y, %H:%M} {when.tzname() or 'local time'}"


def value(anything: Any) -> str:
    """Any stored value as one line of text; what is missing is said in words."""
    if anything is None:
        return "not recorded"
    if isinstance(anything, numbers.Real):
        return number(anything)
    if isinstance(anything, (list, tuple)):
        return ", ".join(value(one) for one in anything) or "none"
    if isinstance(anything, dict):
        return "; ".join(f"{k}: {value(v)}" for k, v in anything.items()) or "none"
    return visible(str(anything))


def tokens_seen(provenance: Mapping[str, Any]) -> int | None:
    """How many tokens the run has seen, where it recorded that."""
    for place in ("facts", "data_facts"):
        found = (provenance.get(place) or {}).get("n_tokens")
        if isinstance(found, int):
            return found
    return None
