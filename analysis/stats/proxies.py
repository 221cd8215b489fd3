"""What pruning a matrix will cost, predicted without running the pruned model; and whether the prediction ranks as the measurement does.

All from the removed part D = W - W_pruned of a matrix [d_out, d_in] and sums over the dense model's pass.
Source: METHODS A20 (Taylor); SENSITIVITY 8.4 (output error, Fisher). Thresholds of `trust_words` are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 5
"""Matrices below which a rank correlation says nothing."""
TRUSTED, USELESS = 0.8, 0.5
"""Rank correlation from which on a proxy may stand for the measurement, and below which it may not even choose what to measure."""


def output_square(part: Tensor, moments: Tensor) -> float:
    """trace(D G D^T): the summed squared change of the matrix' outputs, 0 and up; 0 for D = 0.

    part [d_out, d_in]; moments: G = X^T X [d_in, d_in] over the rows x of what the matrix reads, or its diagonal [d_in] alone, which takes
    inputs for uncorrelated. Unit: squared outputs, summed over rows and outputs.
    """
    d, g = part.double(), moments.to(part.device).double()
    return float((d**2 @ g).sum()) if g.ndim == 1 else float(((d @ g) * d).sum().clamp(min=0))


def output_error(removed: Tensor, dense: Tensor, moments: Tensor) -> float:
    """Length of the change of a matrix' outputs over the length of its outputs, sqrt(tr(D G D^T) / tr(W G W^T)), 0 and up.

    0 where the matrix gives nothing: then its removal changes nothing either.
    """
    whole = output_square(dense, moments)
    return float(np.sqrt(output_square(removed, moments) / whole)) if whole > 0 else 0.0


def taylor_increase(removed: Tensor, gradient: Tensor) -> float:
    """-sum D g: the change of the mean loss to first order, in its unit, of either sign. Both [d_out, d_in]."""
    return -float((removed.double() * gradient.double()).sum())


def fisher_increase(removed: Tensor, gradient_square: Tensor) -> float:
    """sum D^2 E[g^2] / 2: the increase of the loss that a diagonal empirical Fisher matrix predicts at a minimum; 0 and up."""
    return 0.5 * float((removed.double() ** 2 * gradient_square.double()).sum())


@dataclass(frozen=True)
class RankAgreement:
    """How alike two rankings are."""

    n: int
    value: float | None
    """Spearman's rank correlation, -1 to 1; None where there are too few, or one of the two has no order."""
    low: float | None
    high: float | None
    words: str


def rank_agreement(proxy: ArrayLike, measured: ArrayLike, draws: ArrayLike | None = None) -> RankAgreement:
    """Spearman's correlation of a proxy [n] with the measured values [n], its interval from the measurement's draws [draws, n]."""
    x, y = np.asarray(proxy, np.float64), np.asarray(measured, np.float64)
    value = _spearman(x, y) if len(x) >= FEWEST else None
    if value is None:
        why = f"{len(x)} matrices are too few" if len(x) < FEWEST else "one of the two is the same for all"
        return RankAgreement(len(x), None, None, None, f"cannot be told: {why}")
    low = high = None
    if draws is not None:
        each = [found for row in np.asarray(draws, np.float64) if (found := _spearman(x, row)) is not None]
        low, high = (float(end) for end in np.quantile(each, [0.025, 0.975])) if each else (None, None)
    return RankAgreement(len(x), value, low, high, trust_words(value, low, high))


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(y)
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))


def trust_words(value: float, low: float | None, high: float | None) -> str:
    """Whether a proxy of that rank correlation may be trusted, as a sentence's part."""
    worst, best = (value if low is None else low), (value if high is None else high)
    if worst >= TRUSTED:
        return "the proxy may be trusted to rank on this model"
    if best < USELESS or value < USELESS:
        return "the proxy may not be trusted on this model"
    return "the proxy may choose what to measure on this model, but not replace the measurement"
