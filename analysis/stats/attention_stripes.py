"""How much a head looks along a diagonal of repeated text: previous-token, duplicate-token and induction scores (METHODS C19)."""

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
