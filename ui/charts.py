"""A declared figure on the page: the chart, the sentence that says what it shows, its notes, and its export menu."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from analysis.spec import UserError
from figures.spec import FigureError, FigureSpec, NothingToDraw
from store import RunInfo, StoreError
from ui.data import open_store, store_folder
from ui.words import plain

EXPORTS: Mapping[str, tuple[str, str]] = {
    "pdf": ("PDF, for papers", "application/pdf"),
    "svg": ("SVG, to edit", "image/svg+xml"),
    "png": ("PNG, for slides", "image/png"),
    "html": ("HTML, interactive", "text/html"),
    "csv": ("CSV, the numbers", "text/csv"),
}


def show_figure(run: RunInfo, slug: str, title: str) -> None:
    """One figure of a run, or the sentence why it cannot be drawn."""
    try:
        spec, provenance = _spec(store_folder(), run.id, slug)
    except NothingToDraw as error:
        st.markdown(f"## {plain(title)}")
        st.caption(f"Nothing to draw: {plain(error)}")
        return
    except (UserError, StoreError, FigureError) as error:
        st.markdown(f"## {plain(title)}")
        st.warning(f"This figure cannot be drawn: {plain(error)}", icon=":material/warning:")
        return
    show_spec(spec, provenance, name=f"{run.slug}-{slug}", key=f"figure-{slug}")


def show_spec(spec: FigureSpec, provenance: Mapping[str, Any], *, name: str, key: str) -> None:
    """A figure from its spec; ``name`` is what exported files are called, ``key`` tells figures of a page apart."""
    from figures.screen import PLOTLY_CONFIG, to_plotly

    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {plain(spec.title)}")
        export_menu(spec, provenance, name=name, key=key)
    # The colour of text is left to the page, which knows at once when it turns dark; the server would hear of it late.
    st.plotly_chart(to_plotly(spec), config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key)
    st.markdown(plain(spec.sentence))
    for note in spec.notes:
        st.caption(plain(note))


def export_menu(spec: FigureSpec, provenance: Mapping[str, Any], *, name: str, key: str) -> None:
    """A menu of formats; a file is made when it is asked for, not before."""
    with st.popover("Export", icon=":material/download:", type="tertiary", key=f"{key}-export"):
        st.caption("Drawn from the stored numbers, with the provenance inside the file.")
        for suffix, (label, mime) in EXPORTS.items():
            st.download_button(
                label,
                data=partial(_file, spec, suffix, provenance),
                file_name=f"{name}.{suffix}",
                mime=mime,
                key=f"{key}-{suffix}",
                on_click="ignore",
                type="tertiary",
                width="stretch",
            )


def _file(spec: FigureSpec, suffix: str, provenance: Mapping[str, Any]) -> bytes:
    from figures.export import render  # loads matplotlib, so only when a file is asked for

    return render(spec, suffix, provenance)


@st.cache_data(max_entries=64, show_spinner="Drawing from the stored rows …")
def _spec(folder: str, run_id: str, slug: str) -> tuple[FigureSpec, dict[str, Any]]:
    from analysis.drawing import draw

    opened = open_store(folder)
    spec, provenance = draw(opened, opened.find(run_id), slug)
    return spec, dict(provenance)
