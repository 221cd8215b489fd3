"""Truncated SVD: every matrix of the scope keeps its largest singular directions, as many of each as the level leaves.

W_r = U_r S_r V_r^T, the nearest matrix of that rank; r = m - floor(s m), m the shorter side. Two factors of r (d_out + d_in) numbers take
its place where they are fewer than d_out d_in. Directions come from the second moments of the shorter side in float64, so that singular
values below about 1e-8 of the largest are not told from 0. Source: METHODS A16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.holding import SavedWeights, saved
from analysis.interventions.scoring import check_finite
from analysis.interventions.spec import Applied, Cost, Held, Shares, check_level
from analysis.interventions.structure.named import NamedMethod
from analysis.interventions.structures import removed_of
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.scope import Member, Scope

GREENFORMERS = Source("Greenformers: Improving Computation and Memory Efficiency in Transformer Models via Low-Rank Approximation",
                      "Cahyawijaya 2021, arXiv 2108.10808", "C")  # fmt: skip


@dataclass(frozen=True)
class MatrixRank(NamedMethod):
    """Every matrix at a share of its rank."""

    name = "matrix-rank"
    words = "Largest singular directions of every matrix"
    origin = (GREENFORMERS,)
    calibrated = False

    @contextmanager
    def on(self, subject: Any, calibration: Any = None) -> Iterator[Held]:
        """Hold the model."""
        from analysis.capture.running import unwrapped
        from analysis.interventions.scope import weight_scope

        del calibration
        model = unwrapped(subject.model)
        scope = weight_scope(model)
        for member in scope.members:
            check_finite(member)
        with saved(model, scope.members) as weights:
            yield HeldRank(self, scope, weights)


def rank_kept(shape: tuple[int, int], level: float) -> int:
    """r of a matrix [d_out, d_in] at a level: 0 at 1, the shorter side at 0."""
    return min(shape) - removed_of(min(shape), level)


def share_kept(shape: tuple[int, int], rank: int) -> float:
    """Numbers of the two factors over those of the matrix, r (d_out + d_in) / (d_out d_in), at most 1: dense where that is smaller."""
    return min(1.0, rank * sum(shape) / (shape[0] * shape[1]))


def directions(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values [m] of a matrix [d_out, d_in], float64, the largest first, and the vectors of its shorter side [m, m]."""
    wide = matrix.double()
    return principal(wide @ wide.T if matrix.shape[0] <= matrix.shape[1] else wide.T @ wide)


def principal(second: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [d], the largest first, and their directions in columns [d, d], of second moments [d, d] in float64.

    SliceGPT's published code adds 0.01 of the mean diagonal; directions stay the same, and energies would be off by it, so it is left out.
    """
    import torch

    values, vectors = torch.linalg.eigh(second.double())
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


def removed_energy(values: Tensor, kept: int) -> float:
    """Share of the energy that goes with all but the first directions: ||X - X Q Q^T||^2 / ||X||^2; 0 of no energy."""
    total = float(values.sum())
    return float(values[kept:].sum()) / total if total else 0.0


def truncated(matrix: Tensor, vectors: Tensor, rank: int) -> Tensor:
    """The nearest matrix of that rank, in float32 where the matrix is narrower."""
    import torch

    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    kept = vectors[:, :rank].to(wide)
    return kept @ (kept.T @ wide) if matrix.shape[0] <= matrix.shape[1] else (wide @ kept) @ kept.T


def relative_error(squares: Tensor, rank: int) -> float:
    """||W - W_r|| / ||W|| in the Frobenius norm: sqrt(sum beyond r / sum); 0 of a matrix of zeros."""
    return removed_energy(squares, rank) ** 0.5


class HeldRank(Held):
    """A model whose matrices are held at a rank."""

    def __init__(self, method: MatrixRank, scope: Scope, weights: SavedWeights) -> None:
        self._scope, self._weights = scope, weights
        self._found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._n = sum(member.matrix_shape[0] * min(member.matrix_shape[1:]) for member in scope.members)
        self.levels = None
        self.facts = {"method": method.slug, "scope": scope.rule, "directions": self._n, "seed": method.seed}

    def at(self, level: float) -> Applied:
        """Write every matrix at its rank; at level 0 as it was."""
        check_level(level)
        errors, removed = [], 0
        for member in self._scope.members:
            n, *shape = member.matrix_shape
            rank = rank_kept((shape[0], shape[1]), level)
            removed += n * (min(shape) - rank)
            live, dense = self._weights.live(member), self._weights.dense(member)
            if rank == min(shape):
                live.copy_(dense)
                continue
            errors += [relative_error(squares, rank) for squares, _ in self.directions_of(member)]
            self._write(member, rank, dense, live)
        denominator = f"{self._n:,} singular directions of {len(self._scope.members)} matrices"
        error = sum(errors) / len(errors) if errors else 0.0
        return Applied(level, removed / self._n, denominator, error, "mean relative error of the matrices")

    def cost(self, level: float) -> Cost:
        """Two factors where they are smaller."""
        if check_level(level) == 0.0:
            return Cost(level)
        left = {}
        for member in self._scope.members:
            shape = (member.matrix_shape[1], member.matrix_shape[2])
            left[member.name] = share_kept(shape, rank_kept(shape, level))
        return Cost(level, facts={"directions": self._n}, shares=Shares(products=left, touched=dict(left), static=True))

    def directions_of(self, member: Member) -> list[tuple[Tensor, Tensor]]:
        """Once: squared singular values, and directions in float32."""
        if member.name not in self._found:
            every = [directions(matrix) for matrix in member.matrix(self._weights.dense(member)).detach()]
            self._found[member.name] = [
                (squares, vectors.float() if member.parameter.element_size() < 8 else vectors) for squares, vectors in every
            ]
        return self._found[member.name]

    def _write(self, member: Member, rank: int, dense: Tensor, live: Tensor) -> None:
        made = member.matrix(dense).clone()
        for matrix, (_, vectors) in zip(made, self.directions_of(member), strict=True):
            matrix.copy_(truncated(matrix, vectors, rank))
        live.copy_(member.back(made))
