"""How often each magnitude of weight occurs: order statistics, thresholds and the Gini index of any number of tensors, from counts.

A key is the upper 19 bits of the float32 pattern without its sign: eight of the exponent, eleven of the mantissa (2,048 keys per
octave). Types of 16 bits and fewer have at most eleven bits of mantissa, so each of their magnitudes has a key of its own and every
order statistic is exact; of float32 a key holds magnitudes within one part in 2,048, and a `Tie` says how many share it; `inside`
fetches those of the keys that matter. Float64 is rounded to float32. Only keys that occur are kept. Counts add up across tensors: a
global threshold needs no concatenation.

Source: SENSITIVITY 8.1; ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.stats.histogram import CENTRE, N_BINS, bin_index
from analysis.stats.ratios import Magnitudes
from analysis.stats.sparsity import Measured

KEY_BITS = 12
"""Bits of the float32 pattern that a key leaves out."""
N_KEYS = 1 << 19
INFINITE = 0x7F800000 >> KEY_BITS
"""The first key that no finite magnitude has: it stands for all that is not finite."""
LARGEST = float(np.finfo(np.float32).max)
EXACT_TYPES = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
"""Types whose magnitudes all have a key of their own, as torch names them."""


class Tie(NamedTuple):
    """Where a rank falls: `below` magnitudes are smaller than ``low``, `inside` lie in [low, high), the rank among them."""

    low: float
    high: float
    """Equal to ``low`` where the type is exact: all `inside` are that one magnitude."""
    below: int
    inside: int


def key_low(key: Any) -> NDArray[np.float64]:
    """The smallest magnitude of each key."""
    return (np.asarray(key, dtype=np.int64) << KEY_BITS).astype(np.uint32).view(np.float32).astype(np.float64)


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass
class MagnitudeCounts:
    """Counts of the finite magnitudes by key. O(keys that occur): at most 2^19, a few ten thousand for most tensors."""

    keys: NDArray[np.int64] = field(default_factory=_none)
    """The keys that occur, ascending."""
    counts: NDArray[np.int64] = field(default_factory=_none)
    """How often; same length, none zero."""
    n_nonfinite: int = 0
    exact: bool = True
    """Whether every key stands for one magnitude, as in values of 16 bits, however wide they are stored."""
    n_tiny: int = 0
    """Of the values of key 0, those that are not exactly zero: below 2^-137."""

    @classmethod
    def of(cls, values: Any) -> MagnitudeCounts:
        """Of a tensor or array of any shape."""
        return cls.of_slices([values])

    @classmethod
    def of_slices(cls, slices: Iterable[Any]) -> MagnitudeCounts:
        """Of a tensor that comes in slices of any shape, one in memory at a time."""
        made = cls()
        for values in slices:
            made.add(values)
        return made

    def add(self, values: Any) -> None:
        """Take in a slice of any shape."""
        array = _flat(values)
        bits = _patterns(array)
        bits = bits[bits < INFINITE << KEY_BITS]
        table = np.bincount(bits >> KEY_BITS)
        keys = np.flatnonzero(table)
        exact = not (bits & ((1 << KEY_BITS) - 1)).any() and (array.dtype != np.float64 or _is_float32(array))
        n_tiny = int(table[0]) - int((array == 0).sum()) if len(table) else 0
        self.merge(MagnitudeCounts(keys, table[keys], array.size - len(bits), exact, n_tiny))

    def merge(self, other: MagnitudeCounts) -> None:
        """Take in the counts of another tensor."""
        keys, places = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        self.keys, self.counts = keys, counts
        self.n_nonfinite += other.n_nonfinite
        self.exact = self.exact and other.exact
        self.n_tiny += other.n_tiny

    @property
    def n_weights(self) -> int:
        """All values seen, finite or not."""
        return self.n + self.n_nonfinite

    @property
    def n(self) -> int:
        """Finite values seen."""
        return int(self.counts.sum())

    @property
    def n_zero(self) -> int:
        """Exact zeros."""
        return (int(self.counts[0]) if len(self.keys) and self.keys[0] == 0 else 0) - self.n_tiny

    @property
    def lows(self) -> NDArray[np.float64]:
        """The smallest magnitude of each key that occurs; the magnitude itself where exact."""
        return key_low(self.keys)

    @property
    def middles(self) -> NDArray[np.float64]:
        """The magnitude that stands for each key: itself where exact, else the middle of the key's range; 0 for the key of zero."""
        if self.exact:
            return self.lows
        middle = (self.lows + key_low(np.minimum(self.keys + 1, INFINITE - 1))) / 2
        return np.where(self.keys > 0, np.maximum(middle, self.lows), 0.0)

    def rank(self, k: int) -> Tie:
        """Where the k-th smallest magnitude lies, 1 <= k <= n. To remove exactly k: all below, and k - below of those inside."""
        if not 1 <= k <= self.n:
            raise ValueError(f"k must be between 1 and {self.n}, the number of magnitudes, got {k!r}; removing none needs no threshold.")
        reached = np.cumsum(self.counts)
        place = int(np.searchsorted(reached, k))
        low, inside = float(self.lows[place]), int(self.counts[place])
        high = low if self.exact else float(key_low(self.keys[place] + 1))
        return Tie(low, high, int(reached[place]) - inside, inside)

    def below(self, threshold: float) -> Tie:
        """How many magnitudes lie below the key of a threshold, and how many share that key. Threshold finite, at least 0."""
        bits = np.asarray(threshold, np.float64).astype(np.float32).view(np.int32)
        key = int(bits & 0x7FFFFFFF) >> KEY_BITS
        first, last = np.searchsorted(self.keys, [key, key + 1])
        low = float(key_low(key))
        high = low if self.exact else float(key_low(key + 1))
        return Tie(low, high, int(self.counts[:first].sum()), int(self.counts[first:last].sum()))

    def n_up_to(self, bar: float) -> int:
        """Magnitudes at most ``bar``: exactly where `exact`; else those of keys that end below it, which may miss some within 0.05 %."""
        ends = self.lows if self.exact else np.where(self.keys > 0, key_low(self.keys + 1), 0.0)
        return int(self.counts[ends <= bar].sum())

    def gini(self) -> Measured:
        """Gini index of the magnitudes (`sparsity.gini`): exact where `exact`, else with a key's magnitudes taken as its middle one.

        Equal magnitudes of ranks r + 1 to r + c share the mean of their weights, so a key is one term. O(keys).
        """
        n, sizes = self.n, self.middles
        total = float((self.counts * sizes).sum())
        if not total:
            return Measured(np.float64(0), np.asarray(False))  # type: ignore[arg-type]
        before = np.cumsum(self.counts) - self.counts
        weights = (n - before - (self.counts + 1) / 2 + 0.5) / n
        return Measured(1 - 2 * (self.counts * sizes * weights).sum() / total, np.asarray(True))

    def fixed_bins(self, unit: float = 1.0) -> NDArray[np.int64]:
        """Counts in the 258 bins of ``unit`` |w| of `histogram` (below 2^-20, eight per octave, from 2^12 on); exact: keys refine those
        bins, as ``unit`` is a power of two."""
        where = bin_index(np.minimum(self.lows * unit, LARGEST)) - CENTRE
        return np.bincount(where, self.counts, minlength=N_BINS - CENTRE).astype(np.int64)

    # -----------------------------------------------------------------------------------------------------------------
    # Thresholds

    def magnitudes(self) -> Magnitudes:
        """One magnitude per key, its middle one; what is not finite counts as the largest there is."""
        tiny = key_low(1) / 2
        some = self.keys > 0
        return _counted((0.0, self.n_zero), (tiny, self.n_tiny), (self.middles[some], self.counts[some]), (LARGEST, self.n_nonfinite))

    def split_at(self, key: int, found: Magnitudes) -> Magnitudes:
        """Zeros as they are, all others below ``key`` as one magnitude, those of ``key`` as they are, all above as one: enough for a
        threshold inside ``key``. `found`: what `inside` gave for that key."""
        below = int(self.counts[self.keys < key].sum()) - (self.n_zero if key else 0)
        above = int(self.counts[self.keys > key].sum()) + (self.n_nonfinite if key < INFINITE else 0)
        low, high = key_low([max(key, 1), min(key + 1, INFINITE - 1)])
        return _counted((0.0, self.n_zero), (low / 2, below), (found.values, found.counts), (high * 2, above))


def threshold_keys(tensors: Iterable[MagnitudeCounts], n_removed: Iterable[int]) -> list[int]:
    """The key that holds the last of the ``n_removed`` smallest weights of all tensors, for each number; 0 where only zeros go.

    What is not finite is removed last.
    """
    totals = np.zeros(INFINITE + 1, np.int64)
    for one in tensors:
        totals[one.keys] += one.counts
        totals[INFINITE] += one.n_nonfinite
    gone = np.cumsum(totals)
    return [int(np.searchsorted(gone, n, side="left")) for n in n_removed]


def inside(slices: Iterable[Any], keys: Iterable[int]) -> Mapping[int, Magnitudes]:
    """The magnitudes of some keys, every distinct one of them with its count; zeros are left out, what is not finite is the largest."""
    wanted = np.zeros(INFINITE + 1, bool)
    wanted[list(keys)] = True
    found, owners = [np.zeros(0)], [np.zeros(0, np.int32)]
    for part in slices:
        array = _flat(part)
        own = np.minimum(_patterns(array) >> KEY_BITS, INFINITE)
        take = wanted[own] & (array != 0)
        owners.append(own[take])
        sizes = np.abs(array[take].astype(np.float64))
        found.append(np.where(owners[-1] < INFINITE, sizes, LARGEST))
    values, owner = np.concatenate(found), np.concatenate(owners)
    return {key: Magnitudes.of(values[owner == key]) for key in sorted(set(keys))}


def _counted(*parts: tuple[Any, Any]) -> Magnitudes:
    """Magnitudes and their counts one after the other; those that are not there are left out."""
    values = np.concatenate([np.atleast_1d(np.asarray(v, np.float64)) for v, _ in parts])
    counts = np.concatenate([np.atleast_1d(np.asarray(c, np.int64)) for _, c in parts])
    return Magnitudes(values[counts > 0], counts[counts > 0])


def _flat(values: Any) -> NDArray[Any]:
    """As an array of one axis: float64 as it is, all else as float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if values.element_size() == 8 else values.float().numpy()
    array = np.asarray(values).reshape(-1)
    return array if array.dtype == np.float64 else as_float32(array)


def _patterns(array: NDArray[Any]) -> NDArray[np.int32]:
    """Patterns of |w| as float32."""
    return as_float32(array).view(np.int32) & np.int32(0x7FFFFFFF)


def _is_float32(array: NDArray[np.float64]) -> bool:
    finite = array[np.isfinite(array)]
    return bool((finite == as_float32(finite)).all())


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """As float32; finite float64 beyond its range become its largest number, so that none turns infinite."""
    if array.dtype == np.float32:
        return array
    wide = array.astype(np.float64)
    return np.where(np.isfinite(wide), np.clip(wide, -LARGEST, LARGEST), wide).astype(np.float32)
