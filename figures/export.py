"""One figure into one file, by suffix, with its words and its provenance inside.

PDF, SVG, PNG and PGF in the size and letters of a `figures.presets.Preset`; HTML to click in; CSV and Parquet of its rows; a LaTeX table
where they are few. A file appears whole or not at all: it is written under a temporary name in the same folder and then renamed.
The same figure gives the same bytes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import paper, screen
from figures.captions import latex_caption, origin
from figures.frames import csv_bytes, parquet_bytes
from figures.latex import table
from figures.prepared import caption
from figures.presets import PLAIN, Preset
from figures.spec import SUFFIXES, FigureError, FigureSpec


def export(spec: FigureSpec, path: str | os.PathLike[str], provenance: Mapping[str, Any], **look: Any) -> Path:
    """Write the figure to ``path`` in the format its suffix names; ``look`` is what `render` takes.

    Raises `FigureError`, one sentence, if that cannot be done.
    """
    path = Path(path)
    write(path, render(spec, path.suffix.lstrip("."), provenance, **look))
    return path


def render(
    spec: FigureSpec,
    suffix: str,
    provenance: Mapping[str, Any],
    *,
    preset: Preset = PLAIN,
    width_in: float | None = None,
    height_in: float | None = None,
    title: bool = False,
    dpi: int = paper.PNG_DPI,
) -> bytes:
    """The bytes of the file that `export` writes; preset, size and title matter on paper only, ``dpi`` for PNG only."""
    suffix = suffix.lower()
    size: dict[str, Any] = {"preset": preset, "width_in": width_in, "height_in": height_in, "title": title}
    if suffix in paper.FORMATS:
        return paper.render(spec, suffix, provenance, dpi=dpi, **size)
    if suffix == "pgf":
        from figures import pgf

        return pgf.render(spec, **size)
    if suffix == "html":
        return screen.to_html(spec, provenance).encode()
    if suffix == "csv":
        return to_csv(spec, provenance).encode()
    if suffix == "parquet":
        return parquet_bytes(spec.data, (spec.title, *caption(spec)), provenance, headings(spec))
    if suffix == "tex":
        said = latex_caption((*caption(spec), *origin(provenance)), provenance)
        return table(spec.data[list(spec.columns)], headings=headings(spec), caption=said, name=spec.title).encode()
    raise FigureError(f"the file of a figure must end in one of .{', .'.join(SUFFIXES)}, got {suffix!r}; choose one of these endings.")


def to_csv(spec: FigureSpec, provenance: Mapping[str, Any]) -> str:
    """The rows behind the figure as `figures.frames.csv_bytes` writes them, below the title and the caption."""
    return csv_bytes(spec.data, (spec.title, *caption(spec)), provenance).decode()


def headings(spec: FigureSpec) -> dict[str, str]:
    """What the columns that a figure draws are called on its axes, with units."""
    found = {axis.column: axis.title for axis in (spec.colour, spec.y, spec.x) if axis is not None}
    if spec.x_end is not None:
        found |= {spec.x.column: f"{spec.x.title}, from", spec.x_end: f"{spec.x.title}, to"}
    for column, end in ((spec.y_low, "low"), (spec.y_high, "high")):
        found |= {column: f"{spec.y.title}, {end}"} if column is not None else {}
    return found | ({spec.series.column: spec.series.label} if spec.series is not None else {})


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises `FigureError` where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FigureError(
            f"the figure's file must be in a folder that can be written, got {str(path)!r} ({error.strerror}); choose another place."
        ) from error
