"""The fused engine from the outside: hands chunks of neurons to threads, and what it must not touch to the reference."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.block import BlockStatistics, ChannelStatistics, RowContext, eager_block, eager_channel
from analysis.stats.kernel import CHUNK, block_range
from analysis.stats.kernel_paths import PATH_CHUNK, merge_into, merge_spread_into, path_range
from analysis.stats.moments import Moments, Spread
from analysis.stats.threads import Job, run


def _pieces(n: int, parts: int, chunk: int) -> list[tuple[int, int]]:
    """range(n) in about as many pieces of whole chunks."""
    step = max(chunk, math.ceil(n / parts / chunk) * chunk)
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def fused_site(
    values: NDArray[np.float32],
    context: RowContext,
    histogram: NDArray[np.int32],
    paths: dict[str, NDArray[np.float32]],
    threads: int,
) -> tuple[BlockStatistics, dict[str, ChannelStatistics]]:
    """`eager_block` of C-contiguous values [T, n] in main memory and `eager_channel` of each of the paths [T, n]."""
    block = _BlockWork(values, context, histogram, threads)
    channels = {name: _ChannelWork(path) for name, path in paths.items()}
    jobs = block.jobs(2 * threads if threads > 1 else 1)
    for channel in channels.values():
        jobs += channel.jobs(threads)
    run(jobs, threads)
    return block.finish(), {name: channel.finish() for name, channel in channels.items()}


def merge_moments_into(moments: Spread, found: Spread) -> None:
    """`merge` of either, compiled."""
    arrays = [*moments.arrays().values(), *found.arrays().values()]
    (merge_into if isinstance(moments, Moments) else merge_spread_into)(*arrays)


class _BlockWork:
    """The buffers of one block."""

    def __init__(self, values: NDArray[np.float32], context: RowContext, histogram: NDArray[np.int32], threads: int) -> None:
        n_rows, n = values.shape
        windows = len(context.starts) - 1
        self.values, self.context, self.histogram = values, context, histogram
        self.sums, self.counts, self.extremes = np.zeros((6, n)), np.zeros((2, n), np.int64), np.zeros((2, n), np.float32)
        self.window_extremes = np.zeros((2, windows, n), np.float32)
        self.window_rows = np.zeros((2, windows, n), np.int32)
        self.fired = np.zeros((windows, n), np.uint8)
        self.rows = np.zeros((threads, 4, n_rows))
        self.dirty = np.zeros(math.ceil(n / CHUNK), bool)

    def jobs(self, parts: int) -> list[Job]:
        c = self.context
        known = (c.starts, c.rankable, c.weight, c.threshold, c.inverse_scale)
        bits, flat = self.values.view(np.int32), self.histogram.reshape(-1)

        windows = (self.window_extremes, self.window_rows, self.fired)

        def job(worker: int, start: int, end: int) -> None:
            found = (self.sums, self.counts, self.extremes, windows, self.rows[worker], self.dirty)
            block_range(bits, known, start, end, flat, *found)

        return [lambda worker, s=start, e=end: job(worker, s, e) for start, end in _pieces(self.values.shape[1], parts, CHUNK)]

    def finish(self) -> BlockStatistics:
        n_rows, n = self.values.shape
        found = BlockStatistics(
            Moments(np.full(n, n_rows, np.int64), *self.sums[:4]), self.extremes[1], self.extremes[0], self.counts[0], self.counts[1],
            np.zeros(n, np.int64), np.full(n, np.count_nonzero(self.context.inverse_scale), np.int64),
            self.sums[4], self.sums[5], self.window_extremes[0], self.window_rows[0], self.window_extremes[1],
            self.window_rows[1], self.fired, self.rows.sum(0), np.ones(n_rows, bool),
        )  # fmt: skip
        for start, end in _dirty_ranges(self.dirty, n, CHUNK):
            self._refer(found, start, end)
        return found

    def _refer(self, found: BlockStatistics, start: int, end: int) -> None:
        """Let the reference see to neurons start..end."""
        import torch

        part = torch.from_numpy(self.values[:, start:end].copy())
        context = replace(self.context, weight=self.context.weight[start:end])
        theirs = eager_block(part, context, self.histogram[start:end])
        found.row_sums += theirs.row_sums
        found.row_finite &= theirs.row_finite
        _write(found, theirs, start, end, skip=("row_sums", "row_finite"))


class _ChannelWork:
    """The buffers of a gate or up path."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        n = values.shape[1]
        self.values = values
        self.sums, self.positive, self.extremes = np.zeros((2, n)), np.zeros(n, np.int64), np.zeros((2, n), np.float32)
        self.dirty = np.zeros(math.ceil(n / PATH_CHUNK), bool)

    def jobs(self, parts: int) -> list[Job]:
        bits = self.values.view(np.int32)

        def job(start: int, end: int) -> None:
            path_range(self.values, bits, start, end, self.sums, self.positive, self.extremes, self.dirty)

        return [lambda _, s=start, e=end: job(s, e) for start, end in _pieces(self.values.shape[1], parts, PATH_CHUNK)]

    def finish(self) -> ChannelStatistics:
        import torch

        counted = np.full(self.values.shape[1], len(self.values), np.int64)
        found = ChannelStatistics(Spread(counted, *self.sums), self.extremes[1], self.extremes[0], self.positive)
        for start, end in _dirty_ranges(self.dirty, self.values.shape[1], PATH_CHUNK):
            _write(found, eager_channel(torch.from_numpy(self.values[:, start:end].copy())), start, end)
        return found


def _dirty_ranges(dirty: NDArray[np.bool_], n: int, chunk: int) -> list[tuple[int, int]]:
    return [(int(c) * chunk, min((int(c) + 1) * chunk, n)) for c in np.flatnonzero(dirty)]


def _write(found: Any, theirs: Any, start: int, end: int, skip: tuple[str, ...] = ()) -> None:
    """Copy every field of a statistics object, all of which end in the neuron axis, into neurons start..end."""
    for entry in fields(found):
        if entry.name in skip:
            continue
        mine, other = getattr(found, entry.name), getattr(theirs, entry.name)
        if isinstance(mine, Spread):
            _write(mine, other, start, end)
        else:
            mine[..., start:end] = other
