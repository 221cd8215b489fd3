"""Singular values of a weight matrix and what they say (METHODS A16): how many directions carry it.

`singular_values` chooses the way by size and says which it took:

- ``svd``: all values, LAPACK in float64; matrices of moderate size, see `choose`;
- ``gram``: all values, as roots of the eigenvalues of the smaller Gram matrix, summed over slices in float64, so that an
  embedding of any height needs one slice and one small square in memory. Squaring costs half of the digits: a value
  s has an error of about 1e-16 s_1^2 / s, so that values below 1e-7 s_1 are noise; sums of squares are as exact as ever;
- ``randomised``: the largest values only, where the shorter side exceeds `limit` (Halko et al. 2011, scikit-learn). They are
  never larger than the true ones, so that energies are lower bounds and errors upper bounds.

The Frobenius norm is exact in all three. W [o, i]: outputs by inputs; no number here changes when W is transposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Method = Literal["svd", "gram", "randomised"]

LIMIT = 4096
"""Longest shorter side whose values are all computed: a Gram matrix of 128 MB and some seconds of eigenvalues."""
LARGEST = 256
"""Values computed where not all are."""
SVD_SIDE, TALL = 1024, 4
"""The Gram matrix is used beyond this shorter side, where it is ten times as fast, and beyond this ratio of the sides."""
SLICE = 1 << 22
"""Weights per slice of the Gram matrix: 32 MB in float64."""
GRAM_FLOOR = 1e-7
"""Relative to the largest value: what the Gram matrix cannot tell from zero."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values [n_computed], descending, of a matrix of `shape`."""

    values: Floats
    shape: tuple[int, int]
    square_sum: float
    """Sum of squares of all entries: of all singular values, computed or not."""
    method: Method

    @property
    def exact(self) -> bool:
        """Whether all singular values were computed."""
        return self.method != "randomised"

    @property
    def n_computed(self) -> int:
        """How many of them."""
        return len(self.values)

    @property
    def size(self) -> int:
        """How many there are: the shorter side."""
        return min(self.shape)


def singular_values(matrix: Any, *, limit: int = LIMIT, largest: int = LARGEST, seed: int = 0) -> Spectrum:
    """The spectrum of a matrix [o, i] (torch or numpy, any floating type, finite); nothing is written to it.

    All values up to a shorter side of `limit`, beyond it the `largest` by a randomised method with `seed`.
    """
    import torch

    w = torch.as_tensor(matrix).detach()
    if w.dim() != 2 or not w.numel():
        raise ValueError(f"matrix must have two axes and at least one entry, got shape {list(w.shape)}; flatten or split it first.")
    shape = (w.shape[0], w.shape[1])
    square_sum = sum(float(part.double().square().sum()) for part in w.split(rows_per_slice(w.shape[1])))
    if not np.isfinite(square_sum):
        raise ValueError("matrix must be finite, got NaN or infinite entries; count them apart first.")
    method = choose(shape, limit)
    if method == "gram":
        return spectrum_of_gram(gram(w), shape)
    values = _randomised(w, largest, seed) if method == "randomised" else torch.linalg.svdvals(w.double()).cpu().numpy()
    return Spectrum(values, shape, square_sum, method)


def choose(shape: tuple[int, int], limit: int = LIMIT) -> Method:
    """How the values of a matrix of this shape are computed."""
    if min(shape) > limit:
        return "randomised"
    return "gram" if min(shape) > SVD_SIDE or max(shape) > TALL * min(shape) else "svd"


def rows_per_slice(n_in: int) -> int:
    """Rows of a slice of `SLICE` weights, at least one."""
    return max(1, SLICE // n_in)


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """The Gram matrix of the shorter side, float64 [m, m], m = min(o, i), summed over slices of the longer one."""
    w = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    return gram_of_slices(w.split(rows_per_slice(w.shape[1])), w.shape[1])


def gram_of_slices(slices: Iterable[torch.Tensor], n_in: int) -> torch.Tensor:
    """W^T W, float64 [i, i], of W [o, i] handed over in slices of rows: memory does not grow with the height."""
    import torch

    total = torch.zeros(n_in, n_in, dtype=torch.float64)
    for part in slices:
        wide = part.double()
        total = total.to(wide.device).addmm_(wide.T, wide)
    return total


def spectrum_of_gram(products: torch.Tensor, shape: tuple[int, int]) -> Spectrum:
    """The spectrum of a matrix of `shape` from the Gram matrix [m, m] of its shorter side; finite."""
    import torch

    square_sum = float(products.trace())
    if not np.isfinite(square_sum):
        raise ValueError("matrix must be finite, got NaN or infinite entries; count them apart first.")
    values = torch.linalg.eigvalsh(products).clamp_min(0).sqrt().flip(0)
    return Spectrum(values.cpu().numpy(), shape, square_sum, "gram")


def _randomised(w: torch.Tensor, largest: int, seed: int) -> Floats:
    from sklearn.utils.extmath import randomized_svd

    rank = min(largest, min(w.shape))
    found: Any = randomized_svd(w.float().cpu().numpy(), rank, n_oversamples=16, n_iter=4, random_state=seed)  # pyright: ignore[reportArgumentType]
    return found[1].astype(np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# What they say


def stable_rank(spectrum: Spectrum) -> float | None:
    """||W||_F^2 / s_1^2, 1 (one direction) to the shorter side (all alike); None for the zero matrix."""
    top = float(spectrum.values[0])
    return max(1.0, spectrum.square_sum / top**2) if top > 0 else None


def effective_rank(spectrum: Spectrum) -> float | None:
    """exp(entropy of s / sum s), 1 to the shorter side; None for the zero matrix and where not all values were computed.

    Source: Roy and Vetterli 2007; METHODS A16.
    """
    if not spectrum.exact or spectrum.values[0] <= 0:
        return None
    p = spectrum.values / spectrum.values.sum()
    p = p[p > 0]
    return exp(-float((p * np.log(p)).sum()))


def energy(spectrum: Spectrum) -> Floats:
    """Share of ||W||_F^2 in the r largest directions, r = 1 ... n_computed: [n_computed], 0 to 1; of the zero matrix all 1."""
    if spectrum.square_sum <= 0:
        return np.ones(spectrum.n_computed)
    shares = np.cumsum(spectrum.values**2) / spectrum.square_sum
    if spectrum.exact:
        shares /= shares[-1] if shares[-1] > 0 else 1.0
    return np.minimum(shares, 1.0)


def errors(spectrum: Spectrum) -> Floats:
    """Relative error ||W - W_r||_F / ||W||_F of the best approximation of rank r = 0 ... n_computed: [n_computed + 1], 0 to 1.

    From the sum of what is left, smallest first, so that small errors keep their digits; where not all values were computed,
    from the norm. Of the zero matrix all 0.
    """
    if spectrum.square_sum <= 0:
        return np.zeros(spectrum.n_computed + 1)
    squares = spectrum.values**2
    beyond = 0.0 if spectrum.exact else max(0.0, spectrum.square_sum - float(squares.sum()))
    left = np.append(np.cumsum(squares[::-1])[::-1] + beyond, beyond)
    return np.sqrt(np.minimum(left / left[0], 1.0))


def rank_for_error(spectrum: Spectrum, error: float) -> int | None:
    """Smallest rank whose best approximation has at most this relative error; None where too few values were computed."""
    enough = np.flatnonzero(errors(spectrum) <= error)
    return int(enough[0]) if len(enough) else None


def numerical_rank(spectrum: Spectrum, eps: float) -> int | None:
    """Values above max(o, i) eps s_1 (never below the noise of the Gram matrix); eps: precision the weights are stored in.

    0 for the zero matrix; None where all computed values are above and there are more.
    """
    relative = max(max(spectrum.shape) * eps, GRAM_FLOOR if spectrum.method == "gram" else 0.0)
    rank = int((spectrum.values > relative * spectrum.values[0]).sum())
    return None if not spectrum.exact and rank == spectrum.n_computed else rank


def break_even_rank(n_out: int, n_in: int) -> int:
    """int(o i / (o + i)): the rank from which on two factors [o, r] and [r, i] hold no fewer numbers than the matrix.

    Source: Cahyawijaya 2021 (Greenformers), official code.
    """
    return n_out * n_in // (n_out + n_in)


def rank_at(n_out: int, n_in: int, share: float) -> int:
    """Largest rank whose two factors hold at most this share of the matrix' numbers; 0 where not even one direction does."""
    return min(n_out, n_in, int(n_out * n_in * share / (n_out + n_in) + 1e-9))


def random_stable_rank(n_out: int, n_in: int) -> float:
    """What a large matrix of independent entries has: o i / (sqrt o + sqrt i)^2, the null to compare a stable rank with.

    ||W||_F^2 = o i and s_1 = sqrt o + sqrt i for unit variance (Marchenko and Pastur 1967; Bai and Yin 1988).
    """
    return n_out * n_in / (sqrt(n_out) + sqrt(n_in)) ** 2


def rank_grid(n: int, points: int = 48) -> list[int]:
    """Ranks from 1 to n for a curve: all of them up to `points`, beyond that evenly spaced on a log axis, ends among them."""
    if n <= points:
        return list(range(1, n + 1))
    return sorted({round(exp(log(n) * k / (points - 1))) for k in range(points)})
