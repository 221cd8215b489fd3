"""The sparsity bar code of a model: layers from left to right, a row per declared measure, one small picture.

An SVG of rectangles, drawn from what the catalogue keeps and shown as an image, so nothing in it can run. The height of a bar
is its value over the highest of its row: how layers differ. Its colour is the value, on a scale that all models share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.headlines import place, stripes
from analysis.spec import Analysis, Stripe
from figures.palettes import SEQUENTIAL, colour_at
from figures.words import number
from store import RunInfo
from ui.words import percent

_TEXT, _BARS, _GAP, _FOOT = 14, 20, 9, 14
"""Pixels of a row: its name and range, its bars, and the room below; and of the line with the numbers of the layers."""
_SMALLEST = 0.08
"""Height of a bar of value 0, as a share of the row: it must still be seen."""
# In an image, the colour scheme is that of the page around it: the text follows it, the bars stay.
_STYLE = "text{font:12px system-ui,sans-serif;fill:#4c5663}.end{text-anchor:end}@media(prefers-color-scheme:dark){text{fill:#aab4c0}}"

Row = tuple[Stripe, Mapping[int, float]]


@dataclass(frozen=True)
class BarCode:
    """A picture, and the same in words."""

    svg: str
    words: str


def bar_code(runs: Iterable[RunInfo]) -> BarCode | None:
    """Of the given runs of one model; None where none of them has a number per layer."""
    rows = [row for run in runs for row in stripes(run)]
    if not rows:
        return None
    n_layers = 1 + max(max(values) for _, values in rows)
    told = [f"{stripe.label} {range_words(stripe, values.values())}" for stripe, values in rows]
    return BarCode(_svg(rows, n_layers), f"Bar code over {n_layers} layers, lowest to highest value of each row: {'; '.join(told)}.")


def legend_rows(analyses: Iterable[Analysis]) -> list[tuple[str, str]]:
    """Every row there can be: its name, and what it means with the ends of its scale."""
    return [(stripe.label, f"{stripe.meaning}; {_scale_words(stripe)}") for one in analyses for stripe in one.stripes]


def legend_svg() -> str:
    """The colour scale, low to high."""
    stops = "".join(f'<stop offset="{i / (len(SEQUENTIAL) - 1):.3f}" stop-color="{c}"/>' for i, c in enumerate(SEQUENTIAL))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="260" height="16"><defs><linearGradient id="g">{stops}</linearGradient></defs>'
        '<rect width="260" height="16" rx="3" fill="url(#g)"/></svg>'
    )


def range_words(stripe: Stripe, values: Iterable[float]) -> str:
    """``12.1 % to 28.3 %``, lowest to highest; one number where they are the same."""
    shown = list(values)
    low, high = (_shown(stripe, one) for one in (min(shown), max(shown)))
    return low if low == high else f"{low} to {high}"


# ---------------------------------------------------------------------------------------------------------------------


def _shown(stripe: Stripe, value: float) -> str:
    return percent(value) if stripe.unit == "share" else number(round(value, 2))


def _scale_words(stripe: Stripe) -> str:
    kind = "logarithmic scale" if stripe.log else "scale"
    less = " or less" if stripe.log else ""
    return f"{kind} from {_shown(stripe, stripe.low)}{less} to {_shown(stripe, stripe.high)}"


def _svg(rows: Sequence[Row], n_layers: int) -> str:
    """Bars as wide as the picture, however wide that is; text of one size."""
    step = _TEXT + _BARS + _GAP
    height = len(rows) * step - _GAP + _FOOT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}"><style>{_STYLE}</style>']
    for i, (stripe, values) in enumerate(rows):
        y, spread = i * step, range_words(stripe, values.values())
        parts.append(f'<text x="0" y="{y + 10}">{stripe.label}</text><text class="end" x="100%" y="{y + 10}">{spread}</text>')
        parts.append(f'<svg y="{y + _TEXT}" width="100%" height="{_BARS}" viewBox="0 0 {n_layers} 1" preserveAspectRatio="none">')
        parts.append(f'<rect width="{n_layers}" height="1" fill="#808890" fill-opacity=".15"/>')
        highest = max(values.values()) or 1.0
        parts += [_bar(layer, value / highest, colour_at(place(stripe, value))) for layer, value in sorted(values.items())]
        parts.append("</svg>")
    last = "" if n_layers == 1 else f'<text class="end" x="100%" y="{height - 2}">layer {n_layers - 1}</text>'
    return "".join([*parts, f'<text x="0" y="{height - 2}">layer 0</text>', last, "</svg>"])


def _bar(layer: int, share: float, colour: str) -> str:
    tall = _SMALLEST + (1 - _SMALLEST) * share
    return f'<rect x="{layer}.03" y="{1 - tall:.3f}" width=".94" height="{tall:.3f}" fill="{colour}"/>'
