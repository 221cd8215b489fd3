"""Where the rows of a block come from: token, window and document of each, prepared once for all sites of a batch.

A window is a run of consecutive tokens of one document; `token_index` = window id * window length + position names a
token globally. A document's windows, and even a window's rows, may come in different blocks and at different workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
CONTEXT = 5
"""Tokens in an example's key: its own and the four before it."""


def mixed(numbers: ArrayLike, seed: int = 0) -> NDArray[np.uint64]:
    """A seeded hash of int64 numbers to 64 bits, one to one for each seed (the finaliser of splitmix64, twice)."""
    state = np.asarray(numbers, dtype=np.int64).astype(np.uint64)
    for offset in (np.uint64(seed & 0xFFFFFFFFFFFFFFFF), np.uint64(0x9E3779B97F4A7C15)):
        with np.errstate(over="ignore"):
            state = state + offset
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def context_keys(token_ids: ArrayLike) -> NDArray[np.uint64]:
    """token_ids [B, L] -> hash of each token with the four before it in its window [B, L].

    Two examples with equal keys peak on the same token after the same four; positions before a window's start count as -1.
    """
    tokens = np.asarray(token_ids, dtype=np.int64)
    padded = np.concatenate([np.full((len(tokens), CONTEXT - 1), -1, np.int64), tokens], axis=1)
    key = np.zeros(tokens.shape, np.uint64)
    for back in range(CONTEXT):
        key = mixed((key + padded[:, back : back + tokens.shape[1]].astype(np.uint64)).astype(np.int64), seed=back)
    return key


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a block, in ascending `token_index`. Every array is [T]."""

    token_index: Ints
    window_id: Ints
    document_id: Ints
    key: NDArray[np.uint64]
    """Equal keys make two examples duplicates (`context_keys`)."""
    rankable: NDArray[np.bool_]
    """Whether the row may appear in rankings (not position 0, not a special token)."""
    window_rows: Ints
    """How many rows the row's window has at this site in all, over all blocks."""
    order: NDArray[np.int64] | None = None
    """How to sort the values that come with these rows; None where they are sorted."""

    def __post_init__(self) -> None:
        if len(self) >= 2**24:
            raise ValueError(f"a block must have fewer than {2**24} rows, got {len(self)}; update with smaller blocks.")
        if len({len(a) for a in (self.token_index, self.window_id, self.document_id, self.key, self.rankable, self.window_rows)}) > 1:
            raise ValueError("all arrays of Rows must be equally long; give one entry per row.")
        if (np.diff(self.token_index) <= 0).any():
            raise ValueError("token_index must be ascending without repeats; make rows with `rows_of_windows` or `take`.")
        if len(np.unique(self.windows)) != len(self.windows):
            raise ValueError("the rows of a window must be consecutive in token_index; use window id * length + position.")

    def __len__(self) -> int:
        return len(self.token_index)

    @cached_property
    def starts(self) -> Ints:
        """[W + 1]: window w owns rows starts[w] to starts[w + 1]."""
        if not len(self):
            return np.zeros(1, np.int64)
        return np.concatenate([[0], np.flatnonzero(np.diff(self.window_id)) + 1, [len(self)]]).astype(np.int64)

    @cached_property
    def windows(self) -> Ints:
        """[W]: the windows' ids."""
        return self.window_id[self.starts[:-1]]

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """[W]: whether all rows of the window are in this block."""
        return np.diff(self.starts) == self.window_rows[self.starts[:-1]]

    @cached_property
    def documents(self) -> tuple[Ints, Ints]:
        """The different documents, and for each row which of them [T]."""
        different, inverse = np.unique(self.document_id, return_inverse=True)
        return different, inverse.reshape(-1)

    @cached_property
    def _hashes(self) -> dict[int, NDArray[np.uint64]]:
        return {}

    def hashes(self, seed: int) -> NDArray[np.uint64]:
        """A hash of each row's token index [T]; made once for all sites."""
        if seed not in self._hashes:
            self._hashes[seed] = mixed(self.token_index, seed)
        return self._hashes[seed]

    def take(self, index: ArrayLike, *, whole: bool = False) -> Rows:
        """Some of the rows, in any order (`order` then says how to sort their values).

        ``whole=True``: these are all the rows their windows have at this site (an expert that sees some tokens);
        otherwise the windows stay open until their other rows have come too.
        """
        chosen = np.arange(len(self))[np.asarray(index)]
        order = np.argsort(self.token_index[chosen], kind="stable")
        is_sorted = bool((np.diff(order) == 1).all())
        rows = chosen[order]
        window_rows = self.window_rows[rows]
        if whole:
            _, inverse, counts = np.unique(self.window_id[rows], return_inverse=True, return_counts=True)
            window_rows = counts[inverse.reshape(-1)].astype(np.int64)
        return Rows(
            token_index=self.token_index[rows],
            window_id=self.window_id[rows],
            document_id=self.document_id[rows],
            key=self.key[rows],
            rankable=self.rankable[rows],
            window_rows=window_rows,
            order=None if is_sorted else order,
        )


def rows_of_windows(
    token_ids: ArrayLike,
    window_ids: ArrayLike,
    document_ids: ArrayLike,
    *,
    present: ArrayLike | None = None,
    rankable: ArrayLike | None = None,
) -> Rows:
    """Rows of a batch of windows: token_ids [B, L], window_ids and document_ids [B].

    ``present`` [B, L] leaves padding out (the values then hold only the present rows, row by row); ``rankable`` [B, L]
    says which tokens may appear in rankings, all but position 0 where not given. Windows may come in any order.
    """
    tokens = np.asarray(token_ids, dtype=np.int64)
    windows, length = np.asarray(window_ids, dtype=np.int64), tokens.shape[1]
    shown = np.ones(tokens.shape, bool) if present is None else np.asarray(present, dtype=bool)
    may_rank = np.broadcast_to(np.arange(length) > 0, tokens.shape) if rankable is None else np.asarray(rankable, dtype=bool)
    window_of, position = np.nonzero(shown)
    token_index = windows[window_of] * length + position
    order = np.argsort(token_index, kind="stable")
    is_sorted = bool((np.diff(order) == 1).all())
    w, p = window_of[order], position[order]
    return Rows(
        token_index=token_index[order],
        window_id=windows[w],
        document_id=np.asarray(document_ids, dtype=np.int64)[w],
        key=context_keys(tokens)[w, p],
        rankable=may_rank[w, p].copy(),
        window_rows=shown.sum(1)[w].astype(np.int64),
        order=None if is_sorted else order,
    )
