"""GraSP's layer ratios: remove first what holds the gradient flow back, or adds least to it.

1. Logits are divided by a temperature (200 in the source); g is the gradient of the mean loss over the calibration examples (in the
   source 25 of each class).
2. Hg: the Hessian of that loss times g, by a second backward pass.
3. Score -w (Hg); the source divides by the size of the sum of all, which changes no rank. The *largest* go.
4. What goes of a matrix is its share; inside it the method's own scores decide.

Source: Wang et al., ICLR 2020, as a ratio in Liu et al., ICLR 2022; METHODS A3, from the latter's code. Made for networks at
initialisation: of a trained model g is small and the ranking noisy. A matrix may lose everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.ratios.snip import RANDOM_PRUNING, shares_of_lowest
from analysis.interventions.spec import Need
from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.spec import Evidence, Source


@dataclass(frozen=True)
class Grasp(Ratio):
    """Shares by -w Hg over all matrices: the lowest of w Hg go."""

    slug: ClassVar[str] = "grasp"
    title: ClassVar[str] = "GraSP ratio"
    needs: ClassVar[frozenset[Need]] = frozenset({"hessian"})
    sources: ClassVar[tuple[Source, ...]] = (RANDOM_PRUNING,)
    evidence: ClassVar[Evidence] = "C"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002
        """Ranked once for all levels."""
        found = [measured(matrix.inputs).want("hessian_gradient") for matrix in matrices]
        return shares_of_lowest(lambda i: matrices[i].dense() * found[i], [(len(h), h[0].numel()) for h in found])
