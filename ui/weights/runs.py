"""Which runs the pages of weights draw from: those of one model, found by the fingerprint of its weights."""

from __future__ import annotations

from pathlib import Path

from analysis import find_analysis
from analysis.models import BUNDLED
from store import RunInfo
from ui import data
from ui.words import moment

SPARSITY = "weight_sparsity"
SPECTRUM = "weight_spectrum"
RATIOS = "layer_ratios"
DIFF = "checkpoint_diff"
TIMELINE = "checkpoint_timeline"
NEURONS = "neuron_activity"
HEADS = "head_sparsity"


def readable(slug: str) -> list[RunInfo]:
    """Sealed runs of an analysis that count, newest first; those of another version have other tables and are left out."""
    version = find_analysis(slug).version
    return [run for run in data.runs() if run.slug == slug and run.status == "sealed" and run.current and run.version == version]


def outdated() -> list[RunInfo]:
    """Runs of `weight_sparsity` that an older version made, which the pages cannot draw."""
    version = find_analysis(SPARSITY).version
    return [run for run in data.runs() if run.slug == SPARSITY and run.status == "sealed" and run.version != version]


def weights_of(run: RunInfo, role: str = "model") -> str:
    """The fingerprint of the weights of one input of a run."""
    prints = (run.provenance.get("fingerprints") or {}).get(role) or {}
    return str(prints.get("weights") or (run.model if role == "model" else ""))


def beside(run: RunInfo, slug: str) -> RunInfo | None:
    """The newest run of another analysis on the same weights."""
    return next((one for one in readable(slug) if weights_of(one) == weights_of(run)), None)


def differences(run: RunInfo) -> list[RunInfo]:
    """Comparisons in which this model is one of the two, newest first."""
    return [one for one in readable(DIFF) if weights_of(run) in (weights_of(one), weights_of(one, "base"))]


def series_with(run: RunInfo) -> list[RunInfo]:
    """Series of checkpoints of which this model is one: its files lie in the folder of the series, or next to it."""
    source = Path(str(run.provenance.get("model_source") or run.model))
    return [one for one in readable(TIMELINE) if _holds(Path(str(one.provenance.get("model_source") or one.model)), source)]


def _holds(folder: Path, source: Path) -> bool:
    return folder == source or folder in source.parents


def sparsity_of(run: RunInfo) -> RunInfo | None:
    """The newest `weight_sparsity` of the model that a run is of."""
    return beside(run, SPARSITY)


def reference_of(run: RunInfo) -> str:
    """What the model can be asked for by: a bundled name, or where its files are."""
    return run.model if run.model in BUNDLED else str(run.provenance.get("model_source") or run.model)


def run_label(run: RunInfo) -> str:
    """A run in a list to choose from (text, no Markdown)."""
    return f"{run.model} · {moment(run.started)}"


def missing(slug: str) -> str:
    """The title of an analysis, for sentences that say it has not been run."""
    return find_analysis(slug).title
