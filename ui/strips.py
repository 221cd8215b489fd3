"""Token strips: texts with the activation of every token as its colour, beside a histogram that a token's value is marked on;
or with where each token looks, and who looks at it.

A v2 component that builds its page out of text nodes only, so tokens of any content are shown and never run. Hovering a token, or
walking along a strip with the arrow keys, tells its value and draws it on the histogram.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from streamlit.components.v2 import component

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Strip:
    """One example: tokens, and the activation of each."""

    tokens: tuple[str, ...]
    values: tuple[float | None, ...]
    """In units of ``unit``; None where no activation was kept for the token."""
    unit: float
    """What 1 in ``values`` stands for."""
    peak: int
    """Index of the token the example was chosen for."""
    value: float
    """The activation there, exactly."""
    where: str
    """Where the text comes from."""
    words: str
    """What a screen reader says of the strip."""
    first: int = 0
    """Position of the first token in its window."""
    rough: bool = True
    """Whether ``values`` are rounded."""
    cut_before: bool = False
    cut_after: bool = False
    looks: tuple[tuple[tuple[int, float], ...] | None, ...] | None = None
    """Of each token where it looks: pairs of a token's index and its share of the attention, largest first; None for a token of which
    nothing was kept. Pointing at a token then shows both directions, and a click holds it. None: a strip of activations."""
    looked_at: tuple[str, ...] = ()
    """The tokens that ``looks`` points to, where they are of another sequence; empty where they are ``tokens``."""


@dataclass(frozen=True)
class Group:
    """Examples that were chosen alike."""

    title: str
    about: str
    examples: tuple[Strip, ...]


@dataclass(frozen=True)
class Histogram:
    """Bars ``(low, high, count, holds zero)`` of counts above 0, to be drawn on a log scale."""

    title: str
    label: str
    sentence: str
    bars: tuple[tuple[float, float, int, bool], ...]
    low: float
    high: float
    most: int
    ticks: tuple[float, ...]
    counts: tuple[tuple[int, str], ...]
    """Counts at which a line is drawn, each with its words."""
    lines: tuple[float, ...] = ()
    """Values at which a dashed line stands: a threshold."""
    notes: tuple[str, ...] = ()


_component = component(
    "sparsescope_strips",
    html='<div class="root"></div>',
    css=(_HERE / "strips.css").read_text(encoding="utf-8"),
    js=(_HERE / "strips.js").read_text(encoding="utf-8"),
)


def show_strips(groups: Sequence[Group], histogram: Histogram | None, *, scale: float, key: str, breaks: bool = False) -> None:
    """Draw them. ``scale`` is the magnitude that gets the full colour; ``breaks`` draws line ends as lines."""
    shown = [asdict(group) for group in groups]
    lowest = min((one.value for group in groups for one in group.examples), default=0.0)
    texts = [token for group in groups for one in group.examples for token in (*one.tokens, *one.looked_at)]
    data = {
        "groups": shown,
        "histogram": asdict(histogram) if histogram else None,
        "scale": scale,
        "lowest": lowest,
        "breaks": breaks,
        "looks": any(one.looks is not None for group in groups for one in group.examples),
        # A word-piece vocabulary holds no spaces: its words are set apart by the page.
        "pieces": any(text.startswith("##") for text in texts) or (len(texts) > 1 and not any(" " in text for text in texts)),
    }
    # Encoded here and not by Streamlit: what is not JSON would reach the page as the text of a Python object.
    _component(data=json.loads(json.dumps(data, allow_nan=False)), key=key)
