"""Two tensors of one shape, entry by entry: what changed, what their zeros share, how alike they are. Slices in, numbers out.

METHODS A0: mask overlap (IoU of the non-zero sets) with its chance level. Entries that are NaN, infinite or beyond `LARGEST` in
either tensor are counted apart and left out of every other number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

LARGEST = 1e150
"""Magnitudes beyond have squares that no float64 holds."""


@dataclass
class PairSums:
    """Sums over entries of (after a, base b), d = a - b; they merge by addition, but for the maximum."""

    n: int = 0
    """Entries finite in both."""
    n_nonfinite: int = 0
    n_changed: int = 0
    """a != b, which is d != 0."""
    n_zero: int = 0
    n_zero_base: int = 0
    n_zero_both: int = 0
    n_kept_same: int = 0
    """Neither is zero, and a = b."""
    square: float = 0.0
    square_base: float = 0.0
    product: float = 0.0
    square_change: float = 0.0
    root_change: float = 0.0
    """Sum of |d|^(1/2)."""
    size_change: float = 0.0
    """Sum of |d|."""
    largest_change: float = 0.0

    def update(self, after: torch.Tensor, base: torch.Tensor, change: torch.Tensor | None = None) -> None:
        """Take in a slice, float64, of one shape each. ``change`` is given where d is known better than as a - b, or known already."""
        if not (fits(after) and fits(base)):
            finite = usable(after) & usable(base)
            self.n_nonfinite += finite.numel() - int(finite.sum())
            after, base, change = after[finite], base[finite], None if change is None else change[finite]
        n = after.numel()
        if not n:
            return
        a, b = after.reshape(-1), base.reshape(-1)
        d = a - b if change is None else change.reshape(-1)
        n_changed, n_zero_both = int(d.count_nonzero()), n - int(a.logical_or(b).count_nonzero())
        self.n += n
        self.n_changed += n_changed
        self.n_zero += n - int(a.count_nonzero())
        self.n_zero_base += n - int(b.count_nonzero())
        self.n_zero_both += n_zero_both
        self.n_kept_same += n - n_changed - n_zero_both  # what is unchanged is zero in both, or in neither
        self.square += float(a.dot(a))
        self.square_base += float(b.dot(b))
        self.product += float(a.dot(b))
        if n_changed:
            size = d.abs()
            self.square_change += float(d.dot(d))
            self.size_change += float(size.sum())
            self.largest_change = max(self.largest_change, float(size.max()))
            self.root_change += float(size.sqrt_().sum())

    def merge(self, other: PairSums) -> None:
        """Take in the sums of other entries."""
        largest = max(self.largest_change, other.largest_change)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest_change = largest

    def array(self) -> NDArray[np.float64]:
        """As `of_array` takes it; counts up to 2^53 are exact."""
        return np.array(astuple(self), np.float64)

    @classmethod
    def of_array(cls, values: NDArray[np.float64]) -> PairSums:
        """What `array` gave."""
        made = cls(*values.tolist())
        for name in ("n", "n_nonfinite", "n_changed", "n_zero", "n_zero_base", "n_zero_both", "n_kept_same"):
            setattr(made, name, int(getattr(made, name)))
        return made

    # -- what they say ------------------------------------------------------------------------------------------------

    @property
    def changed_share(self) -> float | None:
        """Entries with a != b / entries; one minus it is the sparsity of the difference. None without entries."""
        return self.n_changed / self.n if self.n else None

    @property
    def n_new_zero(self) -> int:
        """Zero now, not in the base."""
        return self.n_zero - self.n_zero_both

    @property
    def n_revived(self) -> int:
        """Zero in the base, not now."""
        return self.n_zero_base - self.n_zero_both

    @property
    def n_kept(self) -> int:
        """Zero in neither."""
        return self.n - self.n_zero - self.n_zero_base + self.n_zero_both

    @property
    def same_share_of_kept(self) -> float | None:
        """Unchanged / zero in neither; None where every entry is zero in one of them."""
        return self.n_kept_same / self.n_kept if self.n_kept else None

    @property
    def mask_overlap(self) -> float | None:
        """IoU of the sets of non-zero entries: both / either; None where both tensors are all zero. Source: METHODS A0."""
        either = self.n - self.n_zero_both
        return self.n_kept / either if either else None

    @property
    def mask_chance(self) -> float | None:
        """`chance_overlap` at the two densities; None where `mask_overlap` is."""
        if self.n == self.n_zero_both:
            return None
        return chance_overlap(1 - self.n_zero / self.n, 1 - self.n_zero_base / self.n)

    @property
    def cosine(self) -> float | None:
        """<a, b> / (|a| |b|), -1 to 1; None where either is all zero."""
        if self.square <= 0 or self.square_base <= 0:
            return None
        return 1.0 if not self.n_changed else max(-1.0, min(1.0, self.product / (sqrt(self.square) * sqrt(self.square_base))))

    @property
    def norm_ratio(self) -> float | None:
        """|a| / |b|; None where the base is all zero."""
        return sqrt(self.square / self.square_base) if self.square_base > 0 else None

    @property
    def relative_change(self) -> float | None:
        """|a - b| / |b| (Frobenius); 0 where nothing changed, None where the base is all zero and something did."""
        if not self.n_changed:
            return 0.0
        return sqrt(self.square_change / self.square_base) if self.square_base > 0 else None


def chance_overlap(density: float, other: float) -> float:
    """Expected IoU of two independent random masks, densities p and q: p q / (p + q - p q); p / (2 - p) where equal (METHODS A0).

    Of large masks: the ratio of expectations. Range 0 to 1; two empty masks are refused.
    """
    either = density + other - density * other
    if either <= 0:
        raise ValueError(f"densities must not both be 0, got {density} and {other}; two empty masks have no overlap.")
    return density * other / either


def fits(values: torch.Tensor) -> bool:
    """Whether every entry is finite and at most `LARGEST`; of no entries True."""
    if not values.numel():
        return True
    low, high = values.aminmax()
    return bool(low >= -LARGEST) and bool(high <= LARGEST)  # False for NaN, which both ends then are


def usable(values: torch.Tensor) -> torch.Tensor:
    """Which entries are finite and at most `LARGEST`."""
    return values.abs() <= LARGEST  # False for NaN and infinity, too


# ---------------------------------------------------------------------------------------------------------------------
# Where in a matrix


def edges(n: int, tiles: int) -> NDArray[np.int64]:
    """Starts of at most `tiles` consecutive tiles, as equal as can be, of n > 0 places: int64 [min(n, tiles) + 1], ends among them."""
    return np.linspace(0, n, min(n, tiles) + 1).astype(np.int64)


@dataclass
class Tiles:
    """Counts of true entries in a grid of tiles, from slices of rows of a matrix [rows, columns]."""

    shape: tuple[int, int]
    per_side: int

    def __post_init__(self) -> None:
        self.rows, self.columns = edges(self.shape[0], self.per_side), edges(self.shape[1], self.per_side)
        self.counts: NDArray[np.int64] = np.zeros((len(self.rows) - 1, len(self.columns) - 1), np.int64)

    def update(self, start: int, flags: Any) -> None:
        """Take in bools [k, columns], the rows from `start` on."""
        found = np.asarray(flags)
        if not found.any():
            return
        by_column = np.add.reduceat(found, self.columns[:-1], axis=1, dtype=np.int64)
        tile = np.searchsorted(self.rows, np.arange(start, start + len(found)), side="right") - 1
        np.add.at(self.counts, tile, by_column)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Entries of each tile."""
        return np.outer(np.diff(self.rows), np.diff(self.columns))


def largest_places(values: Sequence[float] | NDArray[np.float64], k: int) -> list[int]:
    """Places of the k largest positive values, descending; of ties the lowest first."""
    array = np.asarray(values, np.float64)
    order = np.argsort(-array, kind="stable")[:k]
    return [int(place) for place in order if array[place] > 0]
