"""What a head is measured by: the names of the page and the address, and what the sealed file says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.attention.measures import POSITION_LEVELS
from store import ColumnInfo, Filter, RunInfo
from ui import data
from ui.data import ask
from ui.runs import HEADS
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
    "learned sinks": "learned_sink_mass",
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
    "kept by Keyformer": "keyformer_mass",
    "spread of Keyformer": "keyformer_spread",
    "agreement on half the keys": "subsampled_agreement",
    "copying score": "copying_score",
    "previous-token score": "previous_score",
    "duplicate-token score": "duplicate_score",
    "induction score": "induction_score",
    "previous token, mul": "previous_mul",
    "previous token, abs": "previous_abs",
    "duplicate token, mul": "duplicate_mul",
    "duplicate token, abs": "duplicate_abs",
    "induction, mul": "induction_mul",
    "induction, abs": "induction_abs",
    "moved from the first": "value_first_mass",
    "moved from the first four": "value_sink_mass",
    "moved from the own token": "value_current_mass",
    "entropy of what is moved": "value_entropy",
    "output before projection": "head_norm",
    "output": "output_norm",
    "valid keys": "valid_keys",
}
"""The rest, behind one control."""
OVER_POSITION: Mapping[str, tuple[str, str, str]] = {
    "keys": ("keys for {:.0%}", "Keys that hold so much of a query's attention", "keys"),
    "key_share": ("share of keys for {:.0%}", "Share of valid keys that hold so much of a query's attention", "share of valid keys"),
    "below": ("below {:g}", "Share of valid keys with a smaller weight than that", "share of valid keys"),
    "below_fair": ("below {:g} / valid keys", "Share of valid keys with a smaller weight than that", "share of valid keys"),
    "local_mass": ("within {:g} tokens", "Attention on keys less than so many tokens away", "share of attention"),
}
"""Measures with a parameter: their name at a level, their meaning, their unit."""
OF_PATTERNS: Mapping[str, str] = {
    "distance to the nearest head": "nearest_divergence",
    "cosine to the nearest head": "nearest_cosine",
    "predicted span": "span",
    "predicted span, at once": "span_at_once",
    "on sink columns": "sink_share",
    "on the nearest keys": "local_share",
    "evenness": "evenness",
    "gain of blocks": "block_gain",
    "agreement on the shape": "shape_agreement",
    "agreement on the class": "pattern_agreement",
    "recall of A-shape": "a_shape_recall",
    "recall of vertical-slash": "lines_recall",
    "recall of block-sparse": "blocks_recall",
    "recall of block sums": "block_sum_recall",
    "density of A-shape": "a_shape_density",
    "density of vertical-slash": "lines_density",
    "density of block-sparse": "blocks_density",
    "kept by HiP": "hip_mass",
    "kept by the largest keys": "oracle_mass",
    "recall of HiP": "hip_recall",
    "error of few keys": "sparse_error",
    "error of a low rank": "low_rank_error",
    "error of both": "combined_error",
    "page rank of the top tenth": "page_rank_top",
    "variance of page rank": "page_rank_variance",
}
"""Those of `head_patterns` on the same weights: they colour the grid and span the scatter."""
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
    slug: str = HEADS
    """The analysis it is of: only those of `head_sparsity` also filter and sort the table."""
    at: tuple[str, float] | None = None
    """Of those with a parameter: the measure and its level, by which rows are found."""

    @property
    def label(self) -> str:
        """Its name with a capital letter."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def meaning(self) -> str:
        """What it is, without unit, range and when it is missing (foreign text)."""
        return self.comment.partition("; ")[0]

    @property
    def table(self) -> str:
        """Where it is stored by the position of the query."""
        return "head_positions" if self.at is None else "head_position_levels"

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Its rows in that table."""
        return () if self.at is None else (Filter("measure", "=", self.at[0]), Filter("level", "=", self.at[1]))

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.unit.startswith(SHARES)


def measures(run: RunInfo) -> dict[str, Measure]:
    """By name, those that some head of the run has a value of; the six first."""
    return _known(run, "heads", {**FIRST, **MORE})


def pattern_measures(patterns: RunInfo | None) -> dict[str, Measure]:
    """Those of a `head_patterns`, by name; none without one."""
    return {} if patterns is None else _known(patterns, "head_patterns", OF_PATTERNS)


def by_position(run: RunInfo) -> dict[str, Measure]:
    """Those of `head_sparsity` that are also stored by the position of the query."""
    stored = _columns(run, "head_positions")
    found = {name: one for name, one in measures(run).items() if one.column in stored}
    if not _columns(run, "head_position_levels"):  # of an earlier version
        return found
    for measure, level, _ in POSITION_LEVELS:
        name, meaning, unit = OVER_POSITION[measure]
        name = name.format(level)
        found[name] = Measure(name, "value", f"{meaning} ({name})", unit, run.slug, (measure, level))
    return found


def _known(run: RunInfo, table: str, names: Mapping[str, str]) -> dict[str, Measure]:
    columns = _columns(run, table)
    named = {name: columns[column] for name, column in names.items() if column in columns}
    limits = ask(run, "limits", table, columns=tuple(one.name for one in named.values()))
    return {
        name: Measure(name, one.name, one.comment.partition(" Key: ")[0], unit_of(one), run.slug)
        for name, one in named.items()
        if limits[one.name] is not None
    }


def _columns(run: RunInfo, table: str) -> dict[str, ColumnInfo]:
    return {column.name: column for info in data.tables(run) if info.name == table for column in info.columns}
