"""What the script of a bundle does for each kind of figure: plain pandas and matplotlib.

It reads the constants that `figures.redraw` puts above it.
"""

from __future__ import annotations

from collections.abc import Mapping

START = """
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator, NullFormatter

"""

READ = '''
HERE = Path(__file__).resolve().parent
NAMES = {column: str for column in (*PLACES, *([SERIES_COLUMN] if SERIES_COLUMN else []))}  # columns that name things
data = pd.read_csv(HERE / "data.csv", comment="#", converters=NAMES, lineterminator="\\n")
data[LOGARITHMIC] = data[LOGARITHMIC].where(data[LOGARITHMIC] > 0)  # nothing else can be shown on such a scale
plt.rcParams.update(LETTERS)
figure, axes = plt.subplots(figsize=SIZE_IN, layout="constrained")


def along(rows, column):
    """Where the rows stand along an axis: names at 0, 1, 2, ..., numbers where they are."""
    return rows[column].map(PLACES[column]) if column in PLACES else rows[column]


def series():
    """Each series with its rows that can be drawn."""
    for one in SERIES:
        rows = data if SERIES_COLUMN is None else data[data[SERIES_COLUMN] == one["value"]]
        yield one, rows.dropna(subset=NEEDED)

'''

BARS = """
tops = {}
for i, (one, rows) in enumerate(series()):
    x, height = along(rows, X).to_numpy(float), rows[Y].to_numpy(float)
    base = [tops.get(place, 0.0) for place in x] if STACKED else 0.0
    width = BAR_WIDTH if STACKED else BAR_WIDTH / len(SERIES)
    left = x - width / 2 if STACKED else x - BAR_WIDTH / 2 + i * width
    edge = {"edgecolor": "#555555", "linewidth": 0.25 if len(x) <= 100 else 0}
    edge = {"hatch": "/////", "edgecolor": "white", "linewidth": 0} if one["hatched"] else edge
    axes.bar(left, height, width, base, align="edge", color=one["colour"], label=one["name"], **edge)
    tops.update(zip(x, base + height))
"""

HISTOGRAM = """
for one, rows in series():
    look = {"color": one["colour"]} if len(SERIES) == 1 else {"color": (one["colour"], 0.15), "edgecolor": one["colour"], "linewidth": 0.7}
    axes.bar(rows[X], rows[Y], rows[X_END] - rows[X], align="edge", label=one["name"], **look)
"""

LINE = """
for one, rows in series():
    rows = rows.iloc[along(rows, X).argsort(kind="stable")]
    if Y_LOW:
        axes.fill_between(along(rows, X), rows[Y_LOW], rows[Y_HIGH], color=one["colour"], alpha=0.18, linewidth=0)
    look = {"linestyle": one["line"], "linewidth": 1.2} | ({"marker": "o", "markersize": 2.2} if len(rows) <= 40 else {})
    axes.plot(along(rows, X), rows[Y], color=one["colour"], label=one["name"], **look)
"""

COLOURS = """
colours = matplotlib.colors.LinearSegmentedColormap.from_list("sequential", COLOUR_MAP)
scale = (matplotlib.colors.LogNorm if COLOUR_LOG else matplotlib.colors.Normalize)(*COLOUR_LIMITS)
"""

SCATTER = """
for one, rows in series():
    look = {"c": rows[COLOUR], "cmap": colours, "norm": scale} if COLOUR else {"color": one["colour"]}
    drawn = axes.scatter(along(rows, X), rows[Y], s=POINT_SIZE, alpha=0.8, linewidths=0, label=one["name"], **look)
"""

HEATMAP = '''

def edges(centres):
    """Borders of cells half way between their centres."""
    if len(centres) == 1:
        return [centres[0] - 0.5, centres[0] + 0.5]
    between = [(a + b) / 2 for a, b in zip(centres, centres[1:])]
    return [2 * centres[0] - between[0], *between, 2 * centres[-1] - between[-1]]


cells = pd.DataFrame({"x": along(data, X), "y": along(data, Y), "value": data[COLOUR]}).dropna(subset=["x", "y"])
cells = cells.pivot(index="y", columns="x", values="value").sort_index().sort_index(axis=1)
look = {"cmap": colours, "norm": scale, "edgecolors": "face", "linewidth": 0.2}
drawn = axes.pcolormesh(edges(list(cells.columns)), edges(list(cells.index)), cells.to_numpy(float), **look)
'''

TREEMAP = '''

def squarify(sizes, left, top, width, height):
    """Rectangles [left, top, width, height] of these areas that fill a rectangle: Bruls, Huizing, van Wijk 2000."""
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    areas, placed = [sizes[i] / sum(sizes) * width * height for i in order], [None] * len(sizes)

    def worst(row, side):
        return max(side**2 * max(row) / sum(row) ** 2, sum(row) ** 2 / (side**2 * min(row)))

    start = 0
    while start < len(areas):
        side, stop = min(width, height), start + 1
        while stop < len(areas) and worst(areas[start : stop + 1], side) <= worst(areas[start:stop], side):
            stop += 1
        thick, offset = sum(areas[start:stop]) / side, 0.0
        for i in range(start, stop):
            length = areas[i] / thick
            if width >= height:
                placed[order[i]] = [left, top + offset, thick, length]
            else:
                placed[order[i]] = [left + offset, top, length, thick]
            offset += length
        if width >= height:
            left, width = left + thick, max(width - thick, 1e-12)
        else:
            top, height = top + thick, max(height - thick, 1e-12)
        start = stop
    return placed


words = {"fontsize": LETTERS["legend.fontsize"], "path_effects": [Stroke(linewidth=1.2, foreground="white"), Normal()]}
parts = list(series())
total = sum(rows[Y].sum() for _, rows in parts)  # the picture is this wide and 1 high, so that an area is a size
frames = squarify([rows[Y].sum() for _, rows in parts], 0, 0, ASPECT, 1)
for (one, rows), frame in zip(parts, frames):
    boxes = [[a * total / ASPECT, b, c * total / ASPECT, d] for a, b, c, d in squarify(list(rows[Y]), *frame)]
    for (a, b, c, d), value, place in zip(boxes, rows[COLOUR], along(rows, X)):
        axes.add_patch(plt.Rectangle((a, b), c, d, facecolor=colours(scale(value)), edgecolor="white", linewidth=0.3))
        name = SHOWN[int(place)] if SHOWN else ""
        if name and c / total * SIZE_IN[0] > 0.08 * len(name) and d * SIZE_IN[1] > 0.4:  # where there is room for all of it
            axes.text(a + c / 2, b + d / 2, name, ha="center", va="center", **words)
    axes.text(frame[0] * total / ASPECT, frame[1], one["name"], ha="left", va="top", weight="bold", **words)
drawn = matplotlib.cm.ScalarMappable(scale, colours)
axes.set_axis_off()
'''

END = """
axes.set(xscale=X_SCALE, yscale=Y_SCALE, xlim=X_LIMITS, ylim=Y_LIMITS, xlabel=X_LABEL, ylabel=Y_LABEL)
for ticks, axis in ((X_TICKS, axes.xaxis), (Y_TICKS, axes.yaxis)):
    if ticks:
        axis.set_ticks(ticks["at"], labels=ticks["names"], rotation=ticks["rotation"])
        axis.set_minor_formatter(NullFormatter())
for name in WHOLE:  # between whole numbers there is nothing
    getattr(axes, name).set_major_locator(MaxNLocator(integer=True))
if GRID:
    axes.grid(True, axis=GRID, color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
beside = {"xycoords": axes.get_xaxis_transform(), "xytext": (2, -1), "textcoords": "offset points", "va": "top"}
for i, (x, text) in enumerate(MARKS):
    axes.axvline(x, color="#777777", linewidth=0.8, linestyle=":")
    axes.annotate(text, (x, 1 - 0.08 * (i % 4)), fontsize=LETTERS["legend.fontsize"], **beside)
if TITLE:
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=LETTERS["axes.titlesize"], linespacing=1.2)
if COLOUR:
    figure.colorbar(drawn, ax=axes, label=COLOUR_LABEL)
elif SERIES_COLUMN:
    tight = {"handlelength": 1.4, "handletextpad": 0.4, "columnspacing": 0.9, "borderaxespad": 0.1, "borderpad": 0.1}
    figure.legend(title=SERIES_LABEL, loc="outside upper left", ncols=LEGEND_COLUMNS, frameon=False, alignment="left", **tight)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else HERE / "redrawn.pdf")
"""

BODIES: Mapping[str, str] = {
    "stacked_bars": BARS,
    "bars": BARS,
    "histogram": HISTOGRAM,
    "line": LINE,
    "scatter": COLOURS + SCATTER,
    "heatmap": COLOURS + HEATMAP,
    "treemap": COLOURS + TREEMAP,
}
