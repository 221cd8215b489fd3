"""LAMP: a weight's square by the squares of all weights of its matrix that are at least as large (METHODS A6).

Compared over all matrices this gives each a share of its own; the largest weight of each scores 1, so that none collapses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.weights.method import Method
from analysis.spec import Evidence, Source
from analysis.stats.ratios import lamp_scores

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs


@dataclass(frozen=True)
class Lamp(Method):
    """Score w^2 / (sum of the squares from w^2 on)."""

    slug: ClassVar[str] = "lamp"
    title: ClassVar[str] = "LAMP"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Layer-adaptive Sparsity for the Magnitude-based Pruning", "Lee et al., ICLR 2021, arXiv 2010.07611", "C"),
    )
    evidence: ClassVar[Evidence] = "C"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002 - a method's signature
        """One sort of the matrix."""
        import torch

        return torch.from_numpy(lamp_scores(w.cpu().numpy())).to(w)
