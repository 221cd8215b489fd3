"""How much a head looks along a diagonal of repeated text: previous-token, duplicate-token and induction scores (METHODS C19);
and how much of it falls on a head detector's pattern, over the whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("previous", "duplicate", "induction")


def offsets(period: int) -> tuple[int, int, int]:
    """How far back each of `SCORES` looks in text that repeats every ``period`` tokens: to the token before, to the earlier copy, to
    the token after it."""
    return 1, period, period - 1


def stripe_sums(weights: Tensor, start: int, period: int) -> NDArray[np.float64]:
    """Sums over rows of the attention on three diagonals: [batch, 3] of weights [batch, rows, keys], the first row being ``start``.

    Rows count from ``period + 1`` on: [BOS] + R + R, so the second copy. Divide by ``period`` for the score; range 0 to 1, and 1 for a
    perfect head. Source: TransformerLens' demos.
    """
    import torch

    first, stop = max(start, period + 1), start + weights.shape[1]
    if first >= stop:
        return np.zeros((len(weights), len(SCORES)))
    rows = torch.arange(first, stop)
    found = [weights[:, rows - start, rows - back].double().sum(1).cpu().numpy() for back in offsets(period)]
    return np.stack(found, axis=1)


def detection_patterns(tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a perfect head of each of `SCORES` looks: bool [3, n, n] for tokens [n].

    The token before; every earlier copy of the token; the token after each. Source: METHODS C19 (TransformerLens' head detector).
    """
    same = np.tril(tokens[:, None] == tokens[None], -1)
    after = np.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    return np.stack([np.eye(len(tokens), k=-1, dtype=bool), same, np.tril(after)])


def detector_sums(weights: Tensor, start: int, patterns: Tensor) -> NDArray[np.float64]:
    """Per head and pattern [heads, 3, 2] the sums over these rows of A where the pattern D is, and of |A - D|.

    ``weights`` [heads, rows, keys], the first row being ``start``, keys left off at the end having none; ``patterns`` bool [3, n, n].
    """
    rows, keys = weights.shape[1:]
    parts = patterns[:, start : start + rows]
    missed = parts[:, :, keys:].sum((1, 2)).cpu().numpy()
    found = np.zeros((len(weights), len(SCORES), 2))
    for i, part in enumerate(parts[:, :, :keys]):
        inside = (weights * part).double().sum((1, 2))
        found[:, i, 0] = inside.cpu().numpy()
        # |A - D| is A outside of D, and 1 - A inside
        found[:, i, 1] = (weights.double().sum((1, 2)) - 2 * inside + int(part.sum())).cpu().numpy() + missed[i]
    return found


def detector_scores(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """TransformerLens' scores from the sums over all n rows: [..., 0] is mul, sum(A D) / sum(A); [..., 1] is abs, 1 - mean|A - D| n.

    Every row of A adds up to 1. mul: range 0 to 1; abs: at most 1, below 0 where D has more than the head. The first row of D is empty, so
    that a perfect head stays below 1: a previous-token head with n = 6 has .833333 and .833. Not rounded.
    """
    return np.stack([sums[..., 0] / n, 1 - sums[..., 1] / n], axis=-1)
