"""Random: weights go in an order drawn once from the seed; the baseline every method must beat (METHODS A3).

Exact counts from a random order, where the authors' code draws each weight by itself; so masks of rising levels are nested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.weights.method import Method
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs


@dataclass(frozen=True)
class Random(Method):
    """Scores uniform in [0, 1), the same for the same seed on every device."""

    slug: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("The Unreasonable Effectiveness of Random Pruning", "Liu et al., ICLR 2022, arXiv 2202.02643", "C"),
    )
    evidence: ClassVar[Evidence] = "C"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002 - a method's signature
        """Uniform numbers; the weights do not matter."""
        import torch

        return torch.rand(w.shape, generator=torch.Generator().manual_seed(seed)).to(w.device)
