"""First-order Taylor importance: how much the loss changes, to first order, where a weight or a unit is set to zero.

w g is the change of the loss as w goes to 0, with the sign turned; so its size says how much the weight is missed.

- single weights: |w g| with g the gradient of the mean loss; or w^2 E[g^2], the same squared before the mean over examples.
- units (rows of the matrix, or any group of weights), four forms with different numbers:
  ``group``        (sum_k w_k g_k)^2, the paper's
  ``squares``      sum_k (w_k g_k)^2, the repository's method 0
  ``absolute``     sum_k |w_k g_k|
  ``multivariable`` |sum_k w_k g_k|, Torch-Pruning's
- gate: E over examples of (dL / d gate)^2 for a gate of 1 at the unit's output: for a linear unit, before its bias, this is the
  ``group`` form of each example, squared before the mean.

A model at a minimum has g = 0: |w g| then says nothing, and the forms that square before the mean still do.
Source: Molchanov et al., CVPR 2019; METHODS A20, from the official code (re-implemented) and VainF/Torch-Pruning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.spec import Need
from analysis.interventions.weights.method import Method
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs

UnitForm = Literal["group", "squares", "absolute", "multivariable"]


def taylor_scores(w: Tensor, gradient: Tensor) -> Tensor:
    """|w g| of each weight, in units of the loss; [d_out, d_in]. 0 where either is 0."""
    return (w * gradient).abs()


def squared_taylor_scores(w: Tensor, gradient_square: Tensor) -> Tensor:
    """w^2 E[g^2] of each weight, with the mean over examples: 0 and up. Half of it is the loss that the Fisher diagonal predicts."""
    return w**2 * gradient_square


def unit_taylor(w: Tensor, gradient: Tensor, form: UnitForm = "group") -> Tensor:
    """Importance [d_out] of each row of w [d_out, d_in] with its gradient."""
    product = w.double() * gradient.double()
    forms = {
        "group": lambda: product.sum(1) ** 2,
        "squares": lambda: (product**2).sum(1),
        "absolute": lambda: product.abs().sum(1),
        "multivariable": lambda: product.sum(1).abs(),
    }
    return forms[form]()


SOURCE = Source("Importance Estimation for Neural Network Pruning", "Molchanov et al., CVPR 2019, arXiv 1906.10771", "C")
PER_POSITION = Source("The scale of the gradients: of single examples, over the square root of their positions", "our own", "O")


@dataclass(frozen=True)
class Taylor(Method):
    """|w g| of each weight, g of the mean loss."""

    slug: ClassVar[str] = "taylor"
    title: ClassVar[str] = "First-order Taylor"
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})
    sources: ClassVar[tuple[Source, ...]] = (SOURCE,)
    evidence: ClassVar[Evidence] = "C"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002
        """In units of the loss: comparable over the scope."""
        return taylor_scores(w, measured(inputs).want("gradient"))


@dataclass(frozen=True)
class TaylorSquared(Taylor):
    """w^2 E[g^2] of each weight, over single examples."""

    slug: ClassVar[str] = "taylor-squared"
    title: ClassVar[str] = "First-order Taylor, squared by example"
    sources: ClassVar[tuple[Source, ...]] = (SOURCE, PER_POSITION)
    evidence: ClassVar[Evidence] = "O"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002
        """Twice the loss that the Fisher diagonal predicts."""
        return squared_taylor_scores(w, measured(inputs).want("gradient_square"))
