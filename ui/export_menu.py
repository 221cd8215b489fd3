"""The menu at a figure: for which place, in which format, or all of it as one zip. A file is made when it is asked for, not before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from figures.latex import MOST_COLUMNS, MOST_ROWS
from figures.pgf import why_not
from figures.presets import PLAIN, PRESETS, find_preset
from figures.spec import FigureSpec

EXPORTS: Mapping[str, tuple[str, str]] = {
    "pdf": ("PDF, for papers", "application/pdf"),
    "svg": ("SVG, to edit", "image/svg+xml"),
    "png": ("PNG, for slides", "image/png"),
    "html": ("HTML, interactive", "text/html"),
    "csv": ("CSV, the numbers", "text/csv"),
    "parquet": ("Parquet, with types", "application/vnd.apache.parquet"),
    "tex": ("LaTeX, a table", "application/x-tex"),
    "pgf": ("PGF, drawn by TeX", "application/x-tex"),
}


def export_menu(spec: FigureSpec, provenance: Mapping[str, Any], *, name: str, key: str) -> None:
    """The menu; ``name`` is what files are called, ``key`` tells menus of a page apart."""
    with st.popover("Export", icon=":material/download:", type="tertiary", key=f"{key}-export"):
        _choices(spec, provenance, name, key)


@st.fragment
def _choices(spec: FigureSpec, provenance: Mapping[str, Any], name: str, key: str) -> None:
    """What is in the menu; another place or a title draws only the menu anew, not the page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        preset = st.selectbox(
            "For", list(PRESETS), format_func=_called, key=f"{key}-preset", width=230, help="Width and letters of PDF, SVG and PNG."
        )
        title = st.toggle("Title above", key=f"{key}-title")
    look = {"preset": preset or PLAIN.slug, "title": title}
    with st.container(horizontal=True, gap="xsmall"):
        _button("Everything, one zip", "zip", "application/zip", partial(_bundle, spec, provenance, name, **look), name, key)
        for suffix, (label, mime) in EXPORTS.items():
            if _can_be(spec, suffix):
                _button(label, suffix, mime, partial(_file, spec, suffix, provenance, **look), name, key)
    st.caption("Drawn from the stored numbers, with the provenance inside. The zip has data, caption, references and a script beside it.")


def _called(slug: str) -> str:
    return PRESETS[slug].words


def _can_be(spec: FigureSpec, suffix: str) -> bool:
    if suffix == "tex":
        return len(spec.data) <= MOST_ROWS and len(spec.columns) <= MOST_COLUMNS
    return suffix != "pgf" or why_not(spec) is None


def _button(label: str, suffix: str, mime: str, make: Any, name: str, key: str) -> None:
    st.download_button(label, make, f"{name}.{suffix}", mime, key=f"{key}-{suffix}", on_click="ignore")


def _file(spec: FigureSpec, suffix: str, provenance: Mapping[str, Any], *, preset: str, title: bool) -> bytes:
    from analysis.gallery import cited  # loads matplotlib, as the next line does, so only when a file is asked for
    from figures.export import render

    return render(spec, suffix, cited(provenance), preset=find_preset(preset), title=title)


def _bundle(spec: FigureSpec, provenance: Mapping[str, Any], name: str, *, preset: str, title: bool) -> bytes:
    from analysis.gallery import cited
    from figures.bundle import bundle

    return bundle(spec, cited(provenance), name=name, preset=find_preset(preset), title=title)
