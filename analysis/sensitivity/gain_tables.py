"""Tables and figures of `measured_gain`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from analysis.sensitivity.columns import COUNT
from analysis.spec import Column, Figure, Table
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

UNIT = Column("unit", "str", "What was cut out of the tensors: heads, neurons, blocks, ranks, dimensions")
GAINS = Table(
    "gains",
    "What a really smaller model takes in time, beside what its cost says.",
    ("unit", "level", "phase"),
    (
        UNIT,
        Column("level", "float", "Share asked for, of heads the nearest at which all that share keys go together", range=(0, 1)),
        Column("phase", "str", "prefill (one pass, B = 1) or decode (one token, B = 1)"),
        Column("method", "str", "The intervention of the same cost, by its name in list --interventions"),
        Column("achieved", "float", "Share of the units that is gone", range=(0, 1)),
        Column("context", "int", "Positions of the pass; of decode, of the prompt before the tokens", unit="positions", range=COUNT),
        Column("counted", "float", "What the cost says is left: FLOPs of a pass, bytes of a token, of the dense model's", range=(0, 1e6)),
        Column("measured", "float", "What is left of the time: median of the turns' ratios", range=(0, 1e6), evidence="O"),
        Column("low", "float", "Lower end of its 95 % interval over turns; NULL for one turn", range=(0, 1e6), optional=True),
        Column("high", "float", "Upper end of it; NULL for one turn", range=(0, 1e6), optional=True),
        Column("dense_seconds", "float", "Median of the dense model's turns", unit="seconds", range=(0, 1e9)),
        Column("smaller_seconds", "float", "Median of the smaller model's", unit="seconds", range=(0, 1e9)),
        Column("turns", "int", "Measured turns of each model", range=COUNT),
        Column("parameters", "float", "Parameters of the smaller model, as a share of the dense one's", range=(0, 2)),
        Column("difference", "float", "Largest difference between its answers and those of the ablated model, over their largest value", range=(0, 1e6)),
    ),
    summary=True,
)  # fmt: skip
NOT_CUT = Table(
    "not_cut",
    "What could not be cut out of this model, and why.",
    ("unit",),
    (UNIT, Column("reason", "str", "Why, in a sentence")),
    summary=True,
)
COUNTS_WHAT = {"prefill": "FLOPs of one pass", "decode": "bytes moved per token"}


def draw_gain(phase: str, rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Time left over cost left, a point for each level; on the diagonal, the cost tells the time."""
    import pandas as pd

    shown = rows[rows["phase"] == phase].sort_values(["unit", "level"]).reset_index(drop=True)
    if not len(shown):
        raise NothingToDraw(f"{phase.capitalize()} was not timed: nothing could be cut out, or nothing is decoded.")
    facts = provenance.get("facts") or {}
    shown = shown.assign(**{name: pd.to_numeric(shown[name]) for name in ("low", "high")})
    first = shown.iloc[0]
    return FigureSpec(
        kind="scatter",
        data=shown,
        x=Axis("counted", f"Counted: {COUNTS_WHAT[phase]}", unit="share of dense"),
        y=Axis("measured", "Measured time", unit="share of dense"),
        series=Series("unit", "Cut out", order=tuple(dict.fromkeys(shown["unit"]))),
        title=f"{phase.capitalize()}: time of really smaller models",
        sentence=f"Time of {provenance['model_label']} with units cut out of its tensors, over that of the dense model, beside what its "
        f"cost says, at {int(first['context']):,} positions, B = 1: medians of {int(first['turns']):,} turns on "
        f"{facts.get('machine', 'this machine')}.",
        hover=("level", "achieved", "low", "high", "dense_seconds", "smaller_seconds", "parameters", "difference"),
        notes=(
            "Dense kernels of torch for both, taking turns. Another machine, length, batch or number type gives other times.",
            "Nothing is claimed of zeros that stay in their tensors: torch has no kernel here that skips them.",
        ),
    )


FIGURES = tuple(Figure(phase, f"Time and cost, {phase}", "gains", partial(draw_gain, phase)) for phase in COUNTS_WHAT)
