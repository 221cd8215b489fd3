"""Numbers, times and foreign text as people read them.

Names of models, files, tokens and settings come from outside, so they never reach Streamlit's Markdown unescaped: `code`
shows them as a code span, `plain` as running text. (`st.text` and `st.code` need neither.)
"""

from __future__ import annotations

import re
from datetime import datetime
from numbers import Real
from typing import Any

from figures.words import number, visible

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_JOINER = "\u2060"
"""Word joiner: invisible, no width. It breaks what Markdown extensions recognise after escapes are resolved."""


def plain(text: Any) -> str:
    """Foreign text as Markdown that shows exactly that text: no link, image, emoji, colour, formula or HTML comes of it.

    Backslashes are not enough: short codes (``:smile:``, ``:red[...]``) and bare addresses are recognised after escapes are
    resolved, so a word joiner is put behind each colon, full stop and at sign that has no space behind it.
    """
    escaped = _PUNCTUATION.sub(r"\\\1", visible(str(text)))
    return re.sub(r"(\\[:.@])(?=\S)", rf"\1{_JOINER}", escaped)


def code(text: Any) -> str:
    """Foreign text as a Markdown code span, fenced by more backticks than it holds in a row."""
    shown = visible(str(text)) or " "
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def percent(share: float) -> str:
    """A share between 0 and 1 in per cent, two digits below 1 %: what is tiny but not zero never reads as zero."""
    return f"{100 * share:.2g} %" if 0 < abs(share) < 0.01 else f"{100 * share:.1f} %"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``2,000 tokens``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A span of time with at most two units: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(when: datetime) -> str:
    """A point in time: ``22 Nov 2026, 12:31 UTC``."""
    return f"{when.day} {when:%b %Y, %H:%M} {when.tzname() or 'local time'}"


def value(anything: Any) -> str:
    """Any stored value as one line of text; what is missing is said in words."""
    if anything is None:
        return "not recorded"
    if isinstance(anything, Real):
        return number(anything)
    if isinstance(anything, (list, tuple)):
        return ", ".join(value(one) for one in anything) or "none"
    if isinstance(anything, dict):
        return "; ".join(f"{k}: {value(v)}" for k, v in anything.items()) or "none"
    return visible(str(anything))
