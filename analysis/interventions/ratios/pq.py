"""Shares by how concentrated each matrix' magnitudes are: the PQ Index of sparsity-informed adaptive pruning (METHODS A12).

1. I = PQ Index of a matrix' weights; at least m = n (1 - I)^(pq / (q - p)) of its n weights are to stay (eta = 0).
2. Its share is gamma (1 - m / n), at most 1.

The source prunes with a given gamma and retrains, step by step. Here gamma is chosen so that the shares make up the level: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.spec import Evidence, Source

P, Q = 0.5, 1.0
_LEAST = 1e-6
"""Of 1 - m / n, so that a matrix of equal magnitudes takes part where nothing else is left."""


def removable_share(matrix: Matrix) -> float:
    """1 - m / n of the dense weights, 0 (all magnitudes equal) to 1 (one weight carries all)."""
    from analysis.stats.sparsity import PowerSums, pq_keep_bound

    sums = PowerSums((P, Q))
    sums.update(matrix.dense())
    return 1.0 - pq_keep_bound(1, float(sums.pq_index(P, Q).value), P, Q)


@dataclass(frozen=True)
class PQ(Ratio):
    """Shares in proportion to 1 - m / n."""

    slug: ClassVar[str] = "pq"
    title: ClassVar[str] = "PQ Index"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Pruning Deep Neural Networks from a Sparsity Perspective", "Diao et al., ICLR 2023, arXiv 2302.05601", "C"),
        Source("The factor that meets a given level", "our own", "O"),
    )
    evidence: ClassVar[Evidence] = "O"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002 - a ratio's signature
        """One pass over the weights."""
        import numpy as np

        from analysis.stats.ratios import erdos_renyi

        raw = np.maximum([removable_share(matrix) for matrix in matrices], _LEAST)
        sizes = np.array([matrix.n for matrix in matrices], np.int64)
        return lambda level: erdos_renyi(raw, sizes, level)[0].tolist()  # min(1, gamma raw), of mean `level`
