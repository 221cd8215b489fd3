"""Rows of a site in the order of their sequences: which token comes after which. Padding is not among the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.capture import CaptureError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.activations.base import Seen


@dataclass(frozen=True)
class Sequences:
    """n rows, sorted by sequence and position."""

    order: Tensor
    """int64 [n]: place in the sorted rows -> place in the rows as they came."""
    number: Tensor
    """int64 [n], sorted rows: which sequence of the batch."""
    rank: Tensor
    """int64 [n], sorted rows: which token of its sequence at this site, from 0."""
    n_in: Tensor
    """int64 [n], sorted rows: how many tokens its sequence has at this site."""

    @classmethod
    def of(cls, seen: Seen) -> Sequences:
        """Those of one site in one pass."""
        import torch

        shape = seen.frame.shape(seen.site.stream)
        if shape is None:
            raise CaptureError(f"site {seen.site.name} must follow tokens in their order, got rows of no sequence; choose another method.")
        n, device = len(seen.values), seen.values.device
        rows = torch.arange(n, device=device) if seen.rows is None else seen.rows.to(device)
        order = rows.argsort()
        number = rows[order] // shape[1]
        count = torch.bincount(number, minlength=shape[0])
        begins = count.cumsum(0) - count
        return cls(order, number, torch.arange(n, device=device) - begins[number], count[number])

    def back(self, found: Tensor) -> Tensor:
        """What was found for the sorted rows, for the rows as they came."""
        import torch

        return torch.empty_like(found).index_copy_(0, self.order, found)
