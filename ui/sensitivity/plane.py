"""What a `sparsity_plane` run measured, as one view of it shows it: points at an operating point, and those no other of their class beats.

Nothing here draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.interventions.entry import RUNS_ON, TARGETS
from analysis.stats.pareto import pareto_front
from store import RunInfo
from ui import data
from ui.sensitivity.curves import Curve, curves_of

SLUG = "sparsity_plane"
Frame = Any
PREFILL, DECODE, HELD = "prefill", "decode", "resident"
PANELS: Mapping[str, str] = {"prefill": PREFILL, "decode": DECODE, "bytes held": HELD}
"""What a point can cost: its name on the page and in the address, and its phase in the tables. They are never one axis."""


@dataclass(frozen=True)
class View:
    """One state of the page, all of it in the address. Empty tuples: no filter."""

    targets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    phases: tuple[str, ...] = (PREFILL, DECODE)
    batch: int = 1
    eps: float | None = None
    near: bool = False
    """Whether heights are linear around the tolerance instead of logarithmic."""
    one: str | None = None
    """The intervention looked at closer."""

    def keeps(self, rows: Frame) -> Any:
        """Which rows with a method, a target and what can use it pass the filters: bool [rows]."""
        kept = np.ones(len(rows), bool)
        for column, wanted in (("target", self.targets), ("runs_on", self.classes), ("method", self.methods)):
            if wanted:
                kept &= rows[column].isin(wanted).to_numpy()
        return kept


@dataclass(frozen=True)
class Place:
    """An operating point of one panel."""

    phase: str
    context: int
    batch: int = 1


def is_pair(method: str) -> bool:
    """Whether two interventions at once are meant: then level 0 is the second alone, and there is no drop point."""
    return " + " in method


def costs(run: RunInfo) -> Frame:
    """Every level of every intervention at every operating point, with its increase on the choice documents as ``choice_delta``."""
    key = ["method", "seed", "level"]
    chosen: Frame = data.rows(run, "choice_points")
    picked: Frame = chosen[[*key, "delta"]]
    picked = picked.rename(columns={"delta": "choice_delta"})
    rows: Frame = data.rows(run, "plane_costs")
    return rows.merge(picked, on=key, how="left", validate="many_to_one")


def points(rows: Frame, view: View, place: Place) -> Frame:
    """What a panel shows: levels above the dense model that pass the filters, with ``front``: whether none shown of its class beats it."""
    at = (rows["phase"] == place.phase) & (rows["context"] == place.context) & (rows["batch"] == place.batch) & (rows["level"] > 0)
    found = rows[at.to_numpy() & view.keeps(rows)].sort_values(["method", "level"]).reset_index(drop=True)
    return found.assign(front=on_fronts(found))


def on_fronts(found: Frame) -> Any:
    """Whether each point is on the front of its class, the dense model (all of the cost, no loss) among its rivals: bool [rows].

    Picked by the increase on the choice documents, as the run itself does; of a selection the front is that of the selection.
    """
    front = np.zeros(len(found), bool)
    for name in found["runs_on"].unique():
        own = np.flatnonzero((found["runs_on"] == name).to_numpy())
        losses = found["choice_delta"].fillna(np.inf).to_numpy(float)[own]
        front[own] = pareto_front([1.0, *found["share"].to_numpy(float)[own]], [0.0, *losses])[1:]
    return front


def cheapest(found: Frame, eps: float) -> Frame:
    """Of each class the point of least cost, below the dense model's, whose increase on the choice documents stays within a tolerance."""
    within = found[(found["choice_delta"] <= eps) & (found["share"] < 1) & found["delta"].notna()]
    best = within.sort_values(["share", "choice_delta"], kind="stable").drop_duplicates("runs_on")
    return best.sort_values("runs_on", key=lambda names: names.map(RUNS_ON.index)).reset_index(drop=True)


def contexts(run: RunInfo) -> dict[int, str]:
    """Lengths that costs were counted at, the measured one first, with the operating point in words (foreign text)."""
    facts = run.provenance.get("facts") or {}
    return {int(one["context"]): str(one["words"]) for one in facts.get("contexts", ())}


def batches(rows: Frame) -> list[int]:
    """Of decoding."""
    return sorted(int(one) for one in rows.loc[rows["phase"] == DECODE, "batch"].unique())


def listed(run: RunInfo) -> list[dict[str, Any]]:
    """Every intervention that was asked for, by what it acts on."""
    order = {target: place for place, target in enumerate(TARGETS)}
    return sorted(run.summaries.get("interventions", ()), key=lambda row: (order.get(row["target"], len(order)), row["method"]))


def measured(run: RunInfo, view: View) -> list[dict[str, Any]]:
    """Those that were measured and pass the filters."""
    import pandas as pd

    rows = [row for row in listed(run) if row["is_measured"]]
    kept = view.keeps(pd.DataFrame(rows)) if rows else []
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]


def curve_of(run: RunInfo, method: str) -> Curve | None:
    """The curve of one intervention; None where the run stored none."""
    return next((curve for curve in curves_of([run]) if curve.key["method"] == method), None)
