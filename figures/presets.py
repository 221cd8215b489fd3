"""How wide a figure is and how large its letters are, for where it will stand: columns of conferences, a thesis, slides.

A page is exactly as wide as the preset says and is never cropped afterwards, so that ``\\includegraphics`` without a width sets it
at 100 % and 8 pt in the figure are 8 pt on the page. Widths, as read in the style files:

- ICML: ``\\textwidth`` 6.75 in, ``\\columnsep`` 0.25 in (icml2025.sty), so columns of 3.25 in. Times.
- NeurIPS: ``textwidth=5.5in`` (neurips_2025.sty), one column; *half* is one of two figures side by side, 0.1 in apart. Times.
- ICLR: ``\\textwidth`` 5.5 in (iclr2025_conference.sty), one column. Times.
- ACL: A4 with margins of 2.5 cm and ``columnsep=0.6cm`` (acl.sty): 16 cm, columns of 7.7 cm. Times.
- Thesis: A4 with margins of 3 cm, 15 cm (ours: every university has its own). Slides: a 16:9 beamer page is 16 cm x 9 cm, less 1 cm on
  both sides and room for the frame's title.
- Plain: 5.5 in without serifs, for notes and posters (ours).

Letters with serifs are STIX, which has the shapes of Times; without, DejaVu Sans. Both come with matplotlib, so that a machine's own
fonts do not matter. No words are smaller than 7 pt; only exponents are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from figures.spec import FigureError

Typeface = Literal["serif", "sans"]
TYPEFACES: tuple[Typeface, ...] = ("serif", "sans")
FONTS: Mapping[Typeface, str] = {"serif": "STIXGeneral", "sans": "DejaVu Sans"}

MM_PER_IN = 25.4
SMALLEST_PT = 7.0
_EM: Mapping[Typeface, float] = {"serif": 0.45, "sans": 0.58}
"""Mean width of a character of a name, in units of the letters' size."""


@dataclass(frozen=True)
class Preset:
    """A place for figures: its width, its letters, and the height that a figure there must not exceed."""

    slug: str
    words: str
    width_mm: float
    typeface: Typeface = "serif"
    label_pt: float = 8.0
    small_pt: float = SMALLEST_PT
    """Of ticks, legends and marks; labels of axes are at ``label_pt``, a title one point larger."""
    tallest_mm: float | None = None

    @property
    def width_in(self) -> float:
        """The width in inches."""
        return self.width_mm / MM_PER_IN

    @property
    def font(self) -> str:
        """The family of fonts, as matplotlib calls it."""
        return FONTS[self.typeface]

    @property
    def character_in(self) -> float:
        """Mean width of a character of a name in small letters, in inches."""
        return _EM[self.typeface] * self.small_pt / 72

    @property
    def line_in(self) -> float:
        """Distance of two lines, or of two upright labels, in small letters, in inches."""
        return self.small_pt * 9 / 7 / 72


def _inches(width: float) -> float:
    return round(width * MM_PER_IN, 4)


PLAIN = Preset("plain", "Plain, 5.5 in wide", _inches(5.5), "sans")

PRESETS: Mapping[str, Preset] = {
    one.slug: one
    for one in (
        PLAIN,
        Preset("icml-single", "ICML, one column", _inches(3.25)),
        Preset("icml-double", "ICML, both columns", _inches(6.75)),
        Preset("neurips", "NeurIPS, text width", _inches(5.5)),
        Preset("neurips-half", "NeurIPS, two side by side", _inches(2.7)),
        Preset("iclr", "ICLR, text width", _inches(5.5)),
        Preset("iclr-half", "ICLR, two side by side", _inches(2.7)),
        Preset("acl-single", "ACL, one column", 77.0),
        Preset("acl-double", "ACL, both columns", 160.0),
        Preset("thesis", "Thesis, A4", 150.0, label_pt=9.0, small_pt=8.0),
        Preset("slides", "Slides, 16:9", 140.0, "sans", label_pt=10.0, small_pt=9.0, tallest_mm=66.0),
    )
}


def find_preset(slug: str, typeface: str | None = None) -> Preset:
    """The preset of that name, with letters of another kind where ``typeface`` names one."""
    if slug not in PRESETS:
        raise FigureError(f"preset must be one of {', '.join(PRESETS)}, got {slug!r}; choose one of them.")
    if typeface is None:
        return PRESETS[slug]
    for one in TYPEFACES:
        if one == typeface:
            return replace(PRESETS[slug], typeface=one)
    raise FigureError(f"typeface must be one of {', '.join(TYPEFACES)}, got {typeface!r}; choose one of them.")
