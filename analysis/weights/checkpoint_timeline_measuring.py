"""One tensor of one checkpoint beside the same tensor of the checkpoint before, slice by slice; and the series' one threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from analysis.weights.blocks import blocks

if TYPE_CHECKING:
    import torch

    from analysis.stats.comparing import PairSums
    from analysis.stats.sparsity import PowerSums

SUB_BINS = 4096


@dataclass
class Level:
    """Sums over one tensor, or over many."""

    power: PowerSums
    n: int = 0
    """Weights, finite or not."""
    n_near: int = 0
    n_below: int = 0
    change: PairSums | None = None
    """From the checkpoint before; None where there is none, or not this tensor."""
    pq: list[float] = field(default_factory=list)
    """PQ Index of all weights, of each tensor that has one."""
    pq_kept: list[float] = field(default_factory=list)

    def merge(self, other: Level) -> None:
        """Take in another tensor."""
        from analysis.stats.comparing import PairSums

        self.power.merge(other.power)
        self.n, self.n_near, self.n_below = self.n + other.n, self.n_near + other.n_near, self.n_below + other.n_below
        self.pq, self.pq_kept = self.pq + other.pq, self.pq_kept + other.pq_kept
        if other.change is not None:
            self.change = self.change or PairSums()
            self.change.merge(other.change)

    @classmethod
    def empty(cls) -> Level:
        """Of nothing."""
        from analysis.stats.sparsity import PowerSums

        return cls(PowerSums((0.5, 1.0, 2.0)))


def measure(tensor: Any, before: Any | None, near: float, threshold: float) -> Level:
    """All sums of one tensor; ``before`` is the same tensor of the checkpoint before, where it has one of that shape."""
    from analysis.stats.comparing import PairSums

    found = Level.empty()
    found.change = None if before is None else PairSums()
    previous = iter(()) if before is None else blocks(before)
    for part in blocks(tensor):
        size = _sizes(part)
        found.n += part.numel()
        found.power.update(size)
        found.n_below += int((size < threshold).count_nonzero())
        if found.change is not None:
            found.change.update(part, next(previous))
    square = found.power.sums.get(2.0, 0.0)
    rms = (square / found.power.n) ** 0.5 if square > 0 else 0.0
    found.n_near = sum(int((part.abs() <= near * rms).count_nonzero()) for part in blocks(tensor)) if rms else found.power.n_zero
    _note_pq(found)
    return found


def _sizes(part: torch.Tensor) -> torch.Tensor:
    """Magnitudes of those entries that count, flat."""
    from analysis.stats.comparing import fits, usable

    return (part if fits(part) else part[usable(part)]).abs().reshape(-1)


def _note_pq(found: Level) -> None:
    from analysis.stats.sparsity import pq_index_of_sums

    half, one = (found.power.sums.get(p, 0.0) for p in (0.5, 1.0))
    if one > 0:
        found.pq.append(float(pq_index_of_sums(found.power.n, half, one, 0.5, 1.0).value))
        kept = found.power.n - found.power.n_zero
        found.pq_kept.append(max(0.0, float(pq_index_of_sums(kept, half, one, 0.5, 1.0).value)))


def quantile(tensors: Iterable[Any], level: float) -> float:
    """The smallest of fine bin edges below which at least this share of all |w| of the tensors lies; 0 < level < 1.

    Two passes: a histogram with eight bins per octave, then its one bin of interest in `SUB_BINS` parts: off by at most 1 part in 40,000.
    Magnitudes below 2^-20 are not told apart. Refuses tensors without finite values.
    """
    import numpy as np

    from analysis.stats.histogram import CENTRE, N_BINS, bin_index, magnitude_edges

    held = list(tensors)
    counts = np.zeros(N_BINS - CENTRE, np.int64)
    largest = 0.0
    for tensor in held:
        for part in blocks(tensor):
            sizes = _sizes(part).numpy()
            counts += np.bincount(bin_index(sizes) - CENTRE, minlength=N_BINS - CENTRE)
            largest = max(largest, float(sizes.max(initial=0.0)))
    if not counts.sum():
        raise ValueError("tensors must hold finite values, got none; leave such tensors out.")
    wanted = ceil(level * int(counts.sum()))
    ends = [*magnitude_edges().tolist(), inf]
    at = int(np.searchsorted(np.cumsum(counts), wanted))
    if at == 0:
        return ends[0]
    low, under = ends[at - 1], int(counts[:at].sum())
    high = ends[at] if ends[at] < inf else max(low, largest) * (1 + 1e-6)
    fine = np.zeros(SUB_BINS, np.int64)
    for tensor in held:
        for part in blocks(tensor):
            sizes = _sizes(part)
            fine += np.histogram(sizes[(sizes >= low) & (sizes <= high)].numpy(), SUB_BINS, (low, high))[0]
    place = int(np.searchsorted(np.cumsum(fine), wanted - under))
    return float(np.linspace(low, high, SUB_BINS + 1)[min(place, SUB_BINS - 1) + 1])
