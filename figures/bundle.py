"""A bundle: all that a paper needs of one figure or table, as a folder of files or as one zip. Equal bytes for equal figures.

``figure.*`` in the formats chosen, ``data.csv``, ``provenance.json``, ``caption.txt``, ``caption.tex``, ``references.bib``, and
``make_figure.py``, which redraws the figure from ``data.csv`` without this program.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from figures import bibliography
from figures.captions import caption_latex, caption_text
from figures.export import render, to_csv
from figures.paper import PNG_DPI
from figures.presets import PLAIN, Preset
from figures.redraw import script
from figures.spec import SUFFIXES, FigureError, FigureSpec

DEFAULT_FORMATS: tuple[str, ...] = ("pdf", "svg", "png")
_LATEX_TAKES = ("pgf", "pdf", "png")
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first date a zip can hold: the time of making one must not change its bytes."""


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """The formats, each once, in the usual order. Raises `FigureError` for an unknown one or none."""
    asked = {one.strip().lower().lstrip(".") for one in formats if one.strip()}
    if unknown := sorted(asked - set(SUFFIXES)):
        raise FigureError(f"formats must be of {', '.join(SUFFIXES)}, got {', '.join(unknown)}; choose from these.")
    if not asked:
        raise FigureError(f"formats must name at least one of {', '.join(SUFFIXES)}, got none; choose one.")
    return tuple(one for one in SUFFIXES if one in asked)


def figure_files(
    spec: FigureSpec,
    provenance: Mapping[str, Any],
    *,
    name: str,
    formats: Iterable[str] = DEFAULT_FORMATS,
    preset: Preset = PLAIN,
    title: bool = False,
    dpi: int = PNG_DPI,
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """What is drawn and said of a figure, by name of the file, and a sentence for every format that it cannot be had in.

    Raises `FigureError` where the figure cannot be drawn at all.
    """
    data = to_csv(spec, provenance).encode()
    files: dict[str, bytes] = {}
    left_out = []
    for suffix in check_formats(formats):
        if suffix == "csv":
            continue
        try:
            files[f"figure.{suffix}" if suffix != "parquet" else "data.parquet"] = render(
                spec, suffix, provenance, preset=preset, title=title, dpi=dpi
            )
        except FigureError as error:
            if suffix not in ("pgf", "tex", "parquet"):
                raise
            left_out.append(f"{suffix}: {error}")
    if "figure.tex" in files:
        files["table.tex"] = files.pop("figure.tex")
    files |= {"data.csv": data, "make_figure.py": script(spec, data, preset=preset, title=title).encode()}
    picture = next((f"figure.{suffix}" for suffix in _LATEX_TAKES if f"figure.{suffix}" in files), None)
    files["caption.txt"] = caption_text(spec, provenance).encode()
    files["caption.tex"] = caption_latex(spec, provenance, file=picture, name=name, preset=preset).encode()
    return files, tuple(left_out)


def bundle(spec: FigureSpec, provenance: Mapping[str, Any], *, name: str, **look: Any) -> bytes:
    """One figure as a zip; ``look`` is what `figure_files` takes."""
    return zipped(figure_files(spec, provenance, name=name, **look)[0] | origin_files(provenance))


def origin_files(provenance: Mapping[str, Any]) -> dict[str, bytes]:
    """Where the numbers come from, for programs, and what to cite."""
    record = json.dumps(dict(provenance), indent=2, sort_keys=True, default=str, ensure_ascii=False)
    return {"provenance.json": f"{record}\n".encode(), "references.bib": bibliography.references(provenance).bibtex.encode()}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The files as one zip, in the order of their names, dated 1980."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, _EARLIEST)
            about.external_attr = 0o644 << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, files[name])
    return out.getvalue()
