"""What all interventions on structure have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.named import Named

if TYPE_CHECKING:
    from analysis.interventions.entry import RunsOn


@dataclass(frozen=True)
class NamedMethod(Named):
    """What is left is a smaller dense model, unless a method says otherwise."""

    target = "structure"
    runs_on: ClassVar[RunsOn] = "smaller dense model"
