"""Losses by example, in a stable order, so that the losses of two models on the same examples can be subtracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.stats.intervals import MeanOverDocuments, mean_over_documents


@dataclass(frozen=True)
class Losses:
    """What each example lost. All arrays are [n], in the order of the examples."""

    example: np.ndarray
    """int64: the window's number in the data, whatever the split and the batch size."""
    document: np.ndarray
    """int64: the document it comes from."""
    n: np.ndarray
    """int64: positions scored (tokens), or 1 where an example has one answer."""
    total: np.ndarray
    """float64: sum of the loss over those positions that have a finite one."""
    n_right: np.ndarray
    """int64: positions where the model's first choice was the answer (of a divergence: that of the reference)."""
    n_endless: np.ndarray
    """int64: positions whose loss is infinite or no number; they are in n, but not in total."""

    def __len__(self) -> int:
        return len(self.example)

    @classmethod
    def joined(cls, parts: Sequence[Losses]) -> Losses:
        """The losses of several parts, in order of the examples."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__}
        order = np.argsort(arrays["example"], kind="stable")
        return cls(**{name: values[order] for name, values in arrays.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, as `of_arrays` takes them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Losses:
        """What `arrays` gave."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def by_document(self) -> Losses:
        """Sums over the examples of each document; ``example`` is then the first of them."""
        found, first, place = np.unique(self.document, return_index=True, return_inverse=True)
        summed = ("n", "total", "n_right", "n_endless")
        sums = {name: np.bincount(place, weights=getattr(self, name), minlength=len(found)) for name in summed}
        counts = {name: np.rint(sums[name]).astype(np.int64) for name in ("n", "n_right", "n_endless")}
        return Losses(self.example[first], found, counts["n"], sums["total"], counts["n_right"], counts["n_endless"])


def mean_loss(losses: Losses) -> MeanOverDocuments | None:
    """Loss per position with its interval over documents; None where the loss of any position is infinite or nothing was scored."""
    found = losses.by_document()
    return None if found.n_endless.any() or not found.n.any() else mean_over_documents(found.total, found.n)


def mean_accuracy(losses: Losses) -> MeanOverDocuments | None:
    """Share of positions where the first choice was right, with its interval over documents; None where nothing was scored."""
    found = losses.by_document()
    return mean_over_documents(found.n_right, found.n) if found.n.any() else None


def difference(one: Losses, other: Losses) -> MeanOverDocuments | None:
    """Mean of one minus the other per position, paired by example, with its interval over documents; None as for `mean_loss`.

    Raises ValueError unless both are of the same examples and positions.
    """
    if not np.array_equal(one.example, other.example) or not np.array_equal(one.n, other.n):
        raise ValueError("losses can be subtracted only where both are of the same examples and positions; use the same task for both.")
    n_endless = one.n_endless + other.n_endless
    return mean_loss(Losses(one.example, one.document, one.n, one.total - other.total, one.n_right, n_endless))


def largest_gap(one: Losses, other: Losses) -> float:
    """Largest difference of an example's mean loss between two measurements of it, relative where the loss is above 1.

    Infinite where they do not have the same positions without a finite loss.
    """
    if not np.array_equal(one.n_endless, other.n_endless):
        return float("inf")
    n = np.maximum(1, one.n)
    gaps = np.abs(one.total - other.total) / n / np.maximum(1.0, np.abs(other.total / n))
    return float(gaps.max(initial=0.0))
