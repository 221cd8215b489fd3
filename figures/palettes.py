"""Colours, by name. Chosen so that neither colour-blindness, a dark page nor a grey print hides a difference.

- ``qualitative``: the eight of Okabe and Ito (2008, "Color universal design"), black replaced by a grey that also
  shows on a dark page, yellow moved to the end because it is weakest on white.
- ``activity``: the classes dead, rare, undecided, normal, dense, always in the same five colours. Their lightness
  rises in that order (a test computes it), so a grey print keeps the order; undecided is a neutral grey with hatching,
  because it is a lack of knowledge and not a class.
- ``sequential``: cividis (Nunez, Anderton and Renslow 2018), which reads the same with and without red-green vision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from figures.spec import FigureError


@dataclass(frozen=True)
class Ink:
    """How one series is drawn."""

    colour: str
    """``#rrggbb``."""
    hatched: bool = False
    dash: int = 0
    """Index of the line style (solid, dashed, dotted, dash-dotted): a second cue beside the colour."""


N_DASHES = 4

QUALITATIVE: tuple[str, ...] = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")

ACTIVITY: Mapping[str, Ink] = {
    "dead": Ink("#ab3f7d"),
    "rare": Ink("#d9642c"),
    "undecided": Ink("#a0a0a0", hatched=True),
    "normal": Ink("#7cc0e8"),
    "dense": Ink("#ecd654"),
}

SEQUENTIAL: tuple[str, ...] = (
    "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838",
)  # fmt: skip

PALETTES: tuple[str, ...] = ("qualitative", "activity", "sequential")

_PIECES_OF_SEQUENTIAL = (0.05, 0.92)
"""Part of the sequential scale used for lines: its ends vanish on a dark and on a light page."""


def inks(palette: str, names: Sequence[str]) -> tuple[Ink, ...]:
    """One ink per name. Raises `FigureError` for an unknown palette, or a name that is no activity class."""
    if palette == "activity":
        return tuple(_activity(name) for name in names)
    if palette == "qualitative":
        n = len(QUALITATIVE)
        # Past the eighth name colours repeat with hatching, so that a pair is still told apart.
        return tuple(Ink(QUALITATIVE[i % n], hatched=i // n % 2 == 1, dash=(i + i // n) % N_DASHES) for i in range(len(names)))
    if palette == "sequential":
        low, high = _PIECES_OF_SEQUENTIAL
        step = (high - low) / max(1, len(names) - 1)
        return tuple(Ink(colour_at(low + i * step), dash=i % N_DASHES) for i in range(len(names)))
    raise FigureError(f"palette must be one of {', '.join(PALETTES)}, got {palette!r}; choose one of them in the figure's series.")


def _activity(name: str) -> Ink:
    if name not in ACTIVITY:
        raise FigureError(
            f"a series with the palette 'activity' must be one of {', '.join(ACTIVITY)}, got {name!r}; use the palette 'qualitative'."
        )
    return ACTIVITY[name]


def colour_at(share: float) -> str:
    """The colour at ``share`` (0 to 1) of the sequential scale, linear in sRGB between its ten anchors."""
    position = min(max(share, 0.0), 1.0) * (len(SEQUENTIAL) - 1)
    i = min(int(position), len(SEQUENTIAL) - 2)
    low, high = rgb(SEQUENTIAL[i]), rgb(SEQUENTIAL[i + 1])
    mixed = (round(a + (b - a) * (position - i)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{v:02x}" for v in mixed)


def rgb(colour: str) -> tuple[int, int, int]:
    """The three channels, 0 to 255, of a ``#rrggbb`` colour."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def lightness(colour: str) -> float:
    """Perceived lightness CIE L*. Unit: none. Range: 0 (black) to 100 (white). Source: CIE 15 with the sRGB luminance of IEC 61966-2-1."""
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > 216 / 24389 else y * 24389 / 27


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour. Unit: none. Range: 0 (black) to 1 (white). Source: IEC 61966-2-1, as in WCAG 2.2."""
    channels = (c / 255 for c in rgb(colour))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
