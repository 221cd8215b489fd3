"""The figures of `head_examples`, and the picture of one head's window that its page draws: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw

THUMBNAIL = 8
"""Cells along each side of a head's small picture."""
TOGETHER = 40_000
"""Cells of all small pictures together, at most: places beyond are left out and said so."""
PLACE = ["layer", "hook_name", "turn"]


def draw_kept(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: attention that the stored keys hold."""
    from analysis.attention.figures import heads_map

    known = rows[rows["mass_kept"].notna()]
    mean = known.groupby([*PLACE, "head"], as_index=False)["mass_kept"].mean()
    k = provenance["config"]["top_k"]
    return heads_map(
        mean, provenance, Axis("mass_kept", f"On {k} keys", unit="share of attention", bounds=(0.0, 1.0)), "Attention on the kept keys",
        f"Mean attention of a query on the {k} keys with the largest weights: {_read(provenance)}.",
    )  # fmt: skip


def _read(provenance: Mapping[str, Any]) -> str:
    facts = provenance["facts"]
    return (
        f"{facts['heads']:,} heads of {provenance['model_label']}, {facts['n_windows']:,} windows of {facts['n_documents']:,} documents "
        f"of {provenance['data']}"
    )


def draw_pictures(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The patterns of all heads on the first window in one picture: places from the bottom up, heads from left to right."""
    import numpy as np
    import pandas as pd

    if rows.empty:
        raise NothingToDraw(f"no query of {provenance['model_label']} has a valid key, so there is no pattern to show.")
    window = rows["window"].min()
    first = rows[rows["window"] == window].sort_values([*PLACE, "head"])
    places = list(first.groupby(PLACE, sort=True))
    most = max(1, TOGETHER // (THUMBNAIL**2 * max(len(heads) for _, heads in places)))
    parts = []
    for y, (_, heads) in enumerate(places[:most]):
        for row in heads.itertuples():
            picture = np.sqrt(shrunk(cells_of(row), THUMBNAIL))  # small weights show, too
            at = np.indices(picture.shape)
            up = y * (THUMBNAIL + 1) + THUMBNAIL - 1 - at[0]
            across = int(row.head) * (THUMBNAIL + 1) + at[1]
            name = f"{row.layer}:{row.head}"
            parts.append(pd.DataFrame({"x": across.ravel(), "y": up.ravel(), "value": picture.ravel(), "head": name}))
    left_out = len(places) - len(places[:most])
    return FigureSpec(
        kind="heatmap",
        data=pd.concat(parts, ignore_index=True),
        x=Axis("x", "Keys of each head, heads side by side"),
        y=Axis("y", "Queries of each head, layers from the bottom up"),
        colour=Axis("value", "Square root of attention", bounds=(0.0, 1.0)),
        title="Patterns of all heads",
        sentence=f"Attention of every head on one window (number {window}), each as {THUMBNAIL} x {THUMBNAIL} cells, the first query on "
        f"top: {_read(provenance)}.",
        hover=("head",),
        notes=(f"{left_out:,} more places are left out of the picture.",) if left_out else (),
    )


def cells_of(row: Any) -> Any:
    """The picture of a row of `head_maps` as an array [rows of cells, columns of cells]."""
    import numpy as np

    return np.asarray(row.cells, dtype=float).reshape(-(-int(row.n_queries) // int(row.query_step)), -1)


def shrunk(cells: Any, most: int) -> Any:
    """The picture in at most ``most`` cells along each side: sums along keys, means along queries; rows still add up to 1."""
    import numpy as np

    n, m = cells.shape
    up, across = -(-n // most), -(-m // most)
    summed = np.add.reduceat(cells, np.arange(0, m, across), axis=1)
    sizes = np.diff([*range(0, n, up), n])[:, None]
    return np.add.reduceat(summed, np.arange(0, n, up), axis=0) / sizes


def picture_spec(row: Any, provenance: Mapping[str, Any], name: str) -> FigureSpec:
    """One head's pattern on one window, from its row of `head_maps`; ``name``: the head's, for the sentence."""
    import numpy as np
    import pandas as pd

    cells = cells_of(row)
    asked, looked = np.indices(cells.shape)
    real = np.asarray(row.rows) > 0
    data = pd.DataFrame({
        "query": asked.ravel() * int(row.query_step),
        "key": looked.ravel() * int(row.key_step),
        "attention": np.where(real[:, None], cells, np.nan).ravel(),
    })  # fmt: skip
    fine = int(row.query_step) == int(row.key_step) == 1
    each = "each cell a query and a key" if fine else f"each cell {row.query_step} queries by {row.key_step} keys"
    return FigureSpec(
        kind="heatmap",
        data=data,
        x=Axis("key", "Key"),
        y=Axis("query", "Query", bounds=(float(row.n_queries) - 0.5, -0.5)),
        colour=Axis("attention", "Attention", unit="share of a query's"),
        title=f"Pattern of head {name}",
        sentence=f"Attention of head {name} of {provenance['model_label']} on window {row.window} of {provenance['data']}: {each}, mean "
        f"over n = {int(np.sum(row.rows)):,} queries; each row adds up to 1.",
    )
