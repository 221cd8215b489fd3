"""OWL: blocks with more outliers keep more weights.

1. Per block: pool the Wanda scores S of all its matrices; D = 100 mean(S > M mean(S)), the share of outliers in percent.
2. Density of block l: 2 lambda (D_l - min D) / (max D - min D), minus the mean of that, plus 1 - s. Blocks of equal D all get 1 - s.
3. ``text``: the mean is weighted by the blocks' sizes, and where a density would leave [0, 1] all shifts are made smaller by one
   factor, so that the overall level is what was asked for, shares grow with the level, and level 0 removes nothing.
   ``code``: the mean is over blocks, and a sparsity of 0 or below becomes 0.01, whatever that does to the overall level.

Source: Yin et al., ICML 2024; METHODS A10, from the official code (M = 3 there by default, 5 in its published commands).
Matrices outside of blocks form a block of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.selecting import Variant
from analysis.interventions.spec import Need
from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.interventions.weights.wanda import wanda_scores
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

FACTOR = 5.0
"""M: times the mean score above which a score is an outlier."""
SPREAD = 0.08
"""Lambda: half the range of densities."""
LEAST = 0.01
"""Sparsity of a block that would have none, in the code."""


def outlier_share(matrices: Iterable[tuple[Tensor, Tensor]], factor: float = FACTOR) -> float:
    """D of one block, in percent, 0 to 100: from pairs of weights [d_out, d_in] and norms per sequence [d_in]; 0 for an empty block."""
    scores = [wanda_scores(*pair) for pair in matrices]
    n = sum(one.numel() for one in scores)
    if not n:
        return 0.0
    mean = sum(float(one.sum()) for one in scores) / n
    return 100 * sum(int((one > factor * mean).sum()) for one in scores) / n


def owl_densities(
    outliers: Sequence[float],
    sparsity: float,
    spread: float = SPREAD,
    *,
    sizes: Sequence[int] | None = None,
    variant: Variant = "text",
) -> NDArray[np.float64]:
    """Density of each block, 0 to 1, from its D, at a sparsity of the whole in [0, 1]; ``sizes`` in weights, equal where not given."""
    found = np.asarray(outliers, dtype=np.float64)
    if len(found) == 0 or found.max() == found.min():
        return np.full(len(found), 1.0 - sparsity)
    scaled = 2 * spread * (found - found.min()) / (found.max() - found.min())
    if variant == "code":
        density = scaled - scaled.mean() + (1 - sparsity)
        return np.where(density >= 1, 1 - LEAST, np.maximum(density, 0.0))
    shift = scaled - np.average(scaled, weights=sizes)
    room = min(1.0, sparsity / shift.max(), (1 - sparsity) / -shift.min())
    return np.clip(room * shift + (1 - sparsity), 0.0, 1.0)


@dataclass(frozen=True)
class Owl(Ratio):
    """Shares by block, from the outliers of Wanda's scores."""

    factor: float = FACTOR
    spread: float = SPREAD

    slug: ClassVar[str] = "owl"
    title: ClassVar[str] = "OWL ratio (dense inputs)"
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Outlier Weighed Layerwise Sparsity (OWL)", "Yin et al., ICML 2024, arXiv 2310.05175", "C"),
    )
    evidence: ClassVar[Evidence] = "C"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002
        """Outliers are counted once; a level is a formula."""
        blocks: dict[tuple[int | None, str], list[Matrix]] = {}
        for matrix in matrices:
            blocks.setdefault(_block(matrix), []).append(matrix)
        found = [
            outlier_share(((m.dense(), measured(m.inputs).norms_per_sequence()) for m in block), self.factor) for block in blocks.values()
        ]
        sizes = [sum(m.n for m in block) for block in blocks.values()]
        place = {block: i for i, block in enumerate(blocks)}

        def shares(level: float) -> list[float]:
            density = owl_densities(found, level, self.spread, sizes=sizes)
            return [float(1 - density[place[_block(m)]]) for m in matrices]

        return shares


def _block(matrix: Matrix) -> tuple[int | None, str]:
    """Which block it lies in: an encoder's first and a decoder's first are two."""
    if matrix.layer is None or not matrix.role:
        return matrix.layer, ""
    name = matrix.name.rpartition("[")[0] if matrix.name.endswith("]") else matrix.name
    return matrix.layer, name.removesuffix(".weight").removesuffix(matrix.role)
