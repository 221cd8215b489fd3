"""What a head is measured by: the names of the page and the address, and what the sealed file says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from store import ColumnInfo, RunInfo
from ui import data
from ui.neurons.queries import ask
from ui.tables import unit_of

FIRST: Mapping[str, str] = {
    "share of keys": "key_share",
    "entropy": "relative_entropy",
    "Gini": "gini",
    "largest weight": "max_weight",
    "first token": "first_mass",
    "local": "local_mass",
}
"""Six measures of sparsity up front: their names, and their columns."""
MORE: Mapping[str, str] = {
    "keys": "keys",
    "slope with position": "slope",
    "effective keys": "effective_keys",
    "keys beside the first": "keys_beside_first",
    "entropy in nats": "entropy",
    "entropy beside the first": "entropy_beside_first",
    "below the largest": "below_maximum",
    "confidence": "confidence",
    "first four tokens": "sink_mass",
    "detected sinks": "detected_sinks",
    "on detected sinks": "detected_sink_mass",
    "special tokens": "special_mass",
    "own token": "current_mass",
    "token before": "previous_mass",
    "token after": "next_mass",
    "span": "span",
    "distance": "distance",
    "block density": "block_density",
    "heavy hitters": "heavy_mass",
    "ZipVL": "zipvl",
    "channels": "channel_share",
    "kept by H2O": "h2o_mass",
    "kept by ALISA": "alisa_mass",
    "kept by a quarter": "quarter_mass",
    "kept by channels": "channel_mass",
    "previous-token score": "previous_score",
    "duplicate-token score": "duplicate_score",
    "induction score": "induction_score",
    "moved from the first": "value_first_mass",
    "moved from the first four": "value_sink_mass",
    "moved from the own token": "value_current_mass",
    "entropy of what is moved": "value_entropy",
    "output before projection": "head_norm",
    "output": "output_norm",
    "valid keys": "valid_keys",
}
"""The rest, behind one control."""
SHARES = ("share", "index")
"""How units of numbers between 0 and 1 begin."""


@dataclass(frozen=True)
class Measure:
    """One number of a head."""

    name: str
    column: str
    comment: str
    """Meaning, unit, range and evidence, as the sealed file has them (foreign text)."""
    unit: str

    @property
    def label(self) -> str:
        """Its name with a capital letter."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def meaning(self) -> str:
        """What it is, without unit, range and when it is missing (foreign text)."""
        return self.comment.partition("; ")[0]

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.unit.startswith(SHARES)


def measures(run: RunInfo) -> dict[str, Measure]:
    """By name, those that some head of the run has a value of; the six first."""
    columns = _columns(run, "heads")
    named = {name: columns[column] for name, column in (*FIRST.items(), *MORE.items()) if column in columns}
    limits = ask(run, "limits", "heads", columns=tuple(one.name for one in named.values()))
    return {
        name: Measure(name, one.name, one.comment.partition(" Key: ")[0], unit_of(one))
        for name, one in named.items()
        if limits[one.name] is not None
    }


def by_position(run: RunInfo) -> dict[str, Measure]:
    """Those of them that are also stored by the position of the query."""
    stored = _columns(run, "head_positions")
    return {name: one for name, one in measures(run).items() if one.column in stored}


def _columns(run: RunInfo, table: str) -> dict[str, ColumnInfo]:
    return {column.name: column for info in data.tables(run) if info.name == table for column in info.columns}
