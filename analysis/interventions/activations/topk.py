"""Top-k per token: of each token keep the k largest activations, k = f - floor(s f); ties go to the lower index.

Exactly k are not zero where at least k are not (ReLU: fewer otherwise). Source: METHODS B1 (Top-k Transformer, as a measurement).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, masked
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = Source("The Lazy Neuron Phenomenon", "Li et al., ICLR 2023, arXiv 2210.06313", "K")


def n_kept(width: int, level: float) -> int:
    """Entries of ``width`` that are left at a level: all but floor(level width)."""
    return width - math.floor(level * width + 1e-9)


def largest(scores: Tensor, k: int) -> Tensor:
    """bool like ``scores`` [n, width]: the k largest of each row; ties go to the lower index."""
    import torch

    width = scores.shape[-1]
    if k == 0 or k >= width:
        return torch.full_like(scores, k > 0, dtype=torch.bool)
    last = scores.kthvalue(width - k + 1, dim=-1, keepdim=True).values
    keep = scores >= last
    if bool((keep.sum(-1) == k).all()):
        return keep
    above, tied = scores > last, scores == last
    return above | (tied & (tied.cumsum(-1) <= k - above.sum(-1, keepdim=True)))


class Largest(Rule):
    """Keeps the largest of each token."""

    def __init__(self, level: float) -> None:
        self._level = level

    def change(self, seen: Seen) -> Changed:
        """Zero all but the k largest |a|."""
        return masked(seen.values, largest(seen.values.abs(), n_kept(seen.values.shape[-1], self._level)))


@dataclass(frozen=True)
class TopK(ActivationMethod):
    """The k largest of each token."""

    name = "ffn-topk"
    words = "Largest FFN activations of each token"
    origin = (SOURCE,)  # METHODS B1
    calibrated = False

    def overhead(self, model: Any, site: Any) -> float:
        """Selection of the k-th largest: about 3 comparisons an entry (quickselect, expected)."""
        return 3 * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Nothing to calibrate."""
        del setting
        return Largest
