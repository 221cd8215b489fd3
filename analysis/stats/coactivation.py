"""Which latents are active on the same tokens: Jaccard indices of all pairs, from the few entries that are not zero.

J(i, j) = tokens on which both are active / tokens on which either is; 0 to 1, 1 where they are always active together. Source: ours (the
index is Jaccard's). Time goes with the sum over tokens of L0^2, so tokens are taken only up to a budget of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
BUDGET = 2**30
"""Pairs of latents that are active together, over all tokens taken."""
_BLOCK = 2**24
"""Pairs held at once."""


def within_budget(row: Ints, n_rows: int, budget: int) -> int:
    """How many of the first rows of n_rows may be taken so that the sum of their L0 squared stays within the budget; ``row`` [entries]."""
    together = np.bincount(row, minlength=n_rows).astype(np.int64)
    return int(np.searchsorted(np.cumsum(together**2), budget, side="right"))


def most_coactive(row: Ints, latent: Ints, n_rows: int, n_latents: int, k: int) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
    """For each latent the k others with the largest Jaccard index above 0: latent, rank, other, index, an entry each, in that order.

    Entries (row, latent) say who is active where, each pair once. Of equal indices the latent with the lower number comes first.
    """
    from scipy.sparse import csc_matrix

    active: Any = csc_matrix((np.ones(len(row), np.float32), (row, latent)), shape=(n_rows, n_latents))
    n_active = np.bincount(latent, minlength=n_latents)
    pairs = np.bincount(latent, weights=np.bincount(row, minlength=max(1, n_rows))[row], minlength=n_latents)
    block = np.floor(np.cumsum(pairs) / _BLOCK).astype(np.int64)
    parts = [_of_block(active, n_active, *_ends(block, b), k) for b in np.unique(block)]
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return found[0], found[1], found[2], found[3]


def _ends(block: Ints, number: int) -> tuple[int, int]:
    start, stop = np.searchsorted(block, [number, number + 1])
    return int(start), int(stop)


def _of_block(active: Any, n_active: Ints, start: int, stop: int, k: int) -> tuple[NDArray[Any], ...]:
    both = (active[:, start:stop].T @ active).tocoo()
    one, other = both.row.astype(np.int64) + start, both.col.astype(np.int64)
    kept = one != other
    one, other, n = one[kept], other[kept], both.data[kept].astype(np.float64)
    index = n / (n_active[one] + n_active[other] - n)
    order = np.lexsort((other, -index, one))
    one, other, index = one[order], other[order], index[order]
    first = np.flatnonzero(np.diff(one, prepend=-1))
    rank = np.arange(len(one)) - np.repeat(first, np.diff(np.append(first, len(one))))
    best = rank < k
    return one[best], rank[best], other[best], index[best]
