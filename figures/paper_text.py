"""Names as matplotlib draws them: as they are written, in letters that come with matplotlib."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from figures.latex import escape
from figures.presets import FONTS
from figures.words import visible

_FOR_TEX: ContextVar[bool] = ContextVar("for_tex", default=False)


@contextmanager
def for_tex() -> Iterator[None]:
    """Within, words are what TeX must be given: a name must not reach it as a command. What matplotlib writes itself is TeX already."""
    before = _FOR_TEX.set(True)
    try:
        yield
    finally:
        _FOR_TEX.reset(before)


def words(text: str) -> str:
    """``text`` for matplotlib: dollars are dollars, and a character that no typeface has is written as its code point."""
    if _FOR_TEX.get():
        return escape(text).replace(r"\$", r"\textdollar{}")  # matplotlib takes the backslash off a dollar
    known = _characters()
    drawn = "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in visible(text))
    return drawn.replace("$", r"\$")


@functools.cache
def _characters() -> frozenset[int]:
    """What one typeface lacks is drawn in the other."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(c for font in FONTS.values() for c in get_font(findfont(FontProperties(family=[font]))).get_charmap())
