"""Figures on paper: a spec drawn with matplotlib to the exact size asked for, as PDF, SVG or PNG.

Vector, without a browser, on a white page whose width and letters a `figures.presets.Preset` gives. The same spec gives the same
bytes: no date is written, the names inside an SVG are seeded, and the typefaces come with matplotlib.

- PDF embeds the letters used as TrueType (type 42): text can be searched, and publishers refuse type 3.
- SVG holds letters as outlines. matplotlib cannot embed a font in an SVG, and text that only names a font changes its
  look and width wherever that font is missing; outlines look the same everywhere. For screen readers and search the
  words are also in ``<title>``, ``<desc>`` and ``<metadata>``.
- PNG has 300 dots per inch unless asked for others.
- PGF is text that TeX sets in the paper's own letters; it needs a TeX engine here too, which measures the words (`figures.pgf`).
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from figures.paper_layout import finish, natural_height
from figures.paper_marks import MARKS, SERIES
from figures.prepared import caption, prepare
from figures.presets import FONTS, PLAIN, Preset
from figures.spec import FigureError, FigureSpec
from figures.words import provenance_line, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 300
LEAST_DPI, MOST_DPI = 30, 1200
SMALLEST_IN, LARGEST_IN = 1.0, 40.0
FORMATS = ("pdf", "svg", "png")

# matplotlib keeps its settings, font cache and formula parser per process and promises no thread safety.
_LOCK = threading.RLock()

_SETTINGS: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "sparsescope",
    "hatch.linewidth": 0.7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    # Every vertex of a curve is kept: what the file shows is what was stored.
    "path.simplify": False,
}


def letters(preset: Preset) -> dict[Any, Any]:
    """The settings of matplotlib for a preset's letters."""
    small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    return {
        # A character that the first family lacks is drawn in the second.
        "font.family": [preset.font, *(font for font in FONTS.values() if font != preset.font)],
        "mathtext.fontset": "stix" if preset.typeface == "serif" else "dejavusans",
        "font.size": preset.label_pt,
        "axes.labelsize": preset.label_pt,
        "axes.titlesize": preset.label_pt + 1,
    } | dict.fromkeys(small, preset.small_pt)


@contextmanager
def our_settings(preset: Preset) -> Iterator[Any]:
    """Defaults of matplotlib plus ours, whatever a user's configuration file says; one drawing at a time. Yields the settings."""
    import matplotlib

    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS | letters(preset))
        yield matplotlib.rcParams


def to_matplotlib(
    spec: FigureSpec,
    *,
    preset: Preset = PLAIN,
    width_in: float | None = None,
    height_in: float | None = None,
    title: bool = False,
) -> Figure:
    """The figure for matplotlib, exactly as wide as the preset, or ``width_in``; without ``height_in`` as high as its content needs.

    Written out by `render`, which also sets fonts and provenance. Raises `FigureError` for a spec that cannot be drawn.
    """
    from matplotlib.figure import Figure

    for what, size in (("width_in", width_in), ("height_in", height_in)):
        if size is not None and not SMALLEST_IN <= size <= LARGEST_IN:
            raise FigureError(f"{what} must be between {SMALLEST_IN:g} and {LARGEST_IN:g} inches, got {size!r}; choose another size.")
    prepared = prepare(spec)
    width = preset.width_in if width_in is None else width_in
    with our_settings(preset):
        height = natural_height(prepared, width, title, preset) if height_in is None else height_in
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        handles = MARKS[spec.kind](axes, prepared)
        finish(figure, axes, prepared, handles, title, preset)
    return figure


def render(
    spec: FigureSpec,
    file_format: str,
    provenance: Mapping[str, Any],
    *,
    preset: Preset = PLAIN,
    width_in: float | None = None,
    height_in: float | None = None,
    title: bool = False,
    dpi: int = PNG_DPI,
) -> bytes:
    """The bytes of a ``pdf``, ``svg`` or ``png`` file, with the caption and the provenance in its metadata."""
    if file_format not in FORMATS:
        raise FigureError(f"the format on paper must be one of {', '.join(FORMATS)}, got {file_format!r}; choose one of them.")
    if not LEAST_DPI <= dpi <= MOST_DPI:
        raise FigureError(f"dpi must be between {LEAST_DPI} and {MOST_DPI}, got {dpi!r}; 300 is what printers ask for.")
    figure = to_matplotlib(spec, preset=preset, width_in=width_in, height_in=height_in, title=title)
    name, said, origin = visible(spec.title), " ".join(map(visible, caption(spec))), provenance_line(provenance)
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": name, "Subject": said, "Keywords": origin, "Creator": "Sparsescope", "CreationDate": None},
        "svg": {"Title": name, "Description": said, "Keywords": [origin], "Creator": "Sparsescope", "Date": None},
        "png": {"Title": name, "Description": said, "Provenance": origin, "Software": "Sparsescope"},
    }
    # What is rasterised inside a vector file keeps its 300 dots, whatever is asked of a PNG.
    dots = dpi if file_format == "png" else PNG_DPI
    out = io.BytesIO()
    with our_settings(preset):
        figure.savefig(out, format=file_format, dpi=dots, metadata=metadata[file_format])
    return _described(out.getvalue(), said) if file_format == "svg" else out.getvalue()


def _described(svg: bytes, said: str) -> bytes:
    """The SVG with ``<desc>``, which screen readers read out, before matplotlib's ``<metadata>``."""
    return svg.replace(b"<metadata>", f"<desc>{escape(said)}</desc>\n <metadata>".encode(), 1)


def shown_numbers(figure: Figure) -> list[list[float]]:
    """The numbers a figure shows, one list per series, read back from its artists; for tests against `figures.screen`."""
    from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    series: dict[int, list[float]] = {}
    for artist in figure.axes[0].get_children():
        mark = artist.get_gid()
        if mark is None:
            continue
        if isinstance(artist, Rectangle):
            values = np.array([artist.get_height()])
        elif isinstance(artist, Line2D):
            values = np.asarray(artist.get_ydata(), dtype=float)
        elif isinstance(artist, PolyCollection):  # of a treemap: a size is the area of its rectangle
            corners = [np.asarray(path.vertices) for path in artist.get_paths()]
            values = np.array([np.ptp(at[:, 0]) * np.ptp(at[:, 1]) for at in corners])
        elif isinstance(artist, PathCollection):
            values = np.asarray(artist.get_offsets())[:, 1]
        else:
            assert isinstance(artist, QuadMesh)
            values = np.ma.asarray(artist.get_array()).filled(np.nan).ravel()
        series.setdefault(int(mark.removeprefix(SERIES)), []).extend(values[~np.isnan(values)].tolist())
    return [series[i] for i in sorted(series)]
