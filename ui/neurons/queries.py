"""What the neuron pages ask of a sealed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.neurons.thresholds import at_threshold
from store import Derived, Filter, RunInfo
from ui.data import ask, first_row
from ui.neurons.units import Unit, site_filters

if TYPE_CHECKING:
    import pandas as pd

DRAWN = 50_000
"""Points of the scatter above which the database thins them."""


def derived(run: RunInfo, threshold: float | None) -> tuple[Derived, ...]:
    """The columns that a threshold changes; none for the run's own meaning of active."""
    return at_threshold(run, threshold) if threshold is not None else ()


def class_counts(run: RunInfo, threshold: float | None) -> pd.DataFrame:
    """Neurons by site and class: ``layer, hook_name, class, n_rows``."""
    return ask(run, "groups", "neurons", by=("layer", "hook_name", "class"), derive=derived(run, threshold))


def points(run: RunInfo, where: tuple[Filter, ...], derive: tuple[Derived, ...], colour: str, found: int) -> pd.DataFrame:
    """The scatter's points: every neuron where there are at most `DRAWN`, else one per occupied cell of a fine grid."""
    columns = tuple(dict.fromkeys(("layer", "hook_name", "neuron", "class", colour)))
    if found <= DRAWN:
        frame = ask(run, "read", "neurons", columns=("density", "max", *columns), where=where, derive=derive)
        return frame.assign(n_rows=1)
    return ask(run, "cells", "neurons", x="density", y="max", columns=columns, log_x=True, where=where, derive=derive)


def neuron(run: RunInfo, unit: Unit) -> dict[str, Any] | None:
    """The row of one neuron, missing values as None."""
    return first_row(ask(run, "read", "neurons", where=unit.where, limit=1))


def share_below(run: RunInfo, unit: Unit, column: str, value: float) -> float | None:
    """The share of the site's other neurons whose value is smaller."""
    others = unit.site.n_neurons - 1
    below = ask(run, "count", "neurons", where=(*site_filters(unit.site), Filter(column, "<", float(value))))
    return below / others if others else None


def values(run: RunInfo, unit: Unit) -> tuple[list[int], list[int]]:
    """The neuron's histogram: bins that are not empty, and the tokens in each."""
    frame = ask(run, "read", "neuron_histograms", columns=("bins", "counts"), where=unit.where, limit=1)
    return ([], []) if frame.empty else (frame["bins"][0].tolist(), frame["counts"][0].tolist())


def densities(run: RunInfo, unit: Unit) -> pd.DataFrame:
    """Tokens at or above every stored threshold."""
    return ask(run, "read", "neuron_densities", columns=("threshold", "n_active"), where=unit.where, order_by=("threshold",))


def examples(run: RunInfo, unit: Unit) -> pd.DataFrame:
    """The neuron's examples, with the text of their windows."""
    found = ask(run, "read", "neuron_examples", where=unit.where, order_by=("kind", "rank"))
    if found.empty:
        return found
    texts = ask(run, "read", "windows", where=(Filter("window", "in", tuple(sorted(set(found["window"].tolist())))),))
    return found.merge(texts, on="window", how="left", validate="many_to_one")
