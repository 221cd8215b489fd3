"""oBERT: second-order saliency from the empirical Fisher matrix of each block of consecutive weights.

1. F = lambda I + (1/m) sum over m examples of g g^T, per block of B = 50 consecutive weights (rows of the matrix laid end to end,
   the last block padded with weights of 0).
2. Its inverse by rank-one updates (Sherman and Morrison), never by an inversion: start at I / lambda, and for each gradient
   u = F^-1 g, F^-1 -= u u^T / (m + g^T u).
3. Saliency of one weight: w^2 / (2 [F^-1]_pp + eps); of a group Q: 1/2 w_Q^T ([F^-1]_QQ)^-1 w_Q.
4. Update of the rest of the block: the sum over the pruned p of -F^-1[:, p] w_p / [F^-1]_pp, as the code has it.

Gradients are of single examples, each divided by the square root of its scored positions, so that F is the curvature of the loss per
position: ours. The source takes the gradient of a batch's mean loss for one of the m, and a batch's mean gradient squared is no Fisher
matrix; beside the damping, that scale changes what is removed (METHODS A11: compare ranks, not values).
Source: Kurtic et al., EMNLP 2022; METHODS A11: blocks, inverse, saliency and update from the official code.
Memory: 8 B bytes per weight in scope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.spec import Need
from analysis.interventions.structures import keep_mask
from analysis.interventions.weights.method import Asked, Method
from analysis.interventions.weights.taylor import PER_POSITION
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs

BLOCK = 50
DAMP = 1e-7
EPS = 1e-12
"""Below every saliency's denominator."""


def in_blocks(values: Tensor, block: int = BLOCK) -> Tensor:
    """Any tensor's entries in their order as [blocks, B], float64; the last block is filled up with 0."""
    import torch

    flat = values.reshape(-1).double()
    missing = -len(flat) % block
    return torch.nn.functional.pad(flat, (0, missing)).view(-1, block)


class InverseFisher:
    """F^-1 of every block of a matrix, one gradient at a time. O(numel B) memory and time a gradient."""

    def __init__(self, numel: int, m: int, *, block: int = BLOCK, damp: float = DAMP, device: str = "cpu") -> None:
        import torch

        self.block, self.m = block, m
        self.values = (torch.eye(block, dtype=torch.float64, device=device) / damp).repeat(-(-numel // block), 1, 1)
        """float64 [blocks, B, B]."""

    def add(self, gradient: Tensor) -> None:
        """One of the m gradients; any shape with the matrix' entries in their order."""
        g = in_blocks(gradient, self.block)
        u = (self.values @ g[:, :, None]).squeeze(2)
        scale = self.m + (g * u).sum(1)
        self.values.baddbmm_((u / scale[:, None])[:, :, None], u[:, None, :], alpha=-1)


def obert_scores(w: Tensor, inverse: Tensor) -> Tensor:
    """rho = w^2 / (2 [F^-1]_pp + eps) of each weight, float64, in the shape of w; 0 and up, in units of the loss.

    inverse [blocks, B, B]. Larger: the loss is predicted to rise by more where this weight alone goes and the block makes up for it.
    """
    diagonal = inverse.diagonal(dim1=1, dim2=2).reshape(-1)[: w.numel()].view(w.shape)
    return w.double() ** 2 / (2 * diagonal + EPS)


def obert_group_saliency(w: Tensor, inverse: Tensor, group: Tensor) -> float:
    """1/2 w_Q^T ([F^-1]_QQ)^-1 w_Q of the weights at the places ``group`` of one block; w [B], inverse [B, B]. METHODS A11."""
    import torch

    chosen = w[group].double()
    return float(chosen @ torch.linalg.solve(inverse[group][:, group].double(), chosen) / 2)


def obert_update(w: Tensor, inverse: Tensor, kept: Tensor) -> Tensor:
    """The matrix after the sum of the single-weight updates of all that goes; exactly 0 where not kept. float64, shape of w.

    With one pruned weight a block this is the optimal step; with several it counts each as if it went alone (as the code does).
    """
    import torch

    blocks = in_blocks(w, inverse.shape[1])
    gone = ~in_blocks(torch.ones_like(w) * kept, inverse.shape[1]).bool()
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    step = torch.where(gone, blocks / diagonal, 0.0)
    moved = blocks - (inverse @ step[:, :, None]).squeeze(2)
    return moved.reshape(-1)[: w.numel()].view(w.shape) * kept


SOURCE = Source("The Optimal BERT Surgeon", "Kurtic et al., EMNLP 2022, arXiv 2203.07259", "C")


@dataclass(frozen=True)
class OBert(Method):
    """Saliency of single weights; nothing that stays is changed."""

    slug: ClassVar[str] = "obert"
    title: ClassVar[str] = "oBERT block Fisher"
    needs: ClassVar[frozenset[Need]] = frozenset({"fisher"})
    sources: ClassVar[tuple[Source, ...]] = (SOURCE, PER_POSITION)
    evidence: ClassVar[Evidence] = "O"

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002
        """Saliency, in units of the loss: comparable over the scope."""
        return obert_scores(w, measured(inputs).want("fisher_inverse")).float()


@dataclass(frozen=True)
class OBertUpdate(OBert):
    """The same saliency within each matrix, and what stays is moved to make up for what goes."""

    slug: ClassVar[str] = "obert-update"
    title: ClassVar[str] = "oBERT block Fisher, with update"
    updates: ClassVar[bool] = True

    def prune(self, w: Tensor, inputs: MatrixInputs | None, asked: Asked) -> Tensor:
        """The mask is that of the scores; level 0 is the identity."""
        kept = keep_mask(self.score(w, inputs, asked.seed), asked.level, asked.structure)
        if bool(kept.all()):
            return w.clone()
        return obert_update(w, measured(inputs).want("fisher_inverse"), kept).to(w)
