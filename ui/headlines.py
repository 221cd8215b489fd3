"""The few numbers that stand on a model's card, each with its n, from the summaries the catalogue keeps of every run.

One function per analysis that has something to say in one number; the others are linked from the card without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store import RunInfo
from ui.words import count, percent

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Headlines:
    """What they were counted over, and the numbers: each a label and its value as text."""

    over: str
    numbers: tuple[tuple[str, str], ...]


def headlines(run: RunInfo) -> Headlines | None:
    """The headline numbers of a run; None where its analysis has none, or its summaries are of an older kind."""
    tell = _TELLERS.get((run.slug, run.version))
    if tell is None:
        return None
    table, columns, make = tell
    rows = run.summaries.get(table, [])
    if not rows or any(column not in rows[0] for column in columns):
        return None
    return make(rows)


def _neuron_activity(rows: Rows) -> Headlines:
    neurons = sum(row["n_neurons"] for row in rows)
    seen = f"{count(rows[0]['n_tokens'], 'token')} from {count(rows[0]['n_documents'], 'document')}"
    density = sum(row["density"] * row["n_neurons"] for row in rows) / neurons
    classes = {name: sum(row[f"n_{name}"] for row in rows) / neurons for name in ("dead", "undecided", "dense")}
    return Headlines(
        f"Of {count(neurons, 'neuron')}, on {seen}.",
        (
            ("Mean active share", percent(density)),
            ("Dead neurons", percent(classes["dead"])),
            ("Undecided neurons", percent(classes["undecided"])),
            ("Dense neurons", percent(classes["dense"])),
        ),
    )


def _weight_sparsity(rows: Rows) -> Headlines | None:
    everything = next((row for row in rows if row["scope"] == "all weights"), None)
    if everything is None:
        return None
    over = f"Of {count(everything['n_weights'], 'weight')} in {count(everything['n_tensors'], 'tensor')}"
    return Headlines(
        f"{over}, tied ones once; exact zeros are near zero, too.",
        (
            ("Weights exactly zero", percent(everything["zero_share"])),
            ("Weights near zero", percent(everything["near_zero_share"])),
        ),
    )


_TELLERS: Mapping[tuple[str, int], tuple[str, tuple[str, ...], Callable[[Rows], Headlines | None]]] = {
    ("weight_sparsity", 1): ("totals", ("scope", "n_weights", "n_tensors", "zero_share", "near_zero_share"), _weight_sparsity),
    ("neuron_activity", 1): (
        "layers",
        ("n_neurons", "n_tokens", "n_documents", "density", "n_dead", "n_dense", "n_undecided"),
        _neuron_activity,
    ),
}
