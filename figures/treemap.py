"""Where the rectangles of a treemap lie: for paper, where nothing else places them (on screen Plotly does, by the same rule)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from figures.prepared import Group, Prepared

Boxes = NDArray[np.float64]
"""[n, 4]: left, top, width, height, downwards."""


def squarify(sizes: Boxes, box: tuple[float, float, float, float]) -> Boxes:
    """Rectangles that fill ``box`` (left, top, width, height), in the order of ``sizes``, with areas in their ratio.

    Unit: that of the box; sizes must be above 0. The largest come first, in rows along the shorter side of what is left; a row
    takes a further one as long as that makes its worst rectangle no longer. Source: Bruls, Huizing, van Wijk, "Squarified
    Treemaps", 2000.
    """
    left, top, width, height = box
    order = np.argsort(-sizes, kind="stable")
    areas = sizes[order] / sizes.sum() * width * height
    placed = np.zeros((len(sizes), 4))
    start = 0
    while start < len(areas):
        side = max(min(width, height), np.finfo(float).tiny)
        stop = start + 1
        while stop < len(areas) and worst(areas[start : stop + 1], side) <= worst(areas[start:stop], side):
            stop += 1
        row = areas[start:stop]
        thick = row.sum() / side
        lengths = row / thick
        before = np.cumsum(lengths) - lengths
        for place, length, offset in zip(order[start:stop], lengths, before, strict=True):
            if width >= height:
                placed[place] = left, top + offset, thick, length
            else:
                placed[place] = left + offset, top, length, thick
        if width >= height:
            left, width = left + thick, max(width - thick, 0.0)
        else:
            top, height = top + thick, max(height - thick, 0.0)
        start = stop
    return placed


def worst(row: Boxes, side: float) -> float:
    """The largest ratio of long to short side in a row of rectangles of these areas along ``side``. Range: 1 (squares) and up."""
    total = float(row.sum())
    return max(side**2 * float(row.max()) / total**2, total**2 / (side**2 * float(row.min())))


def boxes(prepared: Prepared, aspect: float) -> tuple[Boxes, list[tuple[Group, Boxes]]]:
    """The frames of the series, and in each the rectangles of its rows.

    The picture is ``aspect`` wide and 1 high where it is drawn; here it is as wide as the sum of all sizes and 1 high, so that the
    area of a rectangle is its size.
    """
    total = float(sum(group["y"].sum() for group in prepared.groups))
    scale = np.array([total / aspect, 1.0, total / aspect, 1.0])
    frames = squarify(np.array([group["y"].sum() for group in prepared.groups]), (0.0, 0.0, aspect, 1.0))
    inside = [
        (group, squarify(group["y"], (frame[0], frame[1], frame[2], frame[3])) * scale)
        for group, frame in zip(prepared.groups, frames, strict=True)
    ]
    return frames * scale, inside
