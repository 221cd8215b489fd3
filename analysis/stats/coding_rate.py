"""Coding rates of tokens, as CRATE measures its layers: how much room they take, and how much within each head's subspace.

Tokens are rows Z [N, d]. Determinants by `slogdet` in float64, of whichever of N x N and d x d is smaller: both are equal.
Source: Yu et al. 2023, arXiv 2306.01129; METHODS D9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EPS_SQUARED = 0.01
"""What the authors' code puts in place of epsilon squared, beside tokens of length 1."""


def coding_rate(z: Tensor, eps_squared: float = EPS_SQUARED, dimension: int | None = None) -> float:
    """R = 1/2 ln det(I + d / (N eps^2) Z Z^T) of rows z [N, d], in nats, 0 (all zero) and up; ``dimension``: d, where it is not the width.

    N equal rows of length 1: 1/2 ln(1 + d / eps^2); N = d orthonormal ones: d/2 ln(1 + 1 / eps^2).
    """
    import torch

    n, width = z.shape
    if not n or not width:
        raise ValueError(f"a coding rate must be of at least one row and one column, got {n} x {width}; leave it out.")
    if not eps_squared > 0:
        raise ValueError(f"eps_squared must be above 0, got {eps_squared!r}; the authors use {EPS_SQUARED}.")
    wide = z.detach().double()
    gram = wide @ wide.T if n <= width else wide.T @ wide
    scale = (width if dimension is None else dimension) / (n * eps_squared)
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    return float(torch.linalg.slogdet(identity + scale * gram).logabsdet / 2)


def coding_rate_of_parts(z: Tensor, subspaces: Sequence[Tensor], eps_squared: float = EPS_SQUARED) -> float:
    """R^c = sum_k 1/2 ln det(I + p / (N eps^2) (Z U_k)(Z U_k)^T) in nats; z [N, d], each U_k [d, p] with orthonormal columns."""
    return sum(coding_rate(z.double() @ basis.double(), eps_squared) for basis in subspaces)


def column_space(weight: Tensor) -> Tensor:
    """Orthonormal basis [d, p] of what a projection [p, d] reads: the row space of the matrix, d of its inputs; p its rank.

    For transformers other than CRATE, U_k is taken from head k's value projection. Source: ours.
    """
    import torch

    left, values, _ = torch.linalg.svd(weight.detach().double().T, full_matrices=False)
    rank = int((values > values.max() * max(weight.shape) * torch.finfo(torch.float64).eps).sum())
    return left[:, :rank]


def unit_tokens(z: Tensor) -> Tensor:
    """Rows at length 1 in float64; zero rows stay zero. As the authors' code normalises what it measures."""
    import torch

    wide = z.detach().double()
    length = wide.norm(dim=1, keepdim=True)
    return wide / torch.where(length > 0, length, 1.0)


def ista_step(x: Tensor, dictionary: Tensor, step: float = 0.1, penalty: float = 0.1) -> Tensor:
    """ReLU(x + eta (D^T x - D^T D x) - eta lambda) for rows x [N, d], D [d, d]: one step of CRATE's sparsification, as its code has it."""
    return (x + step * (x @ dictionary - x @ dictionary.T @ dictionary) - step * penalty).relu()
