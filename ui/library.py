"""The models of a store: from its sealed runs and from whatever was ever opened, with what has been asked of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from analysis.models import BUNDLED
from store import ModelInfo, RunInfo


@dataclass(frozen=True)
class Entry:
    """One model: the same name and the same weights."""

    name: str
    runs: tuple[RunInfo, ...]
    """Newest first, superseded ones and those with a missing file among them."""
    known: tuple[ModelInfo, ...]
    """As it was opened, by each reference it was asked for by; the last one first."""

    @cached_property
    def label(self) -> str:
        """What it is called at length (foreign text)."""
        return str(self.known[0].label if self.known else self._record.get("model_label") or self.name)

    @cached_property
    def source(self) -> str:
        """Where it came from (foreign text)."""
        return str(self.known[0].source if self.known else self._record.get("model_source") or "")

    @cached_property
    def ref(self) -> str:
        """What to ask for it by."""
        if self.known:
            return self.known[0].ref
        return self.name if self.name in BUNDLED else self.source or self.name

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of it: parameters, layers, architecture."""
        return self.known[0].facts if self.known else self._record.get("model_facts") or {}

    @cached_property
    def newest(self) -> Mapping[str, RunInfo]:
        """The newest run that counts, by analysis."""
        return {run.slug: run for run in reversed(self.runs) if run.current and run.status == "sealed"}

    @cached_property
    def last(self) -> datetime:
        """When it was last opened or measured."""
        return max([run.finished for run in self.runs] + [one.seen for one in self.known])

    @property
    def _record(self) -> Mapping[str, Any]:
        return self.runs[0].provenance


def library(runs: Sequence[RunInfo], known: Iterable[ModelInfo]) -> list[Entry]:
    """Every model once, the last used first. A run whose file cannot be read tells no model."""
    by_model: dict[tuple[str, str], tuple[list[RunInfo], list[ModelInfo]]] = {}
    for run in runs:
        if run.model:
            weights = (run.provenance.get("fingerprints") or {}).get("model", {}).get("weights", "")
            by_model.setdefault((run.model, weights), ([], []))[0].append(run)
    for one in known:
        by_model.setdefault((one.name, one.fingerprints.get("weights", "")), ([], []))[1].append(one)
    entries = [Entry(name, tuple(of_it), tuple(opened)) for (name, _), (of_it, opened) in by_model.items()]
    return sorted(entries, key=lambda entry: entry.last, reverse=True)


def references(entries: Iterable[Entry]) -> list[str]:
    """What a model can be asked for by: those of the library, then the bundled ones."""
    return list(dict.fromkeys([*(entry.ref for entry in entries), *BUNDLED]))
