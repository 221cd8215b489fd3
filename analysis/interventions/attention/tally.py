"""What is counted while attention runs on fewer pairs: over all calls that were replaced, real queries only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.spec import Shares

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern


@dataclass(frozen=True)
class Kept:
    """What a method keeps of one pattern, and what finding it cost."""

    mask: Tensor
    """bool [heads or 1, n, n]; the model's own mask is applied afterwards."""
    products: float = 0.0
    """Query-key products computed for the selection and not for the attention itself, summed over heads, in whole head widths."""
    key_share: float = 0.0
    """Of the dense keys' and values' bytes at the last query: what the selection reads beyond the kept keys (all keys: a half)."""
    pairs: float | None = None
    """Pairs that the work is worth, summed over heads, where it is not those of the mask: low-rank parts."""
    keys: float | None = None
    """Keys with their values that the last query's reading is worth, summed over key heads, where it is not those of the mask."""
    removed: tuple[float, float] | None = None
    """Removed and whole of the method's own denominator, where that is not pairs."""
    evicts: bool = False
    """What the last query does not keep need not be held."""


@dataclass
class Tally:
    """Sums since a level was set. Pairs are counted by query head, keys by key head at each example's last real query."""

    pairs: float = 0.0
    """Pairs that the model's masks allow."""
    kept: float = 0.0
    products: float = 0.0
    """Further query-key products, of the selection."""
    stored: float = 0.0
    """Keys that the last query may see."""
    read: float = 0.0
    held: float = 0.0
    own_removed: float = 0.0
    own_whole: float = 0.0
    """Of the method's denominator, where that is not pairs."""
    selection_keys: float = 0.0
    """Further keys and values that the selection reads, in keys with their values."""

    def add(self, pattern: Pattern, kept: Kept) -> None:
        """One example of one call, with the mask [heads, n, n] as it was applied."""
        self.pairs += float(pattern.allowed.sum())
        self.kept += float(kept.mask.sum()) if kept.pairs is None else kept.pairs
        self.products += kept.products
        removed, whole = kept.removed or (0.0, 0.0)
        self.own_removed, self.own_whole = self.own_removed + removed, self.own_whole + whole
        stored = float(last_keys(pattern, pattern.allowed).sum())
        read = float(last_keys(pattern, kept.mask).sum()) if kept.keys is None else kept.keys
        self.stored, self.read = self.stored + stored, self.read + read
        self.held += read if kept.evicts else stored
        self.selection_keys += kept.key_share * stored

    @property
    def removed(self) -> float:
        """Share of the method's denominator that is gone, 0 to 1; of pairs, those not computed, 0 where what stands in for them is more."""
        return self.own_removed / self.own_whole if self.own_whole else max(0.0, 1 - self.kept / self.pairs)

    def shares(self) -> Shares:
        """For the cost: a product is half of what a pair costs, its value's the other half."""
        return Shares(
            pairs=self.kept / self.pairs,
            keys_read=self.read / self.stored,
            keys_held=self.held / self.stored,
            overhead_pairs=self.products / self.pairs / 2,
            overhead_keys=self.selection_keys / self.stored,
        )


def last_keys(pattern: Pattern, mask: Tensor) -> Tensor:
    """bool [key heads, n]: keys that the last query reads under a mask [heads, n, n], in any of the query heads that share them."""
    return mask[:, -1].unflatten(0, (pattern.groups, -1)).any(1)


def unused_products(pattern: Pattern, mask: Tensor) -> float:
    """Query-key products, summed over heads, of a selection that looks at every allowed pair, less those that the attention uses."""
    return float((pattern.allowed & ~mask).sum())


def unread_keys(pattern: Pattern, mask: Tensor) -> float:
    """Share of the dense keys' and values' bytes that such a selection reads at the last query beyond the kept keys: half are keys."""
    may = last_keys(pattern, pattern.allowed)
    return 0.5 * float((may & ~last_keys(pattern, mask & pattern.allowed)).sum()) / max(1.0, float(may.sum()))
