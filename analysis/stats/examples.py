"""Examples worth showing, kept exactly over a stream: the highest few, and all neurons in a sample of windows.

One candidate per window and neuron (the window's maximum over its rankable rows). Among candidates with equal keys only
the best stays; of two equal values the one with the smaller token index is better. The best k groups by their best
member are the same for any order of arrival, so lists can be merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.rows import mixed
from analysis.stats.threads import run

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass
class Best:
    """The k best examples of each neuron, best first. O(n k); the first `filled` entries of a neuron's rows count."""

    value: Floats32
    index: Ints
    key: Keys
    filled: Ints

    @classmethod
    def empty(cls, n: int, k: int) -> Best:
        """No example yet, room for k >= 1."""
        if k < 1:
            raise ValueError(f"the number of examples must be at least 1, got {k}; set top and bottom accordingly.")
        return cls(np.zeros((n, k), np.float32), np.zeros((n, k), np.int64), np.zeros((n, k), np.uint64), np.zeros(n, np.int64))

    def offer(self, values: Floats32, rows: NDArray[np.int32] | Ints, row_index: Ints, row_key: Keys) -> None:
        """Candidates values [W, n] with their rows [W, n] (-1: none), token index and key given per row."""
        for value, row in zip(values, rows, strict=True):
            some = np.flatnonzero(row >= 0)
            self._offer_one(some, value[some], row_index[row[some]], row_key[row[some]])

    def _offer_one(self, units: Ints, value: Floats32, index: Ints, key: Keys) -> None:
        """The reference: put the candidate beside the k kept, strike out the worse of duplicates, sort, keep k."""
        k = self.value.shape[1]
        values = np.concatenate([self.value[units], value[:, None]], axis=1)
        indices = np.concatenate([self.index[units], index[:, None]], axis=1)
        keys = np.concatenate([self.key[units], key[:, None]], axis=1)
        there = np.arange(k + 1) < self.filled[units, None]
        twin = there & (keys == key[:, None])
        beaten = twin & ((values < value[:, None]) | ((values == value[:, None]) & (indices > index[:, None])))
        there &= ~beaten
        there[:, k] = ~(twin & ~beaten).any(1)
        order = np.argsort(indices, axis=1, kind="stable")
        by_value = np.argsort(-np.take_along_axis(values, order, 1), axis=1, kind="stable")
        order = np.take_along_axis(order, by_value, 1)
        last = np.argsort(~np.take_along_axis(there, order, 1), axis=1, kind="stable")
        order = np.take_along_axis(order, last, 1)[:, :k]
        self.value[units], self.index[units] = np.take_along_axis(values, order, 1), np.take_along_axis(indices, order, 1)
        self.key[units] = np.take_along_axis(keys, order, 1)
        self.filled[units] = np.minimum(there.sum(1), k)

    def merge(self, other: Best) -> None:
        """Offer the other's examples."""
        n, k = other.value.shape
        rows = np.where(np.arange(k)[:, None] < other.filled, np.arange(n) + n * np.arange(k)[:, None], -1)
        self.offer(other.value.T, rows, other.index.T.reshape(-1), other.key.T.reshape(-1))

    def result(self, sign: int = 1) -> dict[str, NDArray[Any]]:
        """Values (times sign) and token indices [n, k], and how many of them each neuron has; 0 beyond that."""
        there = np.arange(self.value.shape[1]) < self.filled[:, None]
        return {
            "value": np.where(there, sign * self.value, 0).astype(np.float32),
            "token_index": np.where(there, self.index, 0),
            "filled": self.filled.copy(),
        }


Offer = tuple[Best, int, Floats32, NDArray[np.int32]]
"""A list, and the candidates sign * values [W, n] with their rows [W, n] (-1: none)."""


def offer_windows(offers: Sequence[Offer], windows: Ints, row_index: Ints, row_key: Keys, threads: int | None) -> None:
    """`Best.offer` of some of the windows, on this many threads by the compiled twin; by the reference where None."""
    if threads is None:
        for best, sign, values, rows in offers:
            best.offer(sign * values[windows], rows[windows], row_index, row_key)
        return
    from analysis.stats.kernel_examples import offer_fused

    def job(offer: Offer, start: int, end: int) -> None:
        best, sign, values, rows = offer
        mine = (best.value, best.index, best.key, best.filled)
        offer_fused(start, end, np.float32(sign), windows, values, rows, row_index, row_key, *mine)

    cuts = np.linspace(0, len(offers[0][0].value), threads + 1).astype(int)
    run([lambda _, o=o, s=s, e=e: job(o, s, e) for o in offers for s, e in zip(cuts[:-1], cuts[1:], strict=True)], threads)


@dataclass
class WindowSample:
    """A seeded sample of whole windows, the same for all neurons, with each neuron's maximum there. O(n windows).

    The windows with the smallest hashes of their ids: which ones does not depend on order, split or values.
    """

    hash: Keys
    window: Ints
    value: Floats32
    index: Ints
    """[windows, n]: token index of the maximum, -1 where no row could rank."""
    filled: Ints
    seed: Ints

    @classmethod
    def empty(cls, n: int, windows: int, seed: int) -> WindowSample:
        """No window yet."""
        shape = (windows, n)
        return cls(
            np.zeros(windows, np.uint64), np.zeros(windows, np.int64), np.zeros(shape, np.float32),
            np.full(shape, -1, np.int64), np.zeros(1, np.int64), np.array([seed], np.int64),
        )  # fmt: skip

    def place_for(self, window: int) -> int | None:
        """The slot this window takes, or None where it is not in the sample."""
        if self.filled[0] < len(self.hash):
            return int(self.filled[0])
        if not len(self.hash):
            return None
        worst = int(self.hash.argmax())
        return worst if mixed(window, int(self.seed[0])) < self.hash[worst] else None

    def put(self, place: int, window: int, value: Floats32, index: Ints) -> None:
        """Write a window into its slot."""
        self.filled[0] = max(self.filled[0], place + 1)
        self.hash[place], self.window[place] = mixed(window, int(self.seed[0])), window
        self.value[place], self.index[place] = np.where(index >= 0, value, 0), index

    def merge(self, other: WindowSample) -> None:
        """Offer the other's windows."""
        for k in range(int(other.filled[0])):
            place = self.place_for(int(other.window[k]))
            if place is not None:
                self.put(place, int(other.window[k]), other.value[k], other.index[k])

    def result(self) -> dict[str, NDArray[Any]]:
        """Windows in ascending id, values and token indices [n, windows] (index -1 never: see `defined`)."""
        order = np.argsort(self.window[: self.filled[0]])
        index = self.index[order].T
        return {
            "window": self.window[order],
            "value": np.ascontiguousarray(self.value[order].T),
            "token_index": np.maximum(index, 0),
            "defined": index >= 0,
        }
