"""Single weights by a threshold, over the whole scope or in each matrix: one histogram serves all levels.

1. Once: count the scores by their leading 16 bits, which for floats are their order.
2. At a level: the histogram names the bin of the wanted rank; the scores in that bin are counted by their other 16 bits, which gives the
   exact score of that rank, and how many of its equals go, the first ones in flat order.
3. A mask is then a comparison.

``code`` is what the authors' programs do (METHODS 0.4): in each matrix, all scores up to and with that of rank int(n s) (Wanda's magnitude
baseline: one too many, and all ties); over the scope, all scores below the k-th, k = int(n s) (GlobalMP: one too few, and no ties).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.interventions.ordering import above, between, keys_of, places_of, value_of
from analysis.interventions.structures import removed_of

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.selecting import Levels, Scores, Shapes, Variant

_HALF = 1 << 15
"""Bins of the scores below zero, and as many of the others."""


@dataclass(frozen=True)
class Cut:
    """What goes of one matrix: scores below `at`, and the first `n_equal` of those that equal it."""

    at: float
    n_equal: int
    all_equal: bool
    """Whether these are all of its equals: then no place need be looked up."""
    removed: int


_NOTHING = Cut(float("-inf"), 0, False, 0)


class Cuts:
    """Thresholds over the whole scope, or of each matrix."""

    def __init__(self, scores: Scores, shapes: Shapes, together: bool, variant: Variant) -> None:
        self._scores, self._together, self._variant = scores, together, variant
        self._n = [d_out * d_in for d_out, d_in in shapes]
        self._counted = [_Histogram.of(scores(i)) for i in range(len(shapes))]
        everything = list(range(len(shapes)))
        self._groups = [(everything, _Histogram.sum(self._counted))] if together else [([i], self._counted[i]) for i in everything]
        self._last: tuple[tuple[float, ...], dict[int, list[Cut]]] = ((), {})
        """The levels asked for last, and the cuts found of them so far, by group."""

    def removed(self, levels: Levels) -> list[int]:
        """See `Selection`."""
        return [cut.removed for cut in self._cuts(levels)]

    def threshold(self, levels: Levels) -> float | None:
        """See `Selection`."""
        first = self._cuts(levels)[0]
        return first.at if self._together and first is not _NOTHING else None

    def keep(self, i: int, levels: Levels) -> Tensor:
        """See `Selection`."""
        cut, scores = self.cut(i, levels), self._scores(i)
        if cut.all_equal:
            return above(scores, cut.at)
        keep = above(scores, cut.at, or_equal=True)
        if cut.n_equal:
            keep = keep.contiguous()  # flat order is that of [d_out, d_in], however the scores lie
            keep.view(-1)[places_of(scores, cut.at, cut.n_equal)] = False
        return keep

    def cut(self, i: int, levels: Levels) -> Cut:
        """The threshold of matrix i."""
        return self._cuts_of(0, levels)[i] if self._together else self._cuts_of(i, levels)[0]

    def _cuts(self, levels: Levels) -> list[Cut]:
        return [cut for group in range(len(self._groups)) for cut in self._cuts_of(group, levels)]

    def _cuts_of(self, group: int, levels: Levels) -> list[Cut]:
        """Of one group alone: who asks for a single matrix at many levels does not pay for all others each time."""
        if self._last[0] != tuple(levels):
            self._last = (tuple(levels), {})
        found = self._last[1]
        if group not in found:
            members, counted = self._groups[group]
            found[group] = self._cut(members, counted, levels[members[0]])
        return found[group]

    def _rank(self, n: int, level: float) -> tuple[int, bool | None]:
        """Rank of the score to cut at, from 0, and whether its equals go: all, none, or (None) as many as it takes."""
        if self._variant == "text":
            return removed_of(n, level) - 1, None
        k = min(int(n * level), n)
        return (k - 1, False) if self._together else (min(k, n - 1), True)

    def _cut(self, group: list[int], counted: _Histogram, level: float) -> list[Cut]:
        """The cut of each matrix of a group that shares one order."""
        rank, equals_go = self._rank(sum(self._n[i] for i in group), level)
        if rank < 0 or level <= 0:
            return [_NOTHING] * len(group)
        place = counted.bin_of(rank)
        inside = [_Histogram.within(self._scores(i), place) for i in group]
        low = _Histogram.sum(inside).bin_of(rank - counted.before(place))
        at = value_of(((place - _HALF) << 16) + low)
        below = [self._counted[i].before(place) + one.before(low) for i, one in zip(group, inside)]
        left, cuts = rank + 1 - sum(below), []
        for n_below, one in zip(below, inside):
            n_equal = one.before(low + 1) - one.before(low)
            goes = min(left, n_equal) if equals_go is None else n_equal if equals_go else 0
            left -= goes
            cuts.append(Cut(at, goes, goes == n_equal, n_below + goes))
        return cuts


@dataclass(frozen=True)
class _Histogram:
    """Scores counted by 16 bits of their keys (`ordering`): the bins that hold any, and how many scores lie below each."""

    bins: NDArray[np.int64]
    below: NDArray[np.int64]
    """One more than bins: the last is the number of scores."""

    @classmethod
    def of(cls, scores: Tensor) -> _Histogram:
        """By the leading 16 bits."""
        return cls._count((keys_of(scores) >> 16) + _HALF)

    @classmethod
    def within(cls, scores: Tensor, place: int) -> _Histogram:
        """Of one such bin, by the other 16 bits: one bin for each number."""
        first = (place - _HALF) << 16
        return cls._count(keys_of(between(scores, value_of(first), value_of(first + 0xFFFF))) & 0xFFFF)

    @classmethod
    def _count(cls, places: Tensor) -> _Histogram:
        import torch

        return cls._from(torch.bincount(places.reshape(-1), minlength=2 * _HALF).cpu().numpy())

    @classmethod
    def sum(cls, several: Sequence[_Histogram]) -> _Histogram:
        counts = np.zeros(2 * _HALF, np.int64)
        for one in several:
            counts[one.bins] += np.diff(one.below)
        return cls._from(counts)

    @classmethod
    def _from(cls, counts: NDArray[np.int64]) -> _Histogram:
        bins = counts.nonzero()[0]
        return cls(bins, np.concatenate([[0], counts[bins].cumsum()]))

    def bin_of(self, rank: int) -> int:
        """The bin that holds the score of a rank, from 0."""
        return int(self.bins[np.searchsorted(self.below, rank, side="right") - 1])

    def before(self, place: int) -> int:
        """Scores in lower bins."""
        return int(self.below[np.searchsorted(self.bins, place)])
