"""The magnitudes of a tensor counted by key, so that thresholds over a whole model need no model in memory.

A key is the upper 19 bits of |w| as float32: exponent and eleven bits of the mantissa. Keys are ordered as magnitudes are. Of a
16-bit type every magnitude has a key of its own, so that counts by key are exact; of a wider one, magnitudes of a key differ by at
most 1 part in 2,048, and `inside` fetches those of the keys that matter. What is not finite has the largest keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.stats.ratios import Counts, Magnitudes

if TYPE_CHECKING:
    import torch

SHIFT = 12
N_KEYS = 1 << 19


@dataclass(frozen=True)
class KeyCounts:
    """Weights of a tensor by key; keys that none has are left out."""

    keys: NDArray[np.int32]
    """Ascending."""
    counts: Counts
    """Weights of that key; exact zeros are not among them."""
    n_zero: int
    exact: bool
    """Whether all magnitudes of each key are the same."""

    @property
    def n(self) -> int:
        """All weights."""
        return self.n_zero + int(self.counts.sum())

    def magnitudes(self) -> Magnitudes:
        """One magnitude per key: the one it has where that is exact, else its middle; zeros as 0."""
        edges = _edges(self.keys)
        values = edges if self.exact else edges * (1 + 2.0**-12)
        return Magnitudes(*_with_zeros(values, self.counts, self.n_zero))

    def split_at(self, key: int, found: Magnitudes) -> Magnitudes:
        """All below `key` as one magnitude, those of `key` as they are, all above as one: enough for a threshold inside `key`."""
        below, above = (int(self.counts[where].sum()) for where in (self.keys < key, self.keys > key))
        low, high = _edges(np.array([max(key, 1), key + 1], np.int32))
        ends = [([low / 2], [below]), (found.values, found.counts), ([high * 2], [above])]
        kept = [(np.asarray(v, np.float64), np.asarray(c, np.int64)) for v, c in ends if sum(c)]
        values = np.concatenate([pair[0] for pair in kept] or [np.zeros(0)])
        counts = np.concatenate([pair[1] for pair in kept] or [np.zeros(0, np.int64)])
        return Magnitudes(*_with_zeros(values, counts, self.n_zero))


def count_keys(slices: Iterable[torch.Tensor]) -> KeyCounts:
    """The keys of a tensor that comes in slices of any shape and floating type."""
    import torch

    totals, n_zero, exact = torch.zeros(N_KEYS, dtype=torch.int64), 0, True
    for part in slices:
        bits, zero = _bits(part)
        n_zero += int(zero.sum())
        totals += torch.bincount((bits >> SHIFT)[~zero], minlength=N_KEYS).cpu()
        exact = exact and not bool((bits & ((1 << SHIFT) - 1)).any()) and (part.element_size() <= 4 or bool((part == part.float()).all()))
    counts = totals.numpy()
    keys = np.flatnonzero(counts)
    return KeyCounts(keys.astype(np.int32), counts[keys], n_zero, exact)


def inside(slices: Iterable[torch.Tensor], keys: Iterable[int]) -> Mapping[int, Magnitudes]:
    """The magnitudes of some keys, every distinct one of them with its count."""
    import torch

    wanted = torch.zeros(N_KEYS, dtype=torch.bool)
    wanted[list(keys)] = True
    found: list[NDArray[np.float64]] = []
    owners: list[NDArray[np.int64]] = []
    for part in slices:
        bits, zero = _bits(part)
        own = bits >> SHIFT
        take = wanted.to(own.device)[own] & ~zero
        found.append(part.reshape(-1)[take].double().abs().cpu().numpy())
        owners.append(own[take].cpu().numpy())
    values, owner = np.concatenate(found), np.concatenate(owners)
    return {key: Magnitudes.of(values[owner == key]) for key in sorted(set(keys))}


def threshold_keys(tensors: Iterable[KeyCounts], n_removed: Iterable[int]) -> list[int]:
    """The key that holds the last of the `n_removed` smallest weights of all tensors, for each number; 0 where only zeros go."""
    totals, n_zero = np.zeros(N_KEYS, np.int64), 0
    for one in tensors:
        totals[one.keys] += one.counts
        n_zero += one.n_zero
    gone = np.cumsum(totals) + n_zero
    return [0 if n <= n_zero else int(np.searchsorted(gone, n, side="left")) for n in n_removed]


def _bits(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patterns of |w| as float32, int64 [n], and whether w is exactly zero, [n]."""
    import torch

    flat = part.reshape(-1)
    return flat.float().abs().view(torch.int32).long(), flat == 0


def _edges(keys: NDArray[np.int32]) -> NDArray[np.float64]:
    """Least magnitude of each key; the largest finite one for what is not finite."""
    largest = np.int32(0x7F7FFFFF)
    patterns = np.minimum(keys.astype(np.int64) << SHIFT, largest).astype(np.int32)
    return np.maximum(patterns.view(np.float32).astype(np.float64), 1e-45)


def _with_zeros(values: NDArray[np.float64], counts: Counts, n_zero: int) -> tuple[NDArray[np.float64], Counts]:
    if not n_zero:
        return values, counts
    return np.concatenate([[0.0], values]), np.concatenate([[n_zero], counts]).astype(np.int64)
