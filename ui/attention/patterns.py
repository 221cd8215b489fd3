"""What `head_patterns` says of the heads on the same weights: words that colour and filter the grid; and where it has not been run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.stats.pattern_masks import CLASSES
from analysis.stats.pattern_shapes import SHAPES
from store import Case, Derived, Filter, RunInfo
from ui import data
from ui.links import START_PAGE
from ui.runs import beside, reference_of

PATTERNS, EXAMPLES = "head_patterns", "head_examples"
PLACE = ("layer", "hook_name", "turn")
WORDS: Mapping[str, tuple[str, ...]] = {"shape": SHAPES, "pattern": CLASSES}
"""Columns of words, and the words in their order."""
ABOUT: Mapping[str, str] = {
    "shape": "What the pattern looks like: the first simple shape that holds most of the head's attention. The names are our own.",
    "pattern": "Which of MInference's three classes keeps most of the head's attention in the same number of keys.",
}
NO_WORD = "not looked at"
"""Heads that `head_patterns` passed over: those of cross-attention."""


def patterns_of(run: RunInfo) -> RunInfo | None:
    """The newest `head_patterns` on the same weights."""
    return beside(run, PATTERNS, "head_patterns")


def words_of(patterns: RunInfo, column: str) -> dict[tuple[int, str, int, int], str]:
    """The word of every head, by layer, hook, call and head."""
    frame: Any = data.ask(patterns, "read", "head_patterns", columns=(*PLACE, "head", column))
    keys = zip(*(frame[name].tolist() for name in (*PLACE, "head")), strict=True)
    return dict(zip(keys, frame[column].tolist(), strict=True))


def as_column(patterns: RunInfo, column: str) -> tuple[Derived, ...]:
    """The word as a column of the other run's heads, so that the database filters and sorts by it."""
    together: dict[tuple[Any, ...], list[int]] = {}
    for (*place, head), word in words_of(patterns, column).items():
        together.setdefault((*place, word), []).append(head)
    branches = tuple(
        ((*(Filter(name, "=", value) for name, value in zip(PLACE, place, strict=True)), Filter("head", "in", tuple(heads))), word)
        for (*place, word), heads in together.items()
    )
    return (Case(column, branches, NO_WORD),) if branches else ()


def how_to(run: RunInfo, slug: str, words: str, label: str) -> None:
    """Where an analysis has not been run on a model: what it would show, the way to run it, and the same as a command."""
    st.markdown(words)
    query = {"analysis": slug, "model": reference_of(run)}
    st.page_link(START_PAGE, label=label, icon=":material/play_arrow:", query_params=query)
    st.code(data.command(slug, reference_of(run)), language="bash", wrap_lines=True)
