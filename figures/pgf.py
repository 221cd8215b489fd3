"""A figure as PGF: commands that TeX draws, with words in the paper's own letters. Needs a TeX engine, which measures the words."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from figures.presets import PLAIN, Preset
from figures.spec import FigureError, FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGINES = ("lualatex", "xelatex", "pdflatex")


def engine() -> str | None:
    """The TeX engine of this machine that PGF is measured with; None where there is none."""
    return next((name for name in ENGINES if shutil.which(name) is not None), None)


def why_not(spec: FigureSpec | None = None) -> str | None:
    """None, or the sentence why there can be no PGF here, or none of this figure."""
    if engine() is None:
        return f"PGF needs a TeX engine to measure its words, got none of {', '.join(ENGINES)} on this machine; install one or take PDF."
    if spec is None:
        return None
    from figures.paper_marks import RASTER_ABOVE

    if len(spec.data) > RASTER_ABOVE:
        return f"a figure as PGF must have at most {RASTER_ABOVE:,} marks, got {len(spec.data):,}; take PDF, which holds them as an image."
    return None


def render(
    spec: FigureSpec, *, preset: Preset = PLAIN, width_in: float | None = None, height_in: float | None = None, title: bool = False
) -> bytes:
    """The PGF file. Raises `FigureError` where `why_not` says why."""
    if (why := why_not(spec)) is not None:
        raise FigureError(why)
    from matplotlib.backends.backend_pgf import FigureCanvasPgf

    from figures.paper import our_settings, to_matplotlib
    from figures.paper_text import for_tex

    with for_tex():
        figure = to_matplotlib(spec, preset=preset, width_in=width_in, height_in=height_in, title=title)
    _all_vector(figure)
    out = io.BytesIO()
    with our_settings(preset) as settings:
        settings.update({"pgf.texsystem": engine(), "pgf.rcfonts": False})
        FigureCanvasPgf(figure).print_pgf(out)
    return out.getvalue()


def _all_vector(figure: Figure) -> None:
    """An image would be a file of its own beside the PGF; the ramp of a colour bar is drawn as rectangles instead."""
    for axes in figure.axes:
        for artist in axes.get_children():
            artist.set_rasterized(False)
