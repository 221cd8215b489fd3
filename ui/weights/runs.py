"""Which runs the pages of weights draw from: those of one model, found by the fingerprint of its weights."""

from __future__ import annotations

from pathlib import Path

from analysis import find_analysis
from store import RunInfo
from ui import data
from ui.runs import WEIGHTS, readable, weights_of

SPECTRUM = "weight_spectrum"
RATIOS = "layer_ratios"
DIFF = "checkpoint_diff"
TIMELINE = "checkpoint_timeline"


def outdated() -> list[RunInfo]:
    """Runs of `weight_sparsity` that an older version made, which the pages cannot draw."""
    version = find_analysis(WEIGHTS).version
    return [run for run in data.runs() if run.slug == WEIGHTS and run.status == "sealed" and run.version != version]


def differences(run: RunInfo) -> list[RunInfo]:
    """Comparisons in which this model is one of the two, newest first."""
    return [one for one in readable(DIFF) if weights_of(run) in (weights_of(one), weights_of(one, "base"))]


def series_with(run: RunInfo) -> list[RunInfo]:
    """Series of checkpoints of which this model is one: its files lie in the folder of the series, or next to it."""
    source = Path(str(run.provenance.get("model_source") or run.model))
    return [one for one in readable(TIMELINE) if _holds(Path(str(one.provenance.get("model_source") or one.model)), source)]


def _holds(folder: Path, source: Path) -> bool:
    return folder == source or folder in source.parents


def missing(slug: str) -> str:
    """The title of an analysis, for sentences that say it has not been run."""
    return find_analysis(slug).title
