"""Thresholds from magnitudes that passed by: a histogram fine enough that no value need be kept.

128 bins an octave from 2^-30 to 2^20, so a bin is the exponent and the first seven mantissa bits of the float32 pattern, and one number
of bfloat16. Counts are exact; where in its bin a threshold lies is interpolated. Source: ours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOWEST, OCTAVES, STEPS = -30, 50, 128
N_BINS = OCTAVES * STEPS + 2
"""The first holds everything below 2^-30, zeros too; the last everything from 2^20 on."""
_FIRST = (127 + LOWEST) * STEPS


class Magnitudes:
    """How often |x| fell into each bin."""

    def __init__(self) -> None:
        import numpy as np

        self.counts = np.zeros(N_BINS, np.int64)

    @classmethod
    def of(cls, values: Tensor) -> Magnitudes:
        """Those of one tensor."""
        made = cls()
        made.add(values)
        return made

    @property
    def n(self) -> int:
        """Values seen."""
        return int(self.counts.sum())

    def add(self, values: Tensor) -> None:
        """Take in a tensor of any shape; rounded to float32 first."""
        import torch

        bits = values.detach().abs().float().contiguous().view(torch.int32).flatten()
        index = ((bits >> 16) - (_FIRST - 1)).clamp_(0, N_BINS - 1)
        self.counts += torch.bincount(index, minlength=N_BINS).cpu().numpy()

    def threshold(self, share: float) -> float:
        """t such that ``|x| <= t`` removes the ``floor(share n)`` smallest; 0 where that is none, infinite for share 1.

        Exact where the values of a bin are one number that bfloat16 has; elsewhere interpolated within 1/128 of its size.
        """
        import numpy as np

        if share >= 1.0:
            return math.inf
        rank = math.floor(share * self.n + 1e-9)
        if rank == 0:
            return 0.0
        reached = self.counts.cumsum()
        found = int(np.searchsorted(reached, rank))
        low, high = edge(found), edge(found + 1)
        before = int(reached[found]) - int(self.counts[found])
        return low + (rank - before - 1) / int(self.counts[found]) * (high - low)


def edge(index: int) -> float:
    """Where a bin begins."""
    if index == 0:
        return 0.0
    octave, step = divmod(min(index, N_BINS - 1) - 1, STEPS)
    return math.ldexp(1 + step / STEPS, octave + LOWEST)
