"""A weight matrix as a sum or product of cheaper parts, and what is lost at an equal number of parameters (METHODS A16).

- `sparse_plus_low_rank`: W ~ L + S, L of rank r, S with k entries;
- `dense_sparse`: W ~ D S in blocks of rows, D [b, r] dense, S [r, i] with k entries per column (DSFormer);
- `keep_largest`: the k largest entries alone. The best low-rank approximation alone is `spectrum.errors`.

Errors are relative, ||W - W'||_F / ||W||_F, 0 (exact) to 1 (nothing kept). Positions of sparse entries cost memory, too:
`index_bits` says how much, since parameters alone flatter what is sparse. Operational definitions of ours, on weights alone:
what training on data would reach may be better.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, lgamma, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ITERATIONS = 20


@dataclass(frozen=True)
class Factors:
    """An approximation: what it is made of, and its relative error."""

    dense: tuple[torch.Tensor, ...]
    """L = left [o, r] @ right [r, i]; or D [blocks, b, r]."""
    sparse: torch.Tensor
    """S [o, i]; or [blocks, r, i]."""
    error: float


def index_bits(n_places: int, n_kept: int) -> int:
    """Bits that name `n_kept` of `n_places` positions: log2 of the number of ways to choose them, rounded up."""
    return ceil((lgamma(n_places + 1) - lgamma(n_kept + 1) - lgamma(n_places - n_kept + 1)) / log(2) - 1e-6)


def keep_largest(matrix: torch.Tensor, n_kept: int) -> torch.Tensor:
    """The matrix with all but its `n_kept` largest magnitudes set to zero; of ties, any."""
    import torch

    flat = matrix.reshape(-1)
    places = flat.abs().topk(min(n_kept, flat.numel()), sorted=False).indices
    return torch.zeros_like(flat).scatter(0, places, flat[places]).reshape(matrix.shape)


def relative_error(matrix: torch.Tensor, approximation: torch.Tensor) -> float:
    """||W - W'||_F / ||W||_F; 0 for the zero matrix met exactly. Refuses other approximations of the zero matrix."""
    norm, off = float(matrix.double().norm()), float((matrix - approximation).double().norm())
    if norm == 0 and off > 0:
        raise ValueError("matrix must not be all zero where the approximation is not; a relative error needs a norm.")
    return off / norm if off else 0.0


def sparse_plus_low_rank(matrix: torch.Tensor, rank: int, n_kept: int, *, iterations: int = ITERATIONS, seed: int = 0) -> Factors:
    """W [o, i] ~ left [o, r] right [r, i] + S, S with `n_kept` entries, by alternation: what is left of one is given to the other.

    L: truncated SVD of W - S, by a block power step from the last directions; S: the largest entries of W - L.
    """
    import torch

    w = matrix if matrix.dtype in (torch.float32, torch.float64) else matrix.float()
    generator = torch.Generator().manual_seed(seed)
    right = torch.randn(w.shape[1], rank, generator=generator, dtype=w.dtype).to(w.device)
    left, sparse = w.new_zeros(w.shape[0], rank), torch.zeros_like(w)
    for step in range(iterations):
        rest = w - sparse
        for _ in range(4 if step == 0 else 1):
            right = torch.linalg.qr(rest.T @ (rest @ right)).Q
        left = rest @ right
        sparse = keep_largest(w - left @ right.T, n_kept)
    return Factors((left, right.T), sparse, relative_error(w, left @ right.T + sparse))


# ---------------------------------------------------------------------------------------------------------------------
# Dense times sparse


def dense_sparse(
    matrix: torch.Tensor, block: int, rank: int, per_column: int, *, iterations: int = ITERATIONS, restarts: int = 1, seed: int = 0
) -> Factors:
    """W [o, i] ~ D S for each block of `block` rows: D [b, rank], S [rank, i] with `per_column` entries in each column.

    Alternates orthogonal matching pursuit (S) and least squares (D), from seeded columns of W; the best of `restarts`.
    o must be a multiple of `block`. Parameters per block: b rank + per_column i, see `dense_sparse_sizes`.
    Source of the shape: Chand et al. 2023 (arXiv 2312.13211); the fit is ours (METHODS A16 [O]).
    """
    import torch

    if matrix.shape[0] % block:
        raise ValueError(f"the number of rows must be a multiple of the block of {block}, got {matrix.shape[0]}; leave the rest out.")
    if not 1 <= per_column <= rank:
        raise ValueError(f"per_column must be between 1 and the rank {rank}, got {per_column}; give another one.")
    w = matrix.double().reshape(-1, block, matrix.shape[1])
    best: Factors | None = None
    for restart in range(restarts):
        generator = torch.Generator().manual_seed(seed + restart)
        dense = _first_atoms(w, rank, generator)
        sparse = matching_pursuit(dense, w, per_column)
        for _ in range(iterations):
            dense = _refit(w, sparse)
            dense = _unit_atoms(_wake_unused(dense, w, sparse))
            sparse = matching_pursuit(dense, w, per_column)
        found = Factors((dense,), sparse, relative_error(w, dense @ sparse))
        best = found if best is None or found.error < best.error else best
    assert best is not None, "restarts is at least 1"
    return best


def dense_sparse_sizes(block: int, n_in: int, rank: int, share: float) -> int:
    """Entries per column that D [b, r] and S [r, i] may have at this share of the b i parameters; at least 0, at most r."""
    return max(0, min(rank, int((share * block * n_in - block * rank) / n_in + 1e-9)))


def matching_pursuit(dense: torch.Tensor, w: torch.Tensor, per_column: int) -> torch.Tensor:
    """Orthogonal matching pursuit of every column: D [n, b, r] with unit atoms, W [n, b, i] -> S [n, r, i], `per_column` entries each."""
    import torch

    n, _, rank = dense.shape
    similar, wanted = dense.transpose(1, 2) @ dense, (dense.transpose(1, 2) @ w).transpose(1, 2)  # [n, r, r], [n, i, r]
    similar = similar + 1e-12 * torch.eye(rank, dtype=w.dtype, device=w.device)
    n_in, left = w.shape[2], wanted.clone()
    chosen = torch.zeros(n, n_in, 0, dtype=torch.long, device=w.device)
    values = w.new_zeros(n, n_in, 0)
    owner = torch.arange(n, device=w.device)[:, None, None]
    for _ in range(per_column):
        taken = left.abs().scatter(2, chosen, -1.0)
        chosen = torch.cat([chosen, taken.argmax(2, keepdim=True)], 2)
        rows = similar[owner, chosen]  # [n, i, s, r]
        system = rows.gather(3, chosen[:, :, None, :].expand(-1, -1, chosen.shape[2], -1))
        values = torch.linalg.solve(system, wanted.gather(2, chosen))
        left = wanted - (values[:, :, None, :] @ rows).squeeze(2)
    return w.new_zeros(n, n_in, rank).scatter(2, chosen, values).transpose(1, 2)


def _first_atoms(w: torch.Tensor, rank: int, generator: torch.Generator) -> torch.Tensor:
    """Seeded random columns of W, and noise of its size where it has fewer; [n, b, r], of unit length."""
    import torch

    n, block, n_in = w.shape
    order = torch.stack([torch.randperm(n_in, generator=generator)[:rank] for _ in range(n)]).to(w.device)
    atoms = w.gather(2, order[:, None, :].expand(-1, block, -1))
    noise = torch.randn(n, block, rank, generator=generator, dtype=w.dtype).to(w.device)
    noise[:, :, : atoms.shape[2]] *= 1e-3 * w.square().mean().sqrt()
    noise[:, :, : atoms.shape[2]] += atoms
    return _unit_atoms(noise)


def _unit_atoms(dense: torch.Tensor) -> torch.Tensor:
    return dense / dense.norm(dim=1, keepdim=True).clamp_min(1e-300)


def _refit(w: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
    """Least squares for D given S: W S^T (S S^T)^+, [n, b, r]."""
    import torch

    return w @ sparse.transpose(1, 2) @ torch.linalg.pinv(sparse @ sparse.transpose(1, 2), hermitian=True)


def _wake_unused(dense: torch.Tensor, w: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
    """Atoms that no column uses become the columns that are met worst: K-SVD's remedy."""
    dense = dense.clone()
    missed = (w - dense @ sparse).square().sum(1)
    for n, atoms in enumerate((sparse == 0).all(2)):
        unused = atoms.nonzero().flatten()
        worst = missed[n].argsort(descending=True)[: len(unused)]
        dense[n][:, unused[: len(worst)]] = w[n][:, worst]
    return dense
