"""A tensor's values piece by piece: read in slices that are worth a read, handed out in blocks that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

READ = 1 << 22
"""Weights per read: 16 MB of 32-bit ones."""
BLOCK = 1 << 15
"""Weights per block: 256 kB in float64 stay in the cache."""


def blocks(tensor: Any, size: int = BLOCK) -> Iterator[torch.Tensor]:
    """The values in order, float64 [rows of the first axis, all others], about ``size`` a block; of a vector [entries, 1]."""
    across = max(1, prod(tensor.shape[1:]))
    for part in tensor.read_slices(max(1, READ // across)):
        flat = part.reshape(len(part) if part.dim() else 1, -1)
        for piece in flat.split(max(1, size // across)):
            yield piece.double()
