"""Correlations among very many units on a sample of tokens: standardising, sampling, and what chance alone gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

ALPHA = 0.05
CONFIDENCE = 0.99
PEERS = 1000
"""Values that a quantile of chance correlations is taken of."""


def standardised(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [tokens, units] as rows [units, tokens] whose inner products are Pearson correlations, and which units have one [units].

    Each unit's values minus their mean, over the root of their sum of squares, in float64 and then float32. A unit with the same
    value on every token, or with a value that is not finite, has no correlation: its row is zero.
    """
    import torch

    by_unit = values.T.double()
    defined = torch.isfinite(by_unit).all(1) & (by_unit.amax(1) > by_unit.amin(1))
    centred = by_unit - by_unit.mean(1, keepdim=True)
    length = centred.norm(dim=1)
    defined &= length > 0
    return torch.where(defined[:, None], centred / torch.where(defined, length, 1.0)[:, None], 0.0).float(), defined


def correlation_threshold(n: int, n_pairs: int, alpha: float = ALPHA) -> float:
    """The correlation that the largest of ``n_pairs`` independent pairs exceeds with probability at most alpha; 0 to 1.

    tanh(z / sqrt(n - 3)) with z the normal quantile at 1 - alpha / n_pairs: Fisher's z with Bonferroni's bound, one-sided because the
    largest are looked for. n is the number of independent tokens, at least 4: below that no correlation is distinguishable and the
    answer is 1. Holds for roughly normal values; for rarely active units see `chance_levels`. Sources: Fisher 1921; the search bound is
    ours. Grows like sqrt(2 ln n_pairs / n): 0.2 for 1,024 tokens and a thousand million pairs.
    """
    from scipy.special import ndtri

    if n_pairs < 1:
        raise ValueError(f"n_pairs must be at least 1, got {n_pairs}; a correlation needs a pair.")
    if n < 4:
        return 1.0
    return math.tanh(-float(ndtri(min(alpha / n_pairs, 0.5))) / math.sqrt(n - 3))


def shuffled(rows: Tensor, seed: int) -> Tensor:
    """Each row [units, tokens] in a random order of its own: same values, no relation to any other unit. The same for the same seed."""
    import torch

    made = torch.Generator().manual_seed(seed)
    order = torch.rand(rows.shape, generator=made).argsort(1)
    return rows.gather(1, order.to(rows.device))


def heaviness(rows: Tensor) -> NDArray[np.float64]:
    """Kurtosis of each standardised row [units, tokens]: n times the sum of fourth powers, 1 to n; 3 for a normal distribution, n for
    a unit active on one token only. [units]"""
    return (rows.shape[1] * rows.double().pow(4).sum(1)).cpu().numpy()


def orders_for(n_units: int) -> int:
    """Random orders needed for `chance_levels`: one where there are enough units to learn from."""
    return max(1, math.ceil(4 * PEERS / max(1, n_units)))


def chance_levels(heavy: NDArray[np.float64], chance: NDArray[np.float64], confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """What chance alone gives each unit [units]: the level that its highest correlation stays below with this probability.

    ``chance`` [orders, units] holds the highest correlation each unit reached with any other once its own values were in random order.
    How high that gets depends on how heavy-tailed a unit's values are (two units active on one token each correlate perfectly if it
    is the same), so the level is the quantile over units next to it in ``heavy`` [units], `PEERS` values in all, or all there are.
    Ours. One unit at a time: of many units without any partner a share of 1 - confidence is still above.
    """
    orders, n = chance.shape
    width = min(n, math.ceil(PEERS / orders))
    order = np.argsort(heavy, kind="stable")
    by_heaviness, levels = chance[:, order], np.empty(n)
    for i in range(n):
        start = min(max(0, i - width // 2), n - width)
        levels[order[i]] = np.quantile(by_heaviness[:, start : start + width], confidence)
    return levels


def spread_sample(document: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Places of at most n items, ascending, spread over as many documents as possible: each document gives one per round.

    ``document`` [items] says which one an item belongs to. Within a document the order is random, and so is the choice of
    documents in the last round. Everything where there are at most n items.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(document))
    by_document = order[np.argsort(document[order], kind="stable")]
    starts = np.flatnonzero(np.diff(document[by_document], prepend=-1))
    sizes = np.diff(np.append(starts, len(document)))
    rounds = np.arange(len(document)) - np.repeat(starts, sizes)
    tie = random.random(len(document))
    return np.sort(by_document[np.lexsort((tie, rounds))[:n]])
