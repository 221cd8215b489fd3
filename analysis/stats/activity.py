"""What "active" means. The one place; everything that counts firings asks here.

A neuron i is active on token t when

    |a_ti| * weight_i > threshold_t            (float32 on both sides; strict, so a zero is never active)

with three ways of choosing weight and threshold:

- relative contribution, the primary definition: weight_i = ||w_out_i||_2 and threshold_t = theta * ||FFN(x_t)||_2, so
  active means that what the neuron writes is more than the share theta of the norm of what the whole FFN writes. It
  works for every activation function and does not change when a factor is moved from the activation into the weight.
- exact nonzero, where there is no output norm: weight 1, threshold 0.
- magnitude above tau: weight 1, threshold tau.

Unit: none (a share of the output norm) for theta, the activation's own for tau. Source: ours; the neuron's output magnitude
|a| ||w|| is that of Sparsing Law (METHODS B3), which compares it with one number per layer and not with the token's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RuleKind = Literal["relative", "nonzero", "magnitude"]
DEFAULT_THETA = 0.01
"""One per cent of the norm of the FFN's output on that token. Ours."""


@dataclass(frozen=True, eq=False)
class ActiveRule:
    """A choice of weight and threshold. Make one with `relative_contribution`, `exact_nonzero` or `above_magnitude`."""

    kind: RuleKind
    level: float
    """theta, 0 or tau."""
    weight: NDArray[np.float32]
    """[n_neurons]"""

    @property
    def words(self) -> str:
        """The definition in words, for captions."""
        if self.kind == "relative":
            return f"relative contribution |a| ||w_out|| / ||FFN(x)|| above {self.level:g}"
        return "not exactly zero" if self.kind == "nonzero" else f"magnitude above {self.level:g}"

    def thresholds(self, n_rows: int, scale: ArrayLike | None) -> NDArray[np.float32]:
        """threshold_t of each row, [n_rows] float32; +inf (never active) where the output norm is not finite."""
        if self.kind != "relative":
            return np.full(n_rows, self.level, np.float32)
        if scale is None:
            raise ValueError("scale must be given for the relative contribution, got None; pass ||FFN(x)|| per row or use `exact_nonzero`.")
        norms = np.asarray(scale, dtype=np.float64)
        return np.where(np.isfinite(norms), self.level * norms, np.inf).astype(np.float32)

    def same_as(self, other: ActiveRule) -> bool:
        """Whether the two count the same thing."""
        return self.kind == other.kind and self.level == other.level and np.array_equal(self.weight, other.weight)


def relative_contribution(weight_norm: ArrayLike, theta: float = DEFAULT_THETA) -> ActiveRule:
    """The primary definition, from ||w_out_i||_2 [n_neurons] and theta > 0."""
    norms = np.ascontiguousarray(weight_norm, dtype=np.float32)
    if not theta > 0:
        raise ValueError(f"theta must be above 0, got {theta!r}; use `exact_nonzero` to count every nonzero activation.")
    if norms.ndim != 1 or not np.isfinite(norms).all() or (norms < 0).any():
        raise ValueError(f"weight_norm must be one finite norm per neuron, got shape {norms.shape}; check the output weights.")
    return ActiveRule("relative", float(theta), norms)


def exact_nonzero(n_neurons: int) -> ActiveRule:
    """a != 0, for activation functions with exact zeros and sites without an output norm."""
    return ActiveRule("nonzero", 0.0, np.ones(n_neurons, np.float32))


def above_magnitude(n_neurons: int, tau: float) -> ActiveRule:
    """|a| > tau >= 0."""
    if not (tau >= 0 and np.isfinite(tau)):
        raise ValueError(f"tau must be a finite number of at least 0, got {tau!r}; 0 counts every nonzero activation.")
    return ActiveRule("magnitude", float(tau), np.ones(n_neurons, np.float32))


def is_active(values: ArrayLike, rule: ActiveRule, scale: ArrayLike | None = None) -> NDArray[np.bool_]:
    """values [T, n_neurons] -> active or not, by the rule. Values that are not finite are not active."""
    rounded = np.asarray(values, dtype=np.float32)
    contribution = np.abs(rounded) * rule.weight
    return (contribution > rule.thresholds(len(rounded), scale)[:, None]) & np.isfinite(rounded)
