"""The names, sources and needs of an intervention as attributes of its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.interventions.spec import Intervention, Need
from analysis.spec import Source


@dataclass(frozen=True)
class Named(Intervention):
    """Values: frozen dataclasses, whose fields are the options."""

    seed: int = 0

    name: ClassVar[str]
    words: ClassVar[str]
    origin: ClassVar[tuple[Source, ...]]
    calibrated: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()  # type: ignore[assignment]

    @property
    def slug(self) -> str:
        """The method's name."""
        return self.name

    @property
    def title(self) -> str:
        """Shown to people."""
        return self.words

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the definition comes from."""
        return self.origin

    @property
    def needs(self) -> frozenset[Need]:
        """The batches, and with them the task, where something is fitted."""
        return frozenset({"values"}) if self.calibrated else frozenset()
