"""Shares of a global magnitude order, lifted so that no matrix falls below a least number of weights (METHODS A2).

1. Of all magnitudes, the lowest share goes; what goes of a matrix is its first share.
2. Shares that leave less than ``percent`` of all weights are lowered to just that, the others scaled up until the level is met.

The loop of step 2 is `stats.ratios.with_floor`. A matrix' share may fall where another one's floor is lifted, so masks of rising
levels need not be nested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.interventions.ratios.snip import shares_of_lowest
from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.spec import Evidence, Source, UserError
from analysis.stats.ratios import FLOOR_PERCENT, Infeasible, floor_weights, with_floor


@dataclass(frozen=True)
class GlobalFloor(Ratio):
    """Global magnitude shares with a floor."""

    percent: float = FLOOR_PERCENT
    """Of all weights in scope, that each matrix keeps."""

    slug: ClassVar[str] = "global_floor"
    title: ClassVar[str] = "Global with a least number of weights"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Is Complexity Required for Neural Network Pruning?", "Gupta et al., 2022, arXiv 2209.14624", "C"),
    )
    evidence: ClassVar[Evidence] = "C"
    nested: ClassVar[bool] = False

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002 - the source's order is by magnitude
        """One histogram of the magnitudes."""
        lowest = shares_of_lowest(lambda i: matrices[i].dense().abs(), [(m.d_out, m.d_in) for m in matrices])
        sizes = [matrix.n for matrix in matrices]
        least = floor_weights(sum(sizes), self.percent)

        def shares(level: float) -> list[float]:
            try:
                return with_floor(sizes, lowest(level), level, least).tolist()
            except Infeasible as error:
                raise UserError(str(error)) from error

        return shares
