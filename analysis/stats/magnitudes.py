"""How often each magnitude of weight occurs: order statistics, thresholds and the Gini index of any number of tensors, from counts.

A key is the upper 19 bits of the float32 pattern without its sign: eight of the exponent, eleven of the mantissa (2,048 keys per
octave). Types of 16 bits and fewer have at most eleven bits of mantissa, so each of their magnitudes has a key of its own and every
order statistic is exact; of float32 a key holds magnitudes within one part in 2,048, and a `Tie` says how many share it. Float64 is
rounded to float32. Only keys that occur are kept. Counts add up across tensors: a global threshold needs no concatenation.

Source: SENSITIVITY 8.1; ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.stats.histogram import CENTRE, N_BINS, bin_index
from analysis.stats.sparsity import Measured

KEY_BITS = 12
"""Bits of the float32 pattern that a key leaves out."""
N_KEYS = 1 << 19
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
    """Whether every key stands for one magnitude: True as long as only exact types were added."""

    @classmethod
    def of(cls, values: Any, dtype: str | None = None) -> MagnitudeCounts:
        """Of a tensor or array of any shape; ``dtype`` is that of the file where the values were widened since."""
        made = cls()
        made.add(values, dtype)
        return made

    def add(self, values: Any, dtype: str | None = None) -> None:
        """Take in a slice of any shape."""
        name = dtype or str(values.dtype).removeprefix("torch.")
        array = values.detach().cpu().float().numpy() if hasattr(values, "detach") else values
        array = as_float32(np.asarray(array)).reshape(-1)
        finite = np.isfinite(array)
        table = np.bincount((array[finite].view(np.int32) & 0x7FFFFFFF) >> KEY_BITS)
        keys = np.flatnonzero(table)
        self.merge(MagnitudeCounts(keys, table[keys], array.size - int(finite.sum()), name in EXACT_TYPES or not array.size))

    def merge(self, other: MagnitudeCounts) -> None:
        """Take in the counts of another tensor."""
        keys, places = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        self.keys, self.counts = keys, counts
        self.n_nonfinite += other.n_nonfinite
        self.exact = self.exact and other.exact

    @property
    def n(self) -> int:
        """Finite values seen."""
        return int(self.counts.sum())

    @property
    def n_zero(self) -> int:
        """Values of key 0: exact zeros, and denormal numbers below 2^-137."""
        return int(self.counts[0]) if len(self.keys) and self.keys[0] == 0 else 0

    @property
    def lows(self) -> NDArray[np.float64]:
        """The smallest magnitude of each key that occurs; the magnitude itself where exact."""
        return key_low(self.keys)

    @property
    def middles(self) -> NDArray[np.float64]:
        """The magnitude that stands for each key: itself where exact, else the middle of the key's range; 0 for the key of zero."""
        if self.exact:
            return self.lows
        middle = (self.lows + key_low(np.minimum(self.keys + 1, N_KEYS // 256 * 255 - 1))) / 2
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

    def fixed_bins(self) -> NDArray[np.int64]:
        """Counts in the 258 bins of |w| of `histogram` (below 2^-20, eight per octave, from 2^12 on); exact: keys refine those bins."""
        where = bin_index(self.lows) - CENTRE
        return np.bincount(where, self.counts, minlength=N_BINS - CENTRE).astype(np.int64)


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """As float32; finite float64 beyond its range become its largest number, so that none turns infinite."""
    if array.dtype == np.float32:
        return array
    wide = array.astype(np.float64)
    largest = float(np.finfo(np.float32).max)
    return np.where(np.isfinite(wide), np.clip(wide, -largest, largest), wide).astype(np.float32)
