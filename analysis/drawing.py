"""A figure of a sealed run as a spec: from stored rows alone, for pages and the command line alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import find_analysis
from figures.spec import FigureSpec
from store import RunInfo, Store


def draw(store: Store, info: RunInfo, slug: str) -> tuple[FigureSpec, Mapping[str, Any]]:
    """The spec of one declared figure and the run's provenance."""
    figure = find_analysis(info.slug).figure(slug)
    provenance = store.provenance(info)
    rows = store.read(info, figure.table, columns=list(figure.columns) or None)
    return figure.draw(rows, provenance), provenance
