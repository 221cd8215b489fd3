"""One figure into one file: by suffix PDF, SVG, PNG (300 dpi), HTML or CSV, with its words and its provenance inside.

A file appears whole or not at all: it is written under a temporary name in the same folder and then renamed.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import paper, screen
from figures.prepared import caption
from figures.spec import SUFFIXES, FigureError, FigureSpec
from figures.words import provenance_line, visible


def export(
    spec: FigureSpec,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    *,
    width_in: float = paper.WIDTHS_IN["text"],
    height_in: float | None = None,
    title: bool = False,
) -> Path:
    """Write the figure to ``path`` in the format its suffix names. Raises `FigureError`, one sentence, if that cannot be done."""
    path = Path(path)
    content = render(spec, path.suffix.lstrip("."), provenance, width_in=width_in, height_in=height_in, title=title)
    _write(path, content)
    return path


def render(
    spec: FigureSpec,
    suffix: str,
    provenance: Mapping[str, Any],
    *,
    width_in: float = paper.WIDTHS_IN["text"],
    height_in: float | None = None,
    title: bool = False,
) -> bytes:
    """The bytes of the file that `export` writes; size and title matter on paper only."""
    suffix = suffix.lower()
    if suffix not in SUFFIXES:
        raise FigureError(f"the file of a figure must end in one of .{', .'.join(SUFFIXES)}, got {suffix!r}; choose one of these endings.")
    if suffix == "html":
        return screen.to_html(spec, provenance).encode()
    if suffix == "csv":
        return to_csv(spec, provenance).encode()
    return paper.render(spec, suffix, provenance, width_in=width_in, height_in=height_in, title=title)


def to_csv(spec: FigureSpec, provenance: Mapping[str, Any]) -> str:
    """The rows behind the figure, every digit kept, below comment lines with caption and provenance.

    Read back with ``pandas.read_csv(path, comment="#", float_precision="round_trip")``. Texts are quoted, so that a
    ``#`` in a name is no comment.
    """
    lines = [spec.title, *caption(spec), f"provenance: {provenance_line(provenance)}"]
    out = io.StringIO()
    out.writelines(f"# {visible(line)}\n" for line in lines)
    spec.data.to_csv(out, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return out.getvalue()


def _write(path: Path, content: bytes) -> None:
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
