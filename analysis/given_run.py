"""A sealed run as the input of an analysis: its tables, read-only, and what it was made of. The runner opens it; analyses never do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError

if TYPE_CHECKING:
    from store import Store

RUN = "run"
"""Name of the input that is a sealed run: ``--with run=ID``."""


@dataclass(frozen=True)
class GivenRun:
    """One sealed run."""

    id: str
    slug: str
    label: str
    provenance: Mapping[str, Any] = field(repr=False)
    read: Callable[[str], Any] = field(repr=False)
    """From a table's name to its rows, as a data frame."""
    dtype: str = ""
    find_files: Callable[[], Path | None] = field(default=lambda: None, repr=False)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Part of the key of what is made from it: a sealed run never changes."""
        return {RUN: self.id}

    @property
    def files(self) -> Path | None:
        """The folder of its files that are no tables; None where it has none. Raises a sentence where they were not copied with it."""
        return self.find_files()

    def must_be_of(self, slug: str, subject: Any) -> None:
        """Raise `UserError` unless it is a run of that analysis on these weights."""
        if self.slug != slug:
            raise UserError(f"the run must be one of {slug}, got {self.id}, which is one of {self.slug}; give another with --with run=ID.")
        weights = self.provenance["fingerprints"]["model"].get("weights")
        if weights != subject.fingerprints.get("weights"):
            raise UserError(
                f"the run must be of the same weights as {subject.label}, got {self.id}, which is of {self.label} with others; "
                "give the run of this model."
            )


def given_run(store: Store, ref: str) -> GivenRun:
    """The run of that id, of the beginning of one, or of that path."""
    info = store.find(ref)
    provenance = store.provenance(info)
    label = str(provenance["model_label"])
    return GivenRun(info.id, info.slug, label, provenance, lambda table: store.read(info, table), find_files=lambda: store.files(info))
