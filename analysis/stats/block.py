"""What one block of activations says about each neuron, each window and each token: the eager reference.

A block is [T, n]: T rows (tokens), in order, of one or more windows. Two engines turn it into the same
`BlockStatistics`: `eager_block` here, plain and slow, on any torch device, and `kernel.fused_block`, one pass on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.stats.histogram import CENTRE, FIRST_KEY, N_BINS
from analysis.stats.moments import Moments, Spread

if TYPE_CHECKING:
    import torch


@dataclass
class RowContext:
    """What the engines need to know of the rows besides their values."""

    starts: NDArray[np.int64]
    """[W + 1]: window w owns rows starts[w] to starts[w + 1]."""
    rankable: NDArray[np.bool_]
    """[T]: whether the row may be a window's maximum or minimum."""
    weight: NDArray[np.float32]
    """[n] and"""
    threshold: NDArray[np.float32]
    """[T]: active iff |a| * weight > threshold (`activity.ActiveRule`)."""
    inverse_scale: NDArray[np.float64]
    """[T]: 1 / ||FFN(x_t)||_2, 0 where there is no relative contribution."""


@dataclass
class BlockStatistics:
    """Statistics of one block. Values that are not finite are in none of them but `n_nonfinite`."""

    moments: Moments
    low: NDArray[np.float32]
    """[n], +inf where a neuron had no finite value; `high` likewise -inf."""
    high: NDArray[np.float32]
    n_active: NDArray[np.int64]
    n_zero: NDArray[np.int64]
    n_nonfinite: NDArray[np.int64]
    n_relative: NDArray[np.int64]
    """[n]: rows with a relative contribution, the n of `sum_relative`."""
    sum_active: NDArray[np.float64]
    """[n]: sum of |a| over active rows."""
    sum_relative: NDArray[np.float64]
    """[n]: sum of |a| * weight / scale."""
    window_high: NDArray[np.float32]
    """[W, n]: maximum over rankable rows, and the first row that has it; row -1 where there is none."""
    window_high_row: NDArray[np.int32]
    window_low: NDArray[np.float32]
    window_low_row: NDArray[np.int32]
    fired: NDArray[np.uint8]
    """[W, n]: 1 where active on some row, plus 2 where nonzero on some row."""
    row_sums: NDArray[np.float64]
    """[4, T]: per row sum |a|, sum a^2, neurons active, neurons > 0."""
    row_finite: NDArray[np.bool_]
    """[T]: whether every value of the row is finite; only such rows have per-token measures."""


def eager_block(values: torch.Tensor, context: RowContext, histogram: NDArray[np.int32]) -> BlockStatistics:
    """The reference. values [T, n] float32 on any device; `histogram` [n, 515] is added to in place."""
    import torch

    device = values.device
    finite = torch.isfinite(values)
    size = values.abs()
    weight, threshold = torch.from_numpy(context.weight).to(device), torch.from_numpy(context.threshold).to(device)
    active = (size * weight > threshold[:, None]) & finite
    exact = torch.where(finite, values, 0.0).double()
    inverse = torch.from_numpy(context.inverse_scale).to(device)
    count_eager(values, finite, histogram)
    highs = _window_extremes(values, finite, context)
    lows = _window_extremes(-values, finite, context)
    infinity = torch.tensor(torch.inf, device=device)
    return BlockStatistics(
        moments=_moments(exact, finite),
        low=_numpy(torch.where(finite, values, infinity).amin(0)),
        high=_numpy(torch.where(finite, values, -infinity).amax(0)),
        n_active=_numpy(active.sum(0)),
        n_zero=_numpy((values == 0).sum(0)),
        n_nonfinite=_numpy((~finite).sum(0)),
        n_relative=_numpy((finite & (inverse > 0)[:, None]).sum(0)),
        sum_active=_numpy(torch.where(active, exact.abs(), 0.0).sum(0)),
        sum_relative=_numpy((exact.abs() * inverse[:, None]).sum(0)) * context.weight.astype(np.float64),
        window_high=highs[0],
        window_high_row=highs[1],
        window_low=-lows[0],
        window_low_row=lows[1],
        fired=_fired(active, finite & (values != 0), context.starts),
        row_sums=_numpy(torch.stack([exact.abs().sum(1), exact.square().sum(1), active.sum(1), (exact > 0).sum(1)])),
        row_finite=_numpy(finite.all(1)),
    )


def _numpy(tensor: torch.Tensor) -> NDArray:
    return tensor.cpu().numpy()


def _moments(exact: torch.Tensor, finite: torch.Tensor) -> Moments:
    import torch

    n = finite.sum(0)
    mean = exact.sum(0) / n.clamp(min=1)
    away = torch.where(finite, exact - mean, 0.0)
    return Moments(_numpy(n), _numpy(mean), *(_numpy(away.pow(p).sum(0)) for p in (2, 3, 4)))


def count_eager(values: torch.Tensor, finite: torch.Tensor, histogram: NDArray[np.int32]) -> None:
    """Add the finite values of [T, n] to histogram [n, 515]; the bins are those of `histogram.bin_index`."""
    import torch

    bits = values.contiguous().view(torch.int32)
    steps = (((bits & 0x7FFFFFFF) >> 20) - (FIRST_KEY - 1)).clamp(0, CENTRE)
    bins = CENTRE + torch.where(bits < 0, -steps, steps)
    flat = bins + N_BINS * torch.arange(values.shape[1], device=values.device)
    counts = torch.bincount(flat[finite], minlength=histogram.size)
    histogram += _numpy(counts).reshape(histogram.shape).astype(np.int32)


def _window_extremes(values: torch.Tensor, finite: torch.Tensor, context: RowContext) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Maximum over each window's rankable rows [W, n] and the first row that has it (-1 where there is none)."""
    import torch

    may = finite & torch.from_numpy(context.rankable).to(values.device)[:, None]
    offered = torch.where(may, values, -torch.inf)
    best, rows = [], []
    for first, end in zip(context.starts[:-1], context.starts[1:], strict=True):
        part = offered[first:end]
        top = part.amax(0)
        number = torch.arange(int(first), int(end), device=values.device)[:, None]
        row = torch.where(part == top, number, end).amin(0)
        best.append(top)
        rows.append(torch.where(torch.isinf(top), -1, row))
    return _numpy(torch.stack(best)), _numpy(torch.stack(rows)).astype(np.int32)


def _fired(active: torch.Tensor, nonzero: torch.Tensor, starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    windows = zip(starts[:-1], starts[1:], strict=True)
    return np.stack([_numpy(active[a:b].any(0)) + 2 * _numpy(nonzero[a:b].any(0)).astype(np.uint8) for a, b in windows])


@dataclass
class ChannelStatistics:
    """Statistics of a gate or up path: mean, spread, extremes and how often above zero, per neuron."""

    moments: Spread
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    n_positive: NDArray[np.int64]


def eager_channel(values: torch.Tensor) -> ChannelStatistics:
    """The reference for gate and up values [T, n]; values that are not finite are left out."""
    import torch

    finite = torch.isfinite(values)
    infinity = torch.tensor(torch.inf, device=values.device)
    return ChannelStatistics(
        moments=_moments(torch.where(finite, values, 0.0).double(), finite),
        low=_numpy(torch.where(finite, values, infinity).amin(0)),
        high=_numpy(torch.where(finite, values, -infinity).amax(0)),
        n_positive=_numpy(((values > 0) & finite).sum(0)),
    )
