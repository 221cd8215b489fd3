"""Attention of one place in a model, head by head: mergeable sums over any number of windows, taken a block of queries at a time.

`HeadTally` holds sums that add up: per head and bin of query position the measures of `attention_measures.Row`, per head mass by
distance, block densities, what the keys receive. Memory does not grow with the windows read; while a window is read it holds 4
numbers per head and key and one per head and 16 x 16 pairs, never the pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.stats.attention_columns import N_WINDOW, window_sums
from analysis.stats.attention_measures import BLOCKS, N_COLUMNS, N_COUNTS, N_DISTANCES, N_POSITIONS, ROW, STRIPES, TARGETS
from analysis.stats.threads import run

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
_NOTHING = np.zeros(0, np.float32)
SUMMED = ("sums", "counts", "distances", "odd", "window_sums", "window_counts", "channels")
SMALLEST = -87.0
"""Exponentials are taken from here on: below, float32 turns denormal, and slow by a factor of a hundred. e^-87 is 1.6e-38: nothing."""
BY_DOCUMENT = (ROW.share_90, ROW.relative_entropy, ROW.first, ROW.local_64)
"""Measures that get an interval: their sums are also kept by document."""


@dataclass(frozen=True)
class Queries:
    """What is known of the windows of one call beside its logits; arrays by window (and head)."""

    keep: NDArray[np.bool_]
    """[windows, queries]: real tokens."""
    origin: NDArray[np.int64]
    """[windows]: the query that is at position 0."""
    first: NDArray[np.int64]
    """[windows]: the first key that is no padding."""
    document: NDArray[np.int64]
    """[windows]: the document of each."""
    n_keys: int
    is_self: bool
    """Queries and keys are the same tokens, so that distances mean something."""
    special_queries: NDArray[np.bool_] | None = None
    special_keys: NDArray[np.bool_] | None = None
    """[windows, queries] and [windows, keys]; None where the inputs are not tokens."""
    moved: NDArray[np.float32] | None = None
    """[windows, heads, keys]: |v W_O|; None where it could not be had."""
    head_norm: NDArray[np.float32] | None = None
    output_norm: NDArray[np.float32] | None = None
    """[windows, heads, queries]: |z| and |z W_O| of the head's output z."""
    learned_sink: NDArray[np.float32] | None = None
    """[windows, heads, queries]: what learned sinks take of each query's attention; None where there are none."""
    channels: Floats | None = None
    """[heads, d]: sum over real tokens of |q_c k_c|; None where queries and keys are not the same tokens."""


class Room:
    """Memory for the exponentials of a block, kept from block to block; tallies that do not run at once may share one."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def of(self, like: Tensor) -> Tensor:
        """A tensor of that shape, with whatever stands there."""
        if self._held is None or self._held.numel() < like.numel() or self._held.device != like.device:
            self._held = like.new_empty(like.numel())
        return self._held[: like.numel()].view(like.shape)


class HeadTally:
    """Sums of one attention site, over windows."""

    def __init__(self, heads: int, channels: int = 0, *, block: int = BLOCKS[0], threads: int = 1, room: Room | None = None) -> None:
        self.heads, self.block, self.threads, self._room = heads, block, threads, room or Room()
        self.sums: Floats = np.zeros((heads, N_POSITIONS, len(ROW)))
        self.counts = np.zeros((heads, N_POSITIONS, N_COUNTS), np.int64)
        self.distances: Floats = np.zeros((heads, N_DISTANCES))
        self.odd = np.zeros((heads, 2), np.int64)
        """Rows without a valid key, and with a single one; both are left out of the sums."""
        self.window_sums: Floats = np.zeros((heads, N_WINDOW))
        self.window_counts = np.zeros((heads, N_WINDOW), np.int64)
        """Measures of a whole window (`attention_columns.WINDOW`), and the windows that have each."""
        self.channels: Floats = np.zeros((heads, channels))
        self.documents = np.zeros(0, np.int64)
        """Documents read, ascending; their sums of `BY_DOCUMENT` and, last, their rows: [documents, heads, measures + 1]."""
        self.document_sums: Floats = np.zeros((0, heads, len(BY_DOCUMENT) + 1))

    def update(self, queries: Queries, blocks: Iterable[tuple[int, Tensor]]) -> None:
        """Add the windows of one call. ``blocks``: (first row, logits [windows * heads, rows, keys]) in order of rows; natural
        logarithms up to a constant per row, float32, `attention_kernel.EXCLUDED` where masked. The tensors are overwritten.

        Keys that a block leaves off at the end are excluded.
        """
        call = _Call(self, queries)
        for start, logits in blocks:
            self._rows(call, start, logits)
        sums, counts = call.sums.sum(1), call.counts.sum(1)
        self.distances += call.distances.sum((0, 1))
        self.sums += sums.sum(0)
        self.counts += counts.sum(0)
        self.odd += call.odd.sum(0)
        kept = np.concatenate([sums[..., BY_DOCUMENT], counts[..., :1]], axis=-1).sum(2)
        self._add_documents(queries.document, kept)
        if queries.channels is not None and self.channels.size:
            self.channels += queries.channels
        values, known = window_sums(call.columns.sum(1), call.maxima, self.block, queries.is_self)
        self.window_sums += values.sum(0)
        self.window_counts += known.sum(0)

    def _add_documents(self, documents: NDArray[np.int64], sums: Floats) -> None:
        merged, place = np.unique(np.concatenate([self.documents, documents]), return_inverse=True)
        total = np.zeros((len(merged), *sums.shape[1:]))
        np.add.at(total, place, np.concatenate([self.document_sums, sums]))
        self.documents, self.document_sums = merged, total

    def _rows(self, call: _Call, start: int, logits: Tensor) -> None:
        import torch

        shifted = logits.sub_(logits.amax(-1, keepdim=True).clamp_(min=-1e8))
        exponentials = torch.clamp(shifted, min=SMALLEST, out=self._room.of(shifted)).exp_()
        s, e = shifted.cpu().numpy(), exponentials.cpu().numpy()
        run([partial(call.take, h, stripe, start, s, e) for h in range(self.heads) for stripe in range(STRIPES)], self.threads)

    def merge(self, other: HeadTally) -> None:
        """Add another's windows; any order gives the same up to the rounding of float64 sums."""
        for name in SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._add_documents(other.documents, other.document_sums)

    def state(self) -> dict[str, np.ndarray]:
        """Its arrays, for a checkpoint; bins of position beyond the last one met are left off."""
        used = int(np.flatnonzero(self.counts.any((0, 2))).max(initial=-1)) + 1
        arrays = {name: getattr(self, name) for name in (*SUMMED, "documents", "document_sums")}
        return arrays | {"sums": self.sums[:, :used], "counts": self.counts[:, :used]}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> HeadTally:
        """The tally that `state` was taken of."""
        made = cls(len(arrays["odd"]))
        for name in (*SUMMED[2:], "documents", "document_sums"):
            setattr(made, name, arrays[name])
        used = arrays["sums"].shape[1]
        made.sums[:, :used], made.counts[:, :used] = arrays["sums"], arrays["counts"]
        return made


class _Call:
    """What one call adds, by window, stripe and head, so that the order of additions depends on neither the size of a block nor the
    threads."""

    def __init__(self, tally: HeadTally, queries: Queries) -> None:
        (windows, n), heads, keys = queries.keep.shape, tally.heads, queries.n_keys
        self.sums = np.zeros((windows, STRIPES, *tally.sums.shape))
        self.counts = np.zeros((windows, STRIPES, *tally.counts.shape), np.int64)
        self.distances = np.zeros((windows, STRIPES, *tally.distances.shape))
        self.odd = np.zeros((STRIPES, *tally.odd.shape), np.int64)
        self.columns = np.zeros((windows, STRIPES, heads, N_COLUMNS, keys + 1))
        self.maxima = np.full((windows, heads, -(-n // tally.block), -(-keys // tally.block)), -1, np.float32)
        self._tally, self._queries = tally, queries
        self._scratch = [_scratch(keys) for _ in range(tally.threads)]
        self._plain = queries.keep if queries.special_queries is None else ~queries.special_queries
        special = None if queries.special_keys is None else queries.special_keys.astype(np.float32)
        self._special = special
        self._logs = None if queries.moved is None else np.log(np.maximum(queries.moved, np.float32(1e-30)))

    def take(self, h: int, p: int, start: int, logits: NDArray[np.float32], exponentials: NDArray[np.float32], worker: int) -> None:
        """A stripe of a block of rows of one head, of every window."""
        from analysis.stats.attention_rows import tally_head

        queries, heads = self._queries, self._tally.heads
        for w in range(len(queries.keep)):
            tally_head(
                logits[w * heads + h],
                exponentials[w * heads + h],
                start,
                p,
                queries.keep[w],
                queries.origin[w],
                queries.first[w],
                queries.is_self,
                self._plain[w],
                _NOTHING if self._special is None else self._special[w],
                _NOTHING if queries.moved is None else queries.moved[w, h],
                _NOTHING if self._logs is None else self._logs[w, h],
                _NOTHING if queries.head_norm is None else queries.head_norm[w, h],
                _NOTHING if queries.output_norm is None else queries.output_norm[w, h],
                _NOTHING if queries.learned_sink is None else queries.learned_sink[w, h],
                self._tally.block,
                self.sums[w, p, h],
                self.counts[w, p, h],
                self.distances[w, p, h],
                self.odd[p, h],
                self.columns[w, p, h],
                self.maxima[w, h],
                *self._scratch[worker],
            )


def _scratch(keys: int) -> tuple[tuple[NDArray, ...], NDArray[np.float64]]:
    """Room for `attention_rows`: bins, their table, marks, buffers of five targets, needs, places, what is before them, sizes, and the
    numbers 0, 1, ...; and, apart, the mass by distance."""
    from analysis.stats.attention_kernel import N_BINS

    n = len(TARGETS) + 1
    numbers = np.arange(keys, dtype=np.float32)
    table, wanted, buffers = np.zeros((N_BINS + 1, 2)), np.zeros(N_BINS + 1, np.uint8), np.zeros((n, keys), np.float32)
    places = np.zeros(n), np.zeros(n, np.int64), np.zeros((n, 2)), np.zeros(n, np.int64)
    return (np.zeros(keys, np.uint16), table, wanted, buffers, *places, numbers), np.zeros(N_DISTANCES)
