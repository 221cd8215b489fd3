"""Wanda: weight times activation. A weight matters as much as it is large and as what it reads is large.

1. Norms |x_j| of every input feature over the calibration rows.
2. Score S_ij = |W_ij| |x_j|.
3. Within each output row, the int(d_in s) lowest go, ties by lowest index; N of M: in every group of M inputs the N highest stay.

Source: Sun et al., ICLR 2024, Eq. 1; METHODS A7, from the official code. Ours is *dense-input Wanda*: the statistics come from the dense
model, once, for all levels; the published variant re-captures them after pruning earlier blocks. An input that is always 0
scores 0 and goes first. Scaling all inputs changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.spec import Need
from analysis.interventions.weights.method import Asked, Method
from analysis.spec import Evidence, Source, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs

SHARE = (0.0, 0.8)
"""Where alpha is looked for, and the first guess is the middle."""
TOLERANCE = 0.001
STEPS = 60


def wanda_scores(w: Tensor, norms: Tensor) -> Tensor:
    """|W_ij| |x_j|, float64 [d_out, d_in], from w [d_out, d_in] and norms [d_in]; 0 and up, units of an output."""
    return w.double().abs() * norms.double()


def cumulative_kept(scores: Tensor, level: float) -> Tensor:
    """bool [d_out, d_in]: each row loses its lowest scores up to a share alpha of the row's total; alpha is bisected until the
    matrix loses its level within 0.001, or as near as it comes. The source's ``wanda_variant``.
    """
    import torch

    if level <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    order = scores.argsort(dim=1, stable=True)
    cumulative = scores.gather(1, order).cumsum(1)
    low, high = SHARE
    alpha, gone = 0.4, cumulative < 0
    for _ in range(STEPS):
        gone = cumulative <= alpha * scores.sum(1, keepdim=True)
        away = float(gone.double().mean()) - level
        if abs(away) <= TOLERANCE:
            break
        low, high = (low, alpha) if away > 0 else (alpha, high)
        alpha = (low + high) / 2
    return torch.ones_like(gone).scatter(1, order, ~gone)


SOURCE = Source("A Simple and Effective Pruning Approach for Large Language Models", "Sun et al., ICLR 2024, arXiv 2306.11695", "C")


@dataclass(frozen=True)
class Wanda(Method):
    """Score |W_ij| |x_j|; made to be compared inside a row."""

    slug: ClassVar[str] = "wanda"
    title: ClassVar[str] = "Wanda (dense inputs)"
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    sources: ClassVar[tuple[Source, ...]] = (SOURCE,)
    evidence: ClassVar[Evidence] = "C"
    comparable: ClassVar[bool] = False
    by_row: ClassVar[bool] = True

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002
        """Norms are per sequence, as in the source; within a row that changes nothing."""
        return wanda_scores(w, measured(inputs).norms_per_sequence()).float()


@dataclass(frozen=True)
class WandaCumulative(Wanda):
    """The variant that removes a share of each row's total score, so that rows lose different numbers of weights."""

    slug: ClassVar[str] = "wanda-cumulative"
    title: ClassVar[str] = "Wanda, share of each row's score (dense inputs)"
    updates: ClassVar[bool] = True

    def prune(self, w: Tensor, inputs: MatrixInputs | None, asked: Asked) -> Tensor:
        """The weights that stay are not changed."""
        if not asked.structure.is_unstructured:
            raise UserError(f"{self.slug} must be unstructured, got {asked.structure.slug}; use wanda for patterns.")
        return w * cumulative_kept(wanda_scores(w, measured(inputs).norms_per_sequence()), asked.level)
