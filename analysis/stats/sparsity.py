"""How sparse a vector is: METHODS A12 (PQ Index) and B13 (the rest), over the last axis, in float64.

Each function takes numbers of shape [..., N] (numpy or torch) and returns `Measured(value, defined)`, both [...]. All
measures but the excess kurtosis look at |x|, and none changes when x is multiplied by a constant. Where a measure is
undefined (an all-zero vector; N = 1 for Hoyer and Vinje-Gallant; no spread for the kurtosis), `defined` is False and
`value` is 0, never NaN; values that are not finite and empty vectors are refused. Larger is sparser but for the entropy.

Compare layers of different width with Gini or the PQ Index only: the others fail cloning or added zeros (METHODS B14).
Source: Hurley and Rickard 2009 (arXiv 0811.4706), unless a function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Measured(NamedTuple):
    """Values, and where they are defined (value 0 where they are not)."""

    value: Floats
    defined: NDArray[np.bool_]


def _numbers(x: Any, dtype: Any = np.float64) -> NDArray[Any]:
    array = np.asarray(x.detach().cpu().double().numpy() if hasattr(x, "detach") else x, dtype=dtype)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"x must have at least one entry in the last axis, got shape {array.shape}; leave empty vectors out.")
    if not np.isfinite(array).all():
        raise ValueError(f"x must be finite, got {np.count_nonzero(~np.isfinite(array))} other values; count them apart first.")
    return array


def _relative_sizes(x: Any) -> tuple[Floats, NDArray[np.bool_]]:
    """|x| / max |x|, so that no power over- or underflows, and whether the vector is not all zero."""
    sizes = np.abs(_numbers(x))
    largest = sizes.max(-1, keepdims=True)
    return sizes / np.where(largest > 0, largest, 1.0), largest[..., 0] > 0


def _measured(value: Floats, defined: NDArray[np.bool_]) -> Measured:
    return Measured(np.where(defined, value, 0.0), np.asarray(defined))


def hoyer(x: Any) -> Measured:
    """(sqrt N - ||x||_1 / ||x||_2) / (sqrt N - 1); range 0 (all equal) to 1 (one-hot). Source: Hoyer 2004."""
    sizes, nonzero = _relative_sizes(x)
    return hoyer_of_norms(sizes.sum(-1), (sizes**2).sum(-1), sizes.shape[-1], nonzero)


def hoyer_of_norms(total: Floats, square_total: Floats, n: int, defined: NDArray[np.bool_] | None = None) -> Measured:
    """Hoyer from sum |x| and sum x^2 of vectors of length n."""
    known = square_total > 0 if defined is None else defined
    known = known & (n > 1)
    root = np.sqrt(n)
    ratio = total / np.sqrt(np.where(known, square_total, 1.0))
    return _measured((root - ratio) / (root - 1 if n > 1 else 1.0), known)


def gini(x: Any) -> Measured:
    """1 - 2 sum_k c_(k)/||c||_1 (N - k + 1/2)/N, c = |x| ascending, k = 1..N; range 0 to 1 - 1/N. Sorts: O(N log N)."""
    # float32 numbers are sorted as such, four times as fast; their sums can neither over- nor underflow in float64.
    narrow = getattr(x, "dtype", None) == np.float32
    sizes = np.abs(_numbers(x, np.float32)) if narrow else _relative_sizes(x)[0]
    ordered = np.sort(sizes, axis=-1).astype(np.float64, copy=False)
    n, nonzero = ordered.shape[-1], ordered[..., -1] > 0
    weights = (n - np.arange(1, n + 1) + 0.5) / n
    shared = np.einsum("...k,k->...", ordered, weights)
    return _measured(1 - 2 * shared / np.where(nonzero, ordered.sum(-1), 1.0), nonzero)


def kappa4(x: Any) -> Measured:
    """sum x^4 / (sum x^2)^2; range 1/N to 1."""
    sizes, nonzero = _relative_sizes(x)
    return _measured((sizes**4).sum(-1) / np.where(nonzero, (sizes**2).sum(-1), 1.0) ** 2, nonzero)


def excess_kurtosis(x: Any) -> Measured:
    """E (x - mean)^4 / variance^2 - 3 of the signed values; at least -2, 0 for a normal, 3 for a Laplace distribution."""
    values = _numbers(x)
    spread = values.max(-1) > values.min(-1)
    away = values - values.mean(-1, keepdims=True)
    away = away / np.where(spread, np.abs(away).max(-1), 1.0)[..., None]
    variance = np.where(spread, (away**2).mean(-1), 1.0)
    return _measured((away**4).mean(-1) / variance**2 - 3, spread)


def l2_over_l1(x: Any) -> Measured:
    """||x||_2 / ||x||_1; range 1 / sqrt N to 1."""
    sizes, nonzero = _relative_sizes(x)
    return _measured(np.sqrt((sizes**2).sum(-1)) / np.where(nonzero, sizes.sum(-1), 1.0), nonzero)


def vinje_gallant(x: Any) -> Measured:
    """(1 - a) / (1 - 1/N), a = (mean |x|)^2 / mean x^2; range 0 to 1. Source: Treves and Rolls 1990, Vinje and Gallant 2000."""
    sizes, nonzero = _relative_sizes(x)
    n = sizes.shape[-1]
    known = nonzero & (n > 1)
    alpha = sizes.mean(-1) ** 2 / np.where(known, (sizes**2).mean(-1), 1.0)
    return _measured((1 - alpha) / (1 - 1 / n if n > 1 else 1.0), known)


def entropy_of_squares(x: Any) -> Measured:
    """-sum p ln p, p = x^2 / sum x^2, in nats; range 0 (one-hot) to ln N. Smaller is sparser."""
    sizes, nonzero = _relative_sizes(x)
    p = sizes**2 / np.where(nonzero, (sizes**2).sum(-1), 1.0)[..., None]
    return _measured(np.maximum(-(p * np.log(np.where(p > 0, p, 1.0))).sum(-1), 0.0), nonzero)


# ---------------------------------------------------------------------------------------------------------------------
# PQ Index: from vectors, and from sums that can be taken slice by slice


def pq_index(x: Any, p: float = 0.5, q: float = 1.0) -> Measured:
    """1 - N^(1/q - 1/p) ||x||_p / ||x||_q, 0 < p < q; range 0 to 1 - N^(1/q - 1/p).

    Source: Diao et al., ICLR 2023 (arXiv 2302.05601); METHODS A12. Their code gives 0 for an all-zero vector; so is the
    value here, with `defined` False.
    """
    sizes, nonzero = _relative_sizes(x)
    return pq_index_of_sums(sizes.shape[-1], (sizes**p).sum(-1), (sizes**q).sum(-1), p, q, nonzero)


def pq_index_of_sums(n: Any, sum_p: Any, sum_q: Any, p: float, q: float, defined: NDArray[np.bool_] | None = None) -> Measured:
    """PQ Index from sum |x|^p and sum |x|^q over n entries: one minus the ratio of the power means."""
    if not 0 < p < q:
        raise ValueError(f"p and q must satisfy 0 < p < q, got p={p!r}, q={q!r}; the usual choice is p=0.5, q=1.")
    known = np.asarray(sum_q, dtype=np.float64) > 0 if defined is None else defined
    count = np.maximum(np.asarray(n, dtype=np.float64), 1)
    mean_p, mean_q = np.where(known, sum_p, 0.0) / count, np.where(known, sum_q, 1.0) / count
    return _measured(1 - mean_p ** (1 / p) / mean_q ** (1 / q), known)


def pq_keep_bound(n: int, index: float, p: float = 0.5, q: float = 1.0, eta: float = 0.0) -> float:
    """Lower bound of the entries to keep, not rounded: n (1 + eta)^(-q/(q-p)) (1 - I)^(pq/(q-p)). Source: as `pq_index`."""
    if not 0 < p < q:
        raise ValueError(f"p and q must satisfy 0 < p < q, got p={p!r}, q={q!r}; the usual choice is p=0.5, q=1.")
    return n * (1 + eta) ** (-q / (q - p)) * (1 - index) ** (p * q / (q - p))


@dataclass
class PowerSums:
    """Sums of |x|^p over a tensor that comes in slices: size, zeros, maximum, norms and PQ Index. O(number of exponents)."""

    exponents: tuple[float, ...] = (0.5, 1.0, 2.0)
    n: int = 0
    n_zero: int = 0
    largest: float = 0.0
    sums: dict[float, float] = field(default_factory=dict)

    def update(self, part: Any) -> None:
        """Take in a slice of any shape; an empty one changes nothing."""
        array = np.asarray(part.detach().cpu().double().numpy() if hasattr(part, "detach") else part, dtype=np.float64)
        if array.size == 0:
            return
        sizes = np.abs(_numbers(array.reshape(-1)))
        self.n += sizes.size
        self.n_zero += int(np.count_nonzero(sizes == 0))
        self.largest = max(self.largest, float(sizes.max()))
        for p in self.exponents:
            self.sums[p] = self.sums.get(p, 0.0) + float((sizes**p).sum())

    def merge(self, other: PowerSums) -> None:
        """Take in the sums of another part of the same tensor."""
        if self.exponents != other.exponents:
            raise ValueError(f"exponents must be {self.exponents}, got {other.exponents}; make both with the same ones.")
        self.n, self.n_zero = self.n + other.n, self.n_zero + other.n_zero
        self.largest = max(self.largest, other.largest)
        for p, value in other.sums.items():
            self.sums[p] = self.sums.get(p, 0.0) + value

    def norm(self, p: float) -> float:
        """||x||_p for one of the exponents, or the maximum for p = inf."""
        if self.n == 0:
            raise ValueError("a norm must be taken of at least one entry, got none; update first.")
        return self.largest if p == np.inf else self._sum(p) ** (1 / p)

    def pq_index(self, p: float = 0.5, q: float = 1.0) -> Measured:
        """As the function of that name, of everything seen."""
        if self.n == 0:
            raise ValueError("the PQ Index must be taken of at least one entry, got none; update first.")
        return pq_index_of_sums(self.n, self._sum(p), self._sum(q), p, q)

    def _sum(self, p: float) -> float:
        if p not in self.sums:
            raise ValueError(f"p must be one of the exponents {self.exponents}, got {p!r}; name it when making the sums.")
        return self.sums[p]
