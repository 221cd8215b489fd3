"""The tree of modules as a treemap, bounded in size, and as rows of a table."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from analysis.models.files import Branch
from figures.words import shorten, visible
from ui.words import count, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEVELS = (1, 2, 3, 4)
MOST_AREAS = 600
"""Areas drawn; a tree with more is cut at the level that still fits, and says so."""
_MOST_ROWS = 5_000
_TONES = ("#4c86b8", "#5b9aa0", "#7a8fc4", "#8aa365", "#b08a56", "#a8799b")
_WHOLE = "#9aa3ad"


@dataclass(frozen=True, slots=True)
class Area:
    """A module in the walk through the tree."""

    place: int
    parent: int
    """Place of the module it is in; -1 for the root."""
    level: int
    path: str
    branch: Branch


def modules_at(root: Branch, depth: int) -> list[tuple[str, Branch]]:
    """``(path, module)`` of every module down to a level, in the order of the file."""
    found: list[tuple[str, Branch]] = []
    waiting = [("", 0, root)]
    while waiting and len(found) < _MOST_ROWS:
        path, level, branch = waiting.pop()
        if level:
            found.append((path, branch))
        if level < depth:
            waiting += [(f"{path}.{one.name}" if level else one.name, level + 1, one) for one in reversed(branch.children)]
    return found


def _by_level(root: Branch) -> Iterator[Area]:
    """Every module, level by level, parents first."""
    level = [Area(0, -1, 0, "", root)]
    place = 1
    while level:
        yield from level
        below = []
        for area in level:
            for one in area.branch.children:
                below.append(Area(place, area.place, area.level + 1, f"{area.path}.{one.name}" if area.level else one.name, one))
                place += 1
        level = below


def treemap(root: Branch) -> tuple[go.Figure | None, str]:
    """The modules by their number of parameters, and in words what is drawn. None where no parameter is in a module.

    A module's area is its share of all parameters (tensors that are tied count once). What belongs to a module itself and to none
    below it is the part of its area that no module below covers.
    """
    root = _first_fork(root)
    areas = list(islice(_by_level(root), MOST_AREAS + 1))
    cut = ""
    if len(areas) > MOST_AREAS:  # a level is drawn whole, unless it is the first
        deepest = max(1, areas[-1].level - 1)
        areas = [area for area in areas[:-1] if area.level <= deepest]
        cut = f", down to level {deepest}"
    areas = [area for area in areas if area.branch.n_parameters or not area.level]
    if len(areas) < 2:
        return None, "No tensor with parameters is in a module of its own, so there is no tree to draw."
    words = f"Area is the number of parameters: {count(root.n_parameters, 'parameter')} in {count(len(areas) - 1, 'module')}{cut}."
    return _drawn(root, areas), words


def _first_fork(root: Branch) -> Branch:
    """The first module down the tree that does not merely hold one other: ``model`` around everything tells nothing."""
    path: list[str] = []
    while len(root.children) == 1 and root.children[0].children and root.children[0].n_tensors == root.n_tensors:
        root = root.children[0]
        path.append(root.name)
    return replace(root, name=".".join(path))


def _drawn(root: Branch, areas: list[Area]) -> go.Figure:
    import plotly.graph_objects as go

    tones = {id(one): _TONES[i % len(_TONES)] for i, one in enumerate(root.children)}
    colours = {0: _WHOLE}
    hover = []
    for area in areas:
        colours[area.place] = tones.get(id(area.branch)) or colours[max(0, area.parent)]
        name = _safe(shorten(visible(area.path), 90)) if area.level else "the whole model"
        n = area.branch.n_parameters
        share = percent(n / root.n_parameters)
        hover.append(f"{name}<br>{count(n, 'parameter')}, {share}<br>{count(area.branch.n_tensors, 'tensor')}")
    treemap = go.Treemap(
        # Positions, not names: two modules may read the same.
        ids=[str(area.place) for area in areas],
        parents=[str(area.parent) if area.level else "" for area in areas],
        labels=[_safe(shorten(visible(area.branch.name))) or "model" for area in areas],
        values=[area.branch.n_parameters for area in areas],
        hovertext=hover,
        hoverinfo="text",
        textinfo="label",
        branchvalues="total",
        marker={"colors": [colours[area.place] for area in areas], "line": {"width": 1}, "depthfade": False},
        maxdepth=4,
        sort=False,
        tiling={"pad": 2},
        pathbar={"thickness": 26},
        textfont={"color": "#0b1016"},
    )
    figure = go.Figure(treemap)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 28, "b": 0}, height=420)
    return figure


def _safe(text: str) -> str:
    """Plotly reads HTML in every text it is given."""
    return html.escape(text, quote=False)
