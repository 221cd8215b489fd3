"""SparseGPT: prune column by column, and let the columns to the right make up for what each loses.

1. H = (2 / sequences) X^T X of the matrix' inputs. A column that no input reaches (H_jj = 0) gets H_jj = 1 and weights of 0.
2. Dampen: H += 0.01 mean(diag H) I; where H is still not positive definite, ten times more, and so on.
3. U = upper triangular factor of the inverse, H^-1 = U^T U.
4. For each 128 columns: scores w^2 / U_jj^2 with the weights as they are by then; the lowest of the whole block, all rows together,
   go. N of M: in every row and group of M columns the N highest stay, chosen when the sweep reaches the group.
5. For each column j: q = w_j * kept, e = (w_j - q) / U_jj, and w_k -= e U_jk for every column k >= j.

Source: Frantar and Alistarh, ICML 2023; METHODS A8, from the official code. ``text`` removes floor(n s) of a block's n weights, ties by
lowest flat index; ``code`` removes every weight at or below the one of rank int(n s): one more, and all its ties.
Masks of different levels are not nested, since the weights that stay are different ones by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.matrix_inputs import MatrixInputs, measured
from analysis.interventions.selecting import Variant
from analysis.interventions.spec import Need
from analysis.interventions.structures import removed_of
from analysis.interventions.weights.method import Asked, Method
from analysis.spec import Evidence, Source, UserError

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128
INNER = 32
"""Columns that are updated one by one; further ones of the block by one product. The same numbers but for rounding."""
DAMP = 0.01
STEPS = 8
"""How often damping is raised tenfold before the matrix is given up."""


@dataclass(frozen=True)
class Factor:
    """The triangular factor of a dampened inverse; the same for all levels."""

    upper: Tensor
    """float64 [d_in, d_in]."""
    dead: Tensor
    """bool [d_in]: columns that no input reached."""
    damp: float
    """Share of mean(diag H) that was added; above 0.01 where less was not enough."""


@dataclass(frozen=True)
class Pruned:
    """A pruned matrix."""

    weights: Tensor
    """float64 [d_out, d_in]."""
    kept: Tensor
    """bool [d_out, d_in]."""
    loss: float
    """Sum of (w - q)^2 / (2 U_jj^2) over what was removed: the predicted rise of half the squared output error, times 2 / sequences."""


def factor_of(gram: Tensor, n_sequences: int, damp: float = DAMP) -> Factor:
    """Steps 1 to 3, in float64, from X^T X [d_in, d_in]; O(d_in^3). Raises `UserError` where no damping suffices."""

    hessian = gram.double() * (2 / max(1, n_sequences))
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1
    mean = hessian.diagonal().mean()
    for step in range(STEPS):
        share = damp * 10**step
        dampened = hessian.clone()
        dampened.diagonal().add_(share * mean)
        upper = _upper_of_inverse(dampened)
        if upper is not None:
            return Factor(upper, dead, share)
    raise UserError(
        "the second moments of a matrix' inputs must be positive definite after damping, got none up to "
        f"{damp * 10 ** (STEPS - 1):g} of their mean; look for infinite activations, or leave the matrix out of the scope."
    )


def _upper_of_inverse(matrix: Tensor) -> Tensor | None:
    """U with matrix^-1 = U^T U; None where the matrix is not positive definite in float64."""
    import torch

    lower, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        return None
    upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    return None if failed or not bool(upper.isfinite().all()) else upper


def sparsegpt(
    w: Tensor, factor: Factor, level: float, pattern: tuple[int, int] | None = None, *, variant: Variant = "text", block: int = BLOCK
) -> Pruned:
    """Steps 4 and 5 on w [d_out, d_in] at a level in [0, 1]; ``pattern`` (N, M) keeps N of M instead. O(d_out d_in^2).

    Level 0 is the identity, dead columns included. Columns left over by groups of M stay dense.
    """
    import torch

    kept = torch.ones_like(w, dtype=torch.bool)
    if pattern is None and level <= 0:
        return Pruned(w.double().clone(), kept, 0.0)
    left = w.double().T.contiguous()  # [d_in, d_out]: a column of w lies in one piece
    left[factor.dead] = 0
    size = block if pattern is None else max(pattern[1], block // pattern[1] * pattern[1])
    inner = INNER if pattern is None else max(pattern[1], INNER // pattern[1] * pattern[1])
    errors = torch.zeros_like(left)
    for start in range(0, len(left), size):
        end = min(start + size, len(left))
        diagonal = factor.upper.diagonal()[start:end]
        if pattern is None:
            kept[:, start:end] = _kept_of_block(left[start:end].T ** 2 / diagonal**2, level, variant)
        for first in range(start, end, inner):
            last = min(first + inner, end)
            _sweep(left, errors, kept, factor.upper, first, last, pattern)
            left[last:end] -= factor.upper[first:last, last:end].T @ errors[first:last]
        left[end:] -= factor.upper[start:end, end:].T @ errors[start:end]
    return Pruned(left.T, kept, float((errors**2).sum()) / 2)


def _sweep(left: Tensor, errors: Tensor, kept: Tensor, upper: Tensor, first: int, last: int, pattern: tuple[int, int] | None) -> None:
    """Step 5 for columns ``first`` to ``last``, updating these only; of patterns the mask too, in whole groups."""
    for j in range(first, last):
        if pattern is not None and j % pattern[1] == 0 and j + pattern[1] <= len(left):
            group = slice(j, j + pattern[1])
            kept[:, group] = _kept_of_group(left[group].T ** 2 / upper.diagonal()[group] ** 2, pattern[0])
        stays = kept[:, j]
        errors[j] = left[j] * ~stays / upper[j, j]
        left[j + 1 : last].addr_(upper[j, j + 1 : last], errors[j], alpha=-1)
        left[j] *= stays


def _kept_of_block(scores: Tensor, level: float, variant: Variant) -> Tensor:
    """bool [d_out, columns]: all but the lowest share of the block."""
    import torch

    flat = scores.reshape(-1)
    n = removed_of(len(flat), level)
    if variant == "code":
        return scores > flat.sort().values[min(int(len(flat) * level), len(flat) - 1)]
    kept = torch.ones(len(flat), dtype=torch.bool, device=scores.device)
    kept[flat.argsort(stable=True)[:n]] = False
    return kept.view_as(scores)


def _kept_of_group(scores: Tensor, n: int) -> Tensor:
    """bool [d_out, M]: the N highest of each row."""
    import torch

    kept = torch.ones_like(scores, dtype=torch.bool)
    return kept.scatter(1, scores.argsort(dim=1, stable=True)[:, : scores.shape[1] - n], False)


def obs_saliency(w: Tensor, inverse: Tensor) -> Tensor:
    """w_j^2 / (2 [H^-1]_jj): the loss of removing one weight alone, exact where the loss is quadratic. w [.., d_in], any scale of H.

    Source: LeCun et al. 1990, Hassibi and Stork 1993; METHODS A8.
    """
    return w**2 / (2 * inverse.diagonal())


def obs_update(w: Tensor, inverse: Tensor, j: int) -> Tensor:
    """-w_j / [H^-1]_jj H^-1[:, j]: how the row w [d_in] moves where its weight j is removed. METHODS A8."""
    return -w[j] / inverse[j, j] * inverse[:, j]


SOURCE = Source(
    "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", "Frantar and Alistarh, ICML 2023, 2301.00774", "C"
)


@dataclass(frozen=True)
class SparseGPT(Method):
    """Prunes and updates one matrix at a time."""

    block: int = BLOCK
    damp: float = DAMP

    slug: ClassVar[str] = "sparsegpt"
    title: ClassVar[str] = "SparseGPT (dense inputs)"
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs", "gram"})
    sources: ClassVar[tuple[Source, ...]] = (SOURCE,)
    evidence: ClassVar[Evidence] = "C"
    nested: ClassVar[bool] = False
    updates: ClassVar[bool] = True
    comparable: ClassVar[bool] = False
    has_code_variant: ClassVar[bool] = True

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:  # noqa: ARG002
        """w^2 / U_jj^2 of the dense weights, before any update: what another method may start from."""
        return (w.double() ** 2 / factor_kept(measured(inputs), self.damp).upper.diagonal() ** 2).float()

    def prune(self, w: Tensor, inputs: MatrixInputs | None, asked: Asked) -> Tensor:
        """Raises `UserError` for tiles, rows and columns, which the algorithm knows nothing of."""
        pattern = asked.pattern(self)
        if asked.level <= 0:
            return w.clone()
        factor = factor_kept(measured(inputs), self.damp)
        return sparsegpt(w, factor, asked.level, pattern, variant=asked.variant, block=self.block).weights.to(w)


def factor_kept(inputs: MatrixInputs, damp: float = DAMP) -> Factor:
    """The factor of these inputs; made once, kept with them for all levels (as large again as their second moments)."""
    key = f"sparsegpt factor {damp:g}"
    if key not in inputs.derived:
        inputs.derived[key] = factor_of(inputs.want("gram"), inputs.n_sequences, damp)
    return inputs.derived[key]
