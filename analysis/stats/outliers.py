"""Outlier weights, the few that a matrix can least do without in low precision (METHODS A17).

- `magnitude_outliers`: |w| above a number of standard deviations of the matrix; needs weights only;
- `sensitivity_outliers`: SpQR's rule: keeping this one weight out of its group's quantiser lowers the group's error, weighed by
  what the layer's inputs say about each column, by more than a threshold. Needs the inverse second moment of the inputs;
- `count_outliers`: the first, of a matrix of any size, per row and column;
- `crowding`: whether outliers gather in few rows or columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

SIGMAS = 6.0
BITS = 3
GROUP = 16
THRESHOLD = 0.2


def magnitude_outliers(matrix: torch.Tensor, sigmas: float = SIGMAS, *, deviation: float | None = None) -> torch.Tensor:
    """Whether |w| > sigmas * standard deviation: bool, of the shape of W.

    The deviation is that of all entries about their mean, divided by their number, unless given (that of the whole matrix, where
    only a slice is here). A matrix of equal entries has no spread, and so no outliers. Of a normal distribution 2 in 10^9 lie
    beyond 6 deviations. Source: METHODS A17.
    """
    import torch

    values = matrix.double()
    spread = float(values.std(correction=0)) if deviation is None else deviation
    if spread <= 1e-12 * float(values.abs().max()):
        return torch.zeros_like(values, dtype=torch.bool)
    return values.abs() > sigmas * spread


def sensitivity_outliers(
    weight: torch.Tensor,
    diagonal: torch.Tensor,
    *,
    bits: int = BITS,
    group: int = GROUP,
    threshold: float = THRESHOLD,
    variant: Literal["one_by_one", "code"] = "one_by_one",
) -> torch.Tensor:
    """SpQR's outliers of W [o, i], given diagonal [i] > 0: U_jj of the upper Cholesky factor of (X^T X)^-1. bool [o, i].

    The limit is threshold * mean_j(var_r(W[:, j]) / U_jj^2). In each group of `group` weights of a row, quantised to `bits`:

    1. a likely outlier is a weight that, left out of fit and sum, lowers sum_j ((w_j - q_j) / U_jj)^2 by more than the limit;
    2. the quantiser is fitted again with these at the mean of the others;
    3. outliers are the weights with ((w_j - q_j) / U_jj)^2 above the limit.

    ``code`` takes all likely ones at once, as the authors do: one giant then flags its neighbours, too, which it makes round badly.
    ``one_by_one`` (ours) takes the one that lowers the error most, and judges the rest anew. Errors are not fed forward to later
    columns, as the whole method does: these are the outliers of the weights as they stand. A diagonal of ones is the rule without
    inputs; an infinite threshold gives none. Levels run from the least to the largest weight of the group.
    Source: Dettmers et al. 2023 (arXiv 2306.03078), official code `spqr_engine.py`; METHODS A17.
    """
    import torch

    if weight.dim() != 2 or weight.shape[0] < 2 or diagonal.shape != (weight.shape[1],) or bool((diagonal <= 0).any()):
        raise ValueError(
            f"weight must be [o, i] with o of at least 2 and diagonal [i] positive, got {list(weight.shape)} and {list(diagonal.shape)}; "
            "give the matrix and the diagonal of its Cholesky factor."
        )
    w, u = weight.double(), diagonal.double().to(weight.device)
    limit = threshold * float((w.var(0) / u.square()).mean())
    limit = max(limit, 1e-24 * float((w / u).square().max()))  # rounding errors are no outliers
    starts = range(0, w.shape[1], group)
    return torch.cat([_group_outliers(w[:, s : s + group], u[s : s + group], bits, limit, variant == "code") for s in starts], 1)


def _group_outliers(w: torch.Tensor, u: torch.Tensor, bits: int, limit: float, at_once: bool) -> torch.Tensor:
    """The three steps for one group of columns: W [o, g], U [g] -> bool [o, g]."""
    import torch

    likely = torch.zeros_like(w, dtype=torch.bool)
    for _ in range(1 if at_once else w.shape[1]):
        gains = _gains(w, u, bits, likely)
        new = gains > limit
        if not at_once:
            new &= torch.zeros_like(new).scatter(1, gains.argmax(1, keepdim=True), True)
        if not new.any():
            break
        likely |= new
    return _errors(w, likely, u, bits) > limit


def _gains(w: torch.Tensor, u: torch.Tensor, bits: int, out: torch.Tensor) -> torch.Tensor:
    """By how much the error of the weights that are not `out` falls when weight j leaves, too: [o, g]; 0 where it is out."""
    import torch

    whole = _errors(w, out, u, bits).masked_fill(out, 0.0).sum(1)
    gains = torch.zeros_like(w)
    for j in range(w.shape[1]):
        without = out.clone()
        without[:, j] = True
        gains[:, j] = whole - _errors(w, without, u, bits).masked_fill(without, 0.0).sum(1)
    return gains.masked_fill(out, 0.0)


def _errors(w: torch.Tensor, out: torch.Tensor, u: torch.Tensor, bits: int) -> torch.Tensor:
    """((w - q) / U)^2 [o, g], q: W rounded to 2^bits levels evenly spaced from the least to the largest that is not `out`."""
    mean = w.masked_fill(out, 0.0).sum(1, keepdim=True) / (~out).sum(1, keepdim=True).clamp_min(1)
    fitted = mean.where(out, w)
    low, high = fitted.amin(1, keepdim=True), fitted.amax(1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    safe = step.where(step > 0, step.new_ones(()))
    levels = ((w - low) / safe).round().clamp(0, 2**bits - 1)
    return ((w - low - levels * step) / u).square()


def crowding(counts: ArrayLike, share: float = 0.01) -> float | None:
    """Share of all outliers in the `share` of rows (or columns) that hold most of them, at least one row: 0 to 1.

    counts [rows] of outliers; spread evenly gives about `share`, 1 where a few rows have all of them. None where there are none.
    """
    n = np.sort(np.asarray(counts, np.int64))[::-1]
    total = int(n.sum())
    return float(n[: max(1, int(len(n) * share))].sum()) / total if total else None


@dataclass(frozen=True)
class OutlierCounts:
    """Outliers of a matrix by magnitude: how many in each row [o] and column [i], and the limit they exceed."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    limit: float

    @property
    def n(self) -> int:
        """All of them."""
        return int(self.rows.sum())


def count_outliers(slices: Callable[[], Iterable[torch.Tensor]], sigmas: float = SIGMAS) -> OutlierCounts:
    """`magnitude_outliers` of a finite matrix that comes in slices of rows [r, i], asked for twice: deviation, then counts."""
    n, total, square = 0, 0.0, 0.0
    for part in slices():
        wide = part.double()
        n, total, square = n + wide.numel(), total + float(wide.sum()), square + float(wide.square().sum())
    deviation = max(0.0, square / n - (total / n) ** 2) ** 0.5
    rows, columns = [], 0
    for part in slices():
        out = magnitude_outliers(part, sigmas, deviation=deviation)
        rows.append(out.sum(1).cpu().numpy())
        columns = columns + out.sum(0).cpu().numpy()
    return OutlierCounts(np.concatenate(rows), np.asarray(columns), sigmas * deviation)
