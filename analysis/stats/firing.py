"""In how many windows and documents each neuron fired: exact for any split of the stream and any order of merging.

A window or document counts once however its rows were spread, so one that is not complete yet is kept aside (its
candidates and which neurons fired in it) and folded in when its last row has come. Memory: O(n) for each open one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ACTIVE, NONZERO = 1, 2
"""The two bits of a firing map [n] uint8."""


@dataclass
class OpenWindow:
    """What is known of a window of which some rows are still to come."""

    document: int
    seen: int
    expected: int
    high: NDArray[np.float32]
    high_index: Ints
    """[n]: token index of the maximum so far, -1 where there is none."""
    high_key: NDArray[np.uint64]
    low: NDArray[np.float32]
    low_index: Ints
    low_key: NDArray[np.uint64]
    fired: NDArray[np.uint8]

    @property
    def complete(self) -> bool:
        """Whether all its rows have come."""
        return self.seen == self.expected

    def merge(self, other: OpenWindow) -> None:
        """Take in other rows of the same window."""
        if other.expected != self.expected or self.seen + other.seen > self.expected:
            raise ValueError(
                f"a window must have {self.expected} rows, got {self.seen + other.seen} (or {other.expected} expected); "
                "give each row once, and the same number of rows per window everywhere."
            )
        self.seen += other.seen
        self.fired |= other.fired
        for name, sign in (("high", 1), ("low", -1)):
            mine, theirs = sign * getattr(self, name), sign * getattr(other, name)
            index, their_index = getattr(self, f"{name}_index"), getattr(other, f"{name}_index")
            first = (theirs == mine) & (their_index < index)
            better = (their_index >= 0) & ((index < 0) | (theirs > mine) | first)
            for field_name in (name, f"{name}_index", f"{name}_key"):
                setattr(self, field_name, np.where(better, getattr(other, field_name), getattr(self, field_name)))


@dataclass
class Documents:
    """Documents fired in, per neuron. `totals` says how many windows each document has in all."""

    totals: Ints
    done: NDArray[np.bool_]
    """[documents]: whether all its windows have come."""
    fired: Ints
    """[2, n]: complete documents in which the neuron was active; was nonzero."""
    open: dict[int, tuple[int, NDArray[np.uint8]]] = field(default_factory=dict)
    """Document to (windows seen, firing map)."""

    @classmethod
    def empty(cls, n: int, totals: Ints) -> Documents:
        """No window yet."""
        return cls(totals, np.zeros(len(totals), bool), np.zeros((2, n), np.int64))

    def add(self, document: int, windows: int, fired: NDArray[np.uint8] | None) -> None:
        """Some complete windows of a document and where they fired (None: nowhere)."""
        if not 0 <= document < len(self.totals):
            raise ValueError(f"document id must be between 0 and {len(self.totals) - 1}, got {document}; number them from 0.")
        finished = int(self.totals[document]) if self.done[document] else 0
        seen, before = self.open.get(document, (finished, None))
        if before is None:
            before = np.zeros(self.fired.shape[1], np.uint8)
        if seen + windows > self.totals[document]:
            raise ValueError(f"document {document} must have {self.totals[document]} windows, got {seen + windows}; give each window once.")
        now = before if fired is None else before | fired
        if seen + windows == self.totals[document]:
            self.open.pop(document, None)
            self.done[document] = True
            self.fired += self._bits(now)
        else:
            self.open[document] = (seen + windows, now)

    @staticmethod
    def _bits(fired: NDArray[np.uint8]) -> Ints:
        return np.stack([fired & ACTIVE, fired >> 1]).astype(np.int64)

    def merge(self, other: Documents) -> None:
        """Take in another part of the stream."""
        if (self.done & other.done).any():
            twice = np.flatnonzero(self.done & other.done)[0]
            raise ValueError(f"a document must be seen once, got document {twice} complete in both; merge disjoint parts only.")
        self.done |= other.done
        self.fired += other.fired
        for document, (windows, fired) in other.open.items():
            self.add(document, windows, fired)

    def result(self) -> dict[str, NDArray[Any]]:
        """Documents seen (in part too), of them incomplete, and fired in, per neuron, by both definitions."""
        fired = sum((self._bits(now) for _, now in self.open.values()), start=self.fired.copy())
        return {
            "n_documents": np.array(int(self.done.sum()) + len(self.open)),
            "n_documents_incomplete": np.array(len(self.open)),
            "documents_active": fired[0],
            "documents_nonzero": fired[1],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name."""
        return {
            "totals": self.totals,
            "done": self.done,
            "fired": self.fired,
            "open_document": np.array(list(self.open), np.int64),
            "open_windows": np.array([seen for seen, _ in self.open.values()], np.int64),
            "open_fired": _stacked((fired for _, fired in self.open.values()), self.fired.shape[1], np.uint8),
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Documents:
        """Back from `arrays`."""
        entries = zip(arrays["open_document"], arrays["open_windows"], arrays["open_fired"], strict=True)
        opened = {int(d): (int(seen), fired.copy()) for d, seen, fired in entries}
        return cls(arrays["totals"].copy(), arrays["done"].copy(), arrays["fired"].copy(), opened)


def _stacked(rows: Iterable[NDArray[Any]], n: int, dtype: Any) -> NDArray[Any]:
    listed = list(rows)
    return np.stack(listed).astype(dtype) if listed else np.zeros((0, n), dtype)


_PER_NEURON = {
    "high": np.float32, "high_index": np.int64, "high_key": np.uint64,
    "low": np.float32, "low_index": np.int64, "low_key": np.uint64, "fired": np.uint8,
}  # fmt: skip


def open_window_arrays(windows: dict[int, OpenWindow], n: int) -> dict[str, NDArray[Any]]:
    """Open windows as arrays, for checkpoints."""
    listed = list(windows.values())
    found: dict[str, NDArray[Any]] = {"id": np.array(list(windows), np.int64)}
    for name in ("document", "seen", "expected"):
        found[name] = np.array([getattr(w, name) for w in listed], np.int64)
    return found | {name: _stacked((getattr(w, name) for w in listed), n, dtype) for name, dtype in _PER_NEURON.items()}


def open_windows_of(arrays: dict[str, NDArray[Any]]) -> dict[int, OpenWindow]:
    """Back from `open_window_arrays`."""
    return {
        int(window): OpenWindow(
            document=int(arrays["document"][k]),
            seen=int(arrays["seen"][k]),
            expected=int(arrays["expected"][k]),
            **{name: arrays[name][k].copy() for name in _PER_NEURON},
        )
        for k, window in enumerate(arrays["id"])
    }
