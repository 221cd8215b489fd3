"""Magnitude: the smaller |w|, the sooner it goes. Needs no data (METHODS A1, A6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.weights.method import Method
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs

ESSENTIAL = Source("The Emergence of Essential Sparsity in Large Pre-trained Models", "Jaiswal et al., NeurIPS 2023, arXiv 2306.03805", "C")


@dataclass(frozen=True)
class Magnitude(Method):
    """Score |w|."""

    slug: ClassVar[str] = "magnitude"
    title: ClassVar[str] = "Magnitude"
    sources: ClassVar[tuple[Source, ...]] = (ESSENTIAL,)
    evidence: ClassVar[Evidence] = "C"
    cheap: ClassVar[bool] = True
    unit: ClassVar[str] = "|w|"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002 - a method's signature
        """|w|."""
        return w.abs()
