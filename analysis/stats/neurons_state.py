"""`NeuronActivity` to arrays and back, for checkpoint files. Histograms without their empty bins; parts are named "part.array"."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

import numpy as np

from analysis.stats.activity import ActiveRule, RuleKind
from analysis.stats.firing import Documents, open_window_arrays, open_windows_of
from analysis.stats.histogram import Packed, pack, unpack
from analysis.stats.neurons import Engine, NeuronActivity
from analysis.stats.tally import State

_DOCUMENT_SUMS = ("document_n", "document_sum", "document_square")


def state_of(site: NeuronActivity) -> State:
    """Copies of everything the accumulator holds."""
    settings = [site.n_neurons, site.has_gate, site.seed, site.n_rows, site.n_windows]
    parts: dict[str, State] = {
        "site": {"settings": np.array(settings, np.int64)},
        "rule": {"kind": np.array(site.rule.kind), "level": np.array(site.rule.level), "weight": site.rule.weight},
        "histogram": pack(site.histogram)._asdict(),
        "tally": site.tally.entries,
        "documents": site.documents.arrays(),
        "open": open_window_arrays(site.open, site.n_neurons),
        "tokens": {name: getattr(site.tokens, name) for name in _DOCUMENT_SUMS},
    }
    for name, channel in site.channels.items():
        parts[f"{name}_tally"] = channel.tally.entries
    for name, component in site.components().items():
        parts[name] = {f.name: getattr(component, f.name) for f in fields(component)}
    return {f"{part}.{name}": np.copy(array) for part, entries in parts.items() for name, array in entries.items()}


def accumulator_of(state: State, engine: Engine, threads: int | None) -> NeuronActivity:
    """The accumulator `state_of` was taken from."""
    parts: dict[str, State] = {}
    for name, array in state.items():
        part, _, entry = name.partition(".")
        parts.setdefault(part, {})[entry] = np.copy(array)
    n, has_gate, seed, n_rows, n_windows = (int(v) for v in parts["site"]["settings"])
    rule = parts["rule"]
    made = NeuronActivity(
        n,
        rule=ActiveRule(cast(RuleKind, str(rule["kind"])), float(rule["level"]), rule["weight"]),
        document_windows=parts["documents"]["totals"],
        seed=seed,
        has_gate=bool(has_gate),
        top=parts["top"]["value"].shape[1],
        bottom=parts["bottom"]["value"].shape[1],
        sample_windows=len(parts["sample"]["hash"]),
        gini_tokens=int(parts["gini"]["size"][0]),
        engine=engine,
        threads=threads,
    )
    made.n_rows, made.n_windows = n_rows, n_windows
    _fill(made, parts)
    return made


def _fill(made: NeuronActivity, parts: dict[str, State]) -> None:
    made.histogram = unpack(Packed(**parts["histogram"])).astype(np.int32)
    made.tally.entries = parts["tally"]
    made.documents, made.open = Documents.of_arrays(parts["documents"]), open_windows_of(parts["open"])
    for name in _DOCUMENT_SUMS:
        setattr(made.tokens, name, parts["tokens"][name])
    for name, channel in made.channels.items():
        channel.tally.entries = parts[f"{name}_tally"]
    for name, component in made.components().items():
        for entry, array in parts[name].items():
            setattr(component, entry, array)
