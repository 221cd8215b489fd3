"""Numbers, times and foreign text as people read them.

Names of models, files, tokens and settings come from outside, so they never reach Streamlit's Markdown unescaped: `code`
shows them as a code span, `plain` as running text. (`st.text` and `st.code` need neither.)
"""

from __future__ import annotations

import re
from typing import Any

from figures.words import count as count
from figures.words import moment as moment
from figures.words import number, visible
from figures.words import percent as percent
from figures.words import value as value

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


def short(value: Any) -> str:
    """A number for a small table; what could not be had in words."""
    return "not available" if value is None else number(value)


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
