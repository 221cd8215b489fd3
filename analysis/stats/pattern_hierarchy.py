"""Keys found by halving ranges instead of looking at all of them: does a head's attention allow that?

Source: METHODS C8 (HiP). Ours: the representative of a range is its middle key; query and key blocks of one; no window is kept beside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def halving(scores: Tensor, counts: Tensor, keys: int) -> Tensor:
    """bool [..., rows, n]: the keys that hierarchical pruning keeps of the first ``counts`` [rows] of each row.

    1. ``keys`` ranges of about equal length. 2. Halve each; a half scores as its middle key does. 3. Keep the ``keys`` best halves;
    again until they are single keys. Rows with no more than ``keys`` keep all. Scores that rise with position: exactly the largest.
    A spike between low neighbours can be missed.
    """
    import torch

    n = scores.shape[-1]
    parts = torch.arange(keys + 1, device=scores.device)
    edges = counts[:, None] * parts // keys
    low = edges[:, :-1].expand(*scores.shape[:-1], keys)
    high = edges[:, 1:].expand_as(low)
    for _ in range(math.ceil(math.log2(max(1, math.ceil(n / keys))))):
        middle = (low + high + 1) // 2
        low, high = torch.cat([low, middle], -1), torch.cat([middle, high], -1)
        asked = ((low + high - 1) // 2).clamp(0, n - 1)
        score = scores.gather(-1, asked).masked_fill(low >= high, -math.inf)
        chosen = score.argsort(dim=-1, descending=True, stable=True)[..., :keys]
        low, high = low.gather(-1, chosen), high.gather(-1, chosen)
    kept = torch.zeros(*scores.shape[:-1], n + 1, dtype=torch.bool, device=scores.device)
    kept.scatter_(-1, torch.where(low < high, low, n), True)
    everything = torch.arange(n, device=scores.device) < counts[:, None]
    return torch.where(counts[:, None] <= keys, everything, kept[..., :n] & everything)


def largest(scores: Tensor, counts: Tensor, keys: int) -> Tensor:
    """bool [..., rows, n]: the ``keys`` largest of the first ``counts`` [rows] of each row, of equal ones any: the oracle."""
    import torch

    seen = torch.arange(scores.shape[-1], device=scores.device) < counts[:, None]
    order = scores.masked_fill(~seen, -math.inf).topk(min(keys, scores.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(-1, order, True) & seen
