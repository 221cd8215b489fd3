"""SNIP's layer ratios: how much each matrix keeps where the weights with the largest |w dL/dw| are kept over all matrices.

1. Score of each weight |w g|, g the gradient of the mean loss on the calibration examples (which is the gradient of a mask at 1). The
   source divides by the sum of all, which changes no rank.
2. The lowest share of all weights goes. What goes of a matrix is its share.
3. Inside the matrix the method's own scores decide; in the source, chance.

Source: Lee et al., ICLR 2019, as a ratio in Liu et al., ICLR 2022; METHODS A3, from the latter's code, which draws new weights before
it takes the gradient (it prunes at initialisation). Here the weights are the model's own. A matrix may lose everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.selecting import select
from analysis.interventions.spec import Need
from analysis.interventions.structures import UNSTRUCTURED
from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.interventions.weights.taylor import taylor_scores
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

RANDOM_PRUNING = Source("The Unreasonable Effectiveness of Random Pruning", "Liu et al., ICLR 2022, arXiv 2202.02643", "C")


def shares_of_lowest(scores: Callable[[int], Tensor], shapes: Sequence[tuple[int, int]]) -> SharesAt:
    """From a level to the share of each matrix among the floor(N level) lowest scores of all N; larger stays.

    scores: of matrix i, float32 [d_out, d_in]. The shares' mean weighted by size is floor(N level) / N.
    """
    selection = select(scores, shapes, UNSTRUCTURED, "global")
    sizes = [d_out * d_in for d_out, d_in in shapes]
    return lambda level: [gone / n for gone, n in zip(selection.removed([level] * len(sizes)), sizes)]


@dataclass(frozen=True)
class Snip(Ratio):
    """Shares by |w g| over all matrices."""

    slug: ClassVar[str] = "snip"
    title: ClassVar[str] = "SNIP ratio"
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})
    sources: ClassVar[tuple[Source, ...]] = (RANDOM_PRUNING,)
    evidence: ClassVar[Evidence] = "C"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002
        """Ranked once for all levels."""
        gradients = [measured(matrix.inputs).want("gradient") for matrix in matrices]
        return shares_of_lowest(lambda i: taylor_scores(matrices[i].dense(), gradients[i]), [(len(g), g[0].numel()) for g in gradients])
