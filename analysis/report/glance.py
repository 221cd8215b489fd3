"""The bar code of a model as a figure: layers by measures, each on the scale that all models share."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.headlines import place, stripes
from figures.spec import Axis, FigureSpec
from store import RunInfo


def bar_code_spec(runs: Iterable[RunInfo], label: str) -> FigureSpec | None:
    """A cell per layer and measure; None where no run has a number per layer."""
    import pandas as pd

    cells = [
        {"layer": layer, "measure": stripe.label, "scale": place(stripe, value), "value": value}
        for run in runs for stripe, values in stripes(run) for layer, value in sorted(values.items())
    ]  # fmt: skip
    if not cells:
        return None
    frame = pd.DataFrame(cells).sort_values("layer", kind="stable").reset_index(drop=True)
    return FigureSpec(
        kind="heatmap",
        data=frame,
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("measure", "Measure", scale="category"),
        colour=Axis("scale", "Place on its scale", "0 low, 1 high", bounds=(0, 1)),
        title="Bar code",
        sentence=f"Measures of sparsity of {label}, layer by layer, each coloured by where it lies on a scale that is the same for every "
        f"model; n = {len(frame):,} numbers of {frame['layer'].nunique()} layers.",
        hover=("value",),
    )
