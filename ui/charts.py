"""A declared figure on the page: the chart, the sentence that says what it shows, its notes, and its export menu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis.spec import UserError
from figures.spec import FigureError, FigureSpec, NothingToDraw
from store import RunInfo, StoreError
from ui.data import open_store, store_folder
from ui.export_menu import export_menu
from ui.words import plain

__all__ = ["clickable", "export_menu", "show_figure", "show_spec"]


def show_figure(run: RunInfo, slug: str, title: str) -> None:
    """One figure of a run, or the sentence why it cannot be drawn."""
    try:
        spec, provenance = _spec(store_folder(), run.id, slug)
    except NothingToDraw as error:
        st.markdown(f"## {plain(title)}")
        st.caption(f"Nothing to draw: {plain(error)}")
        return
    except (UserError, StoreError, FigureError) as error:
        _undrawn(title, error)
        return
    show_spec(spec, provenance, name=f"{run.slug}-{slug}", key=f"figure-{slug}")


def show_spec(spec: FigureSpec, provenance: Mapping[str, Any], *, name: str, key: str) -> None:
    """A figure from its spec; ``name`` is what exported files are called, ``key`` tells figures of a page apart."""
    from figures.screen import PLOTLY_CONFIG, to_plotly

    try:
        figure = to_plotly(spec)
    except FigureError as error:
        _undrawn(spec.title, error)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"## {plain(spec.title)}")
        export_menu(spec, provenance, name=name, key=key)
    # The colour of text is left to the page, which knows at once when it turns dark; the server would hear of it late.
    st.plotly_chart(figure, config=dict(PLOTLY_CONFIG), alt=spec.sentence, key=key)
    st.markdown(plain(spec.sentence))
    for note in spec.notes:
        st.caption(plain(note))


def _undrawn(title: str, error: Exception) -> None:
    st.markdown(f"## {plain(title)}")
    st.warning(f"This figure cannot be drawn: {plain(error)}", icon=":material/warning:")


def clickable(spec: FigureSpec) -> Any:
    """The map with an unseen point on every cell: a page hears of clicks on points only."""
    import plotly.graph_objects as go

    from figures.screen import to_plotly

    figure: Any = to_plotly(spec)
    [heat] = figure.data
    places = [(x, y, text, row[0]) for y, texts, rows in zip(heat.y, heat.hovertext, heat.customdata, strict=True)
              for x, text, row in zip(heat.x, texts, rows, strict=True) if row[0] >= 0]  # fmt: skip
    xs, ys, texts, rows = (list(column) for column in zip(*places, strict=True))
    heat.hoverinfo = "skip"
    unseen = {"marker": {"opacity": 0}}
    marker = {"symbol": "square", "size": 18, "opacity": 0}
    common = {"hovertext": texts, "hoverinfo": "text", "showlegend": False, "selected": unseen, "unselected": unseen}
    figure.add_trace(go.Scatter(x=xs, y=ys, customdata=[[row] for row in rows], mode="markers", marker=marker, **common))
    figure.update_layout(height=max(360, 120 + 26 * len(set(ys))), hoverdistance=-1, margin={"t": 10})
    return figure


@st.cache_data(max_entries=64, show_spinner="Drawing from the stored rows …")
def _spec(folder: str, run_id: str, slug: str) -> tuple[FigureSpec, dict[str, Any]]:
    from analysis.drawing import draw

    opened = open_store(folder)
    spec, provenance = draw(opened, opened.find(run_id), slug)
    return spec, dict(provenance)


def row_clicked(points: Sequence[Any]) -> int | None:
    """The row of the first point of a click that stands for one."""
    for point in points:
        row = point.get("customdata")
        if row is not None:
            return int(row[0] if isinstance(row, (list, tuple)) else row["0"] if isinstance(row, dict) else row)
    return None
