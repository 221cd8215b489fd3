"""What was measured of one matrix on the calibration split, and the numbers that methods make of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.spec import Need

_MEASURED: dict[Need, str] = {
    "inputs": "square_sum",
    "gram": "gram",
    "gradients": "gradient",
    "fisher": "fisher_inverse",
    "hessian": "hessian_gradient",
}
"""What holds each need."""


@dataclass
class MatrixInputs:
    """What was measured of one matrix [d_out, d_in]; None where it was not asked for."""

    n: int = 0
    """Rows read: tokens, padding left out; patches of a convolution."""
    n_sequences: int = 0
    """Examples of the whole calibration set, by which several sources divide."""
    square_sum: Tensor | None = None
    """float64 [d_in]: sum of x_j^2 over rows."""
    total: Tensor | None = None
    """float64 [d_in]: sum of x_j."""
    gram: Tensor | None = None
    """float64 [d_in, d_in]: X^T X."""
    gradient: Tensor | None = None
    """float32 [d_out, d_in]: of the mean loss per position."""
    gradient_square: Tensor | None = None
    """float32 [d_out, d_in]: diagonal of the empirical Fisher matrix per position, from gradients of single examples."""
    gate_square: Tensor | None = None
    """float64 [d_out]: mean over examples of (sum_k w_k g_k)^2, the squared gradient of a gate at the unit's output before its bias."""
    hessian_gradient: Tensor | None = None
    """float32 [d_out, d_in]: Hessian of the mean loss, logits over a temperature, times its gradient."""
    fisher_inverse: Tensor | None = None
    """float64 [blocks, B, B]: inverse of the dampened empirical Fisher matrix of each B consecutive weights."""
    derived: dict[str, Any] = field(default_factory=dict, repr=False)
    """What methods made of these and want again at the next level."""

    def norms(self) -> Tensor:
        """|x_j| [d_in] over all rows, float64. The sources divide by the square root of the number of sequences, which changes no rank."""
        return self.want("square_sum").sqrt()

    def norms_per_sequence(self) -> Tensor:
        """sqrt(sum of x_j^2 / sequences) [d_in], as the sources have it."""
        return (self.want("square_sum") / max(1, self.n_sequences)).sqrt()

    def sums_per_sequence(self) -> Tensor:
        """sum of x_j / sequences [d_in]."""
        return self.want("total") / max(1, self.n_sequences)

    def variance(self) -> Tensor:
        """Of x_j over rows, divided by their number [d_in]; 0 and up."""
        n = max(1, self.n)
        return (self.want("square_sum") / n - (self.want("total") / n) ** 2).clamp(min=0)

    def has(self, needs: Collection[Need]) -> bool:
        """Whether all of this was measured: of an expert that no token reached there may be gradients, and no inputs."""
        return all(getattr(self, _MEASURED[need]) is not None for need in needs)

    def want(self, name: str) -> Tensor:
        """One of the measured tensors. Raises `UserError` where it was not asked for."""
        found = getattr(self, name)
        if found is None:
            raise UserError(f"the calibration must hold {name} for this method, got none; calibrate with the method's needs.")
        return found


def measured(inputs: MatrixInputs | None) -> MatrixInputs:
    """The inputs that a method was given. Raises `UserError` where there are none."""
    if inputs is None:
        raise UserError("this method must be given what its matrix reads, got nothing; calibrate first, with the method's needs.")
    return inputs
