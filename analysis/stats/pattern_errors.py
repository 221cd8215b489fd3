"""How far a pattern is from a sparse one, a low-rank one, and the sum of both, at the same number of stored numbers.

Error: |A - B|_F / |A|_F over all rows of a window; nothing is renormalised, and low-rank parts may be negative. Budget ``keys`` per
query, n keys numbers in all: the ``keys`` largest of each row; rank keys / 2 (2 n r numbers); or half of each. Source: METHODS C15
(Scatterbrain; the curve is ours).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 6
"""Alternating projections at most; the best round is taken."""


def sparse_error(weights: Tensor, keys: int) -> Tensor:
    """[heads]: error of the ``keys`` largest weights of each row. T4, one key: .488397. Every key: 0."""
    return _relative(weights - _largest(weights, keys), weights)


def spectrum(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values, falling, [heads, n], and left singular vectors [heads, n, n], by the eigenvectors of A A^T in float64:
    values are exact to about 1e-8 of the largest. T4: 1.201870, .701972, .384043, .308634."""
    import torch

    wide = weights.double()
    values, vectors = torch.linalg.eigh(wide @ wide.transpose(1, 2))
    return values.flip(1).clamp(min=0), vectors.flip(2)


def rank_error(squares: Tensor, rank: int) -> Tensor:
    """[heads]: error of the best matrix of that rank, from squared singular values. T4: rank 1 .580852, rank 2 .333692. Full rank: 0."""
    return (squares[:, rank:].sum(1) / squares.sum(1)).sqrt()


def combined_error(weights: Tensor, keys: int, vectors: Tensor, rank: int) -> Tensor:
    """[heads]: least error found for ``keys`` entries per row plus a matrix of that rank; an upper bound of the least there is.

    Alternate: the entries that the low-rank part misses most, then the low-rank part of what is left (one step of subspace iteration,
    begun at the pattern's own ``vectors`` [heads, n, n]), at most `ROUNDS` times, in float32, and no worse than either part alone.
    keys = 0: the best low-rank matrix; rank = 0: the largest entries.
    """
    import torch

    weights = weights.float()
    basis = vectors[..., :rank].float()
    low = basis @ (basis.transpose(1, 2) @ weights)
    least = torch.minimum(sparse_error(weights, keys), _relative(weights - low, weights))
    if not rank or not keys:
        return least
    for _ in range(ROUNDS):
        left = weights - low
        entries = _largest(left, keys)
        least = torch.minimum(least, _relative(left - entries, weights))
        rest = weights - entries
        basis = torch.linalg.qr(rest @ (rest.transpose(1, 2) @ basis)).Q
        low = basis @ (basis.transpose(1, 2) @ rest)
    return least


def _largest(values: Tensor, keys: int) -> Tensor:
    """The ``keys`` entries of each row largest in size, 0 elsewhere."""
    import torch

    if keys < 1:
        return torch.zeros_like(values)
    chosen = values.abs().topk(min(keys, values.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros_like(values).scatter_(-1, chosen, values.gather(-1, chosen))


def _relative(left: Tensor, whole: Tensor) -> Tensor:
    import torch

    return torch.linalg.matrix_norm(left.double()) / torch.linalg.matrix_norm(whole.double())
