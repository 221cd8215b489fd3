"""Curves of one or several runs as rows, with what tells them apart, and how they can be looked at. Nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.second_data import SECOND
from analysis.sensitivity.curve_rows import curve_label
from analysis.sensitivity.tables import KEY, SECOND_SET
from figures.words import visible
from store import Filter, RunInfo
from ui import data
from ui.words import moment

SLUG = "essential_sparsity"
LOSS, ACCURACY = "loss", "accuracy"
Frame = Any
"""A data frame or one of its columns: the stubs of pandas call every selection both."""


@dataclass(frozen=True)
class Curve:
    """One curve of one run: every measured level, once for each metric."""

    run: RunInfo
    key: Mapping[str, Any]
    """What tells it apart within its run: method, structure, scope, seed, data."""
    label: str
    """What it is called here: with its run, where several are shown (foreign text)."""
    rows: Frame

    @property
    def name(self) -> str:
        """What it is called within its run."""
        return curve_label(self.key)

    @property
    def data(self) -> str:
        """Name of the data it was measured on (foreign text)."""
        if self.key["data"] == SECOND_SET:
            return str((self.facts.get(SECOND) or {}).get("name") or "the second data")
        return str(self.run.data)

    @property
    def is_point(self) -> bool:
        """Whether it is one pattern without a continuum."""
        return str(self.rows["kind"].iloc[0]) == "point"

    @property
    def is_patterns(self) -> bool:
        """Whether it is several patterns with nothing between them."""
        return str(self.rows["kind"].iloc[0]) == "patterns"

    @property
    def has_continuum(self) -> bool:
        """Whether there are levels between the measured ones."""
        return not (self.is_point or self.is_patterns)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its run recorded while it ran."""
        return self.run.provenance.get("facts") or {}

    @property
    def is_on_weights(self) -> bool:
        """Whether its shares are of weights; of others the words must not say so."""
        return "target" not in self.rows or str(self.rows["target"].iloc[0]) == "weights"

    @property
    def denominator(self) -> str:
        """What its shares are of, in words (foreign text)."""
        if "denominator" in self.rows:
            return str(self.rows["denominator"].iloc[0])
        return str(self.facts.get("denominator") or "the weights in scope")

    @property
    def where(self) -> tuple[Filter, ...]:
        """Its rows in any table of its run."""
        return tuple(Filter(name, "=", value) for name, value in self.key.items())

    def of(self, metric: str) -> Frame:
        """Its points of one metric, from the dense model upwards; a pattern without those of the dense model."""
        rows = self.rows[self.rows["metric"] == metric].sort_values("level")
        return rows[rows["level"] > 0] if self.is_point else rows

    def drop(self, eps: float, metric: str = LOSS) -> Mapping[str, Any] | None:
        """Where it leaves a tolerance, as stored; None for a pattern, or a tolerance that its run did not ask for."""
        for row in self.run.summaries.get("drop_points", ()):
            if row["metric"] == metric and abs(row["eps"] - eps) <= 1e-9 * eps and all(row[name] == self.key[name] for name in KEY):
                return row
        return None


def curves_of(runs: Sequence[RunInfo]) -> list[Curve]:
    """Every curve of these runs, in the order they were measured."""
    names = run_labels(runs)
    found = []
    for run in runs:
        rows: Frame = data.rows(run, "curve_points")
        for values, part in rows.groupby(list(KEY), sort=False):
            key = {name: value.item() if hasattr(value, "item") else value for name, value in zip(KEY, values, strict=True)}
            label = curve_label(key)
            found.append(Curve(run, key, visible(f"{names[run.id]}: {label}" if len(runs) > 1 else label), part))
    return found


def is_drawable(run: RunInfo) -> bool:
    """Whether a run holds curves as they are told apart today; its file may be of an earlier kind."""
    drops = run.summaries.get("drop_points", [])
    return bool(run.rows.get("curve_points")) and (not drops or set(KEY) <= drops[0].keys())


def run_labels(runs: Sequence[RunInfo]) -> dict[str, str]:
    """Runs as short as they can be told apart: by model, by data, by when they were made, by id (foreign text)."""
    parts = {run.id: [run.model] for run in runs}
    if len({run.data for run in runs}) > 1:
        parts = {run.id: [*parts[run.id], run.data or "no data"] for run in runs}
    for more in (lambda run: moment(run.started), lambda run: run.id):
        told = [" · ".join(parts[run.id]) for run in runs]
        for run, name in zip(runs, told, strict=True):
            if told.count(name) > 1:
                parts[run.id].append(more(run))
    return {run_id: " · ".join(words) for run_id, words in parts.items()}


def tolerances(curves: Sequence[Curve]) -> list[float]:
    """Tolerances of the loss that the runs asked for, ascending."""
    asked = {row["eps"] for curve in curves for row in curve.run.summaries.get("drop_points", ()) if row["metric"] == LOSS}
    return sorted(asked)


def usual_tolerance(curves: Sequence[Curve]) -> float | None:
    """The one that stands on the model's card; None where no curve has any."""
    for curve in curves:
        for row in curve.run.summaries.get("drop_points", ()):
            if row["is_headline"]:
                return float(row["eps"])
    return None


def unit_of(curve: Curve) -> str:
    """The unit of its loss."""
    return str(curve.of(LOSS)["unit"].iloc[0])


@dataclass(frozen=True)
class Measure:
    """One way of looking at curves."""

    slug: str
    """Its name in the address."""
    title: str
    metric: str
    """The metric whose rows it shows."""
    log: bool = False

    @property
    def drops_of(self) -> str | None:
        """The metric whose drop points can be marked on it; None where there are none."""
        return LOSS if self.metric == LOSS else ACCURACY if self.metric == ACCURACY else None


ABOVE = Measure("loss", "Loss above dense", LOSS, log=True)
NEAR = Measure("near", "Near the tolerance", LOSS)
PERPLEXITY = Measure("perplexity", "Perplexity", LOSS, log=True)


def measures(curves: Sequence[Curve]) -> dict[str, Measure]:
    """What these curves can be looked at as, by name."""
    found = [ABOVE, NEAR]
    if any(curve.rows["perplexity"].notna().any() for curve in curves):
        found.append(PERPLEXITY)
    titles = {ACCURACY: "Accuracy lost", "kl": "KL to dense"}
    for metric in dict.fromkeys(name for curve in curves for name in curve.rows["metric"]):
        if metric != LOSS:
            found.append(Measure(metric, titles.get(metric, str(metric).capitalize()), metric, log=metric == "kl"))
    return {measure.slug: measure for measure in found}
