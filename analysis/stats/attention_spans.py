"""What the loss would gain if a head saw a shorter span: predicted from one gradient, nothing is run again.

g [heads, n, n] is the gradient of the loss for the weights A. Masking an entry and sharing its weight out over the rest of its row
changes a loss that is linear in A by exactly E. Source: METHODS C3 (MoA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-12
"""Keeps 1 - A from 0; small, since a head that looks at one key only would else seem not to need it. Give weights in float64."""


def influence(weights: Tensor, gradient: Tensor) -> Tensor:
    """E [heads, n, n], loss: E_rc = A_rc / (1 - A_rc + eps) (sum_k g_rk A_rk - g_rc); -g A for rows with a single key (A = 1 there)."""
    import torch

    mean = (gradient * weights).sum(-1, keepdim=True)
    single = ((weights > 0).sum(-1, keepdim=True)) == 1
    return torch.where(single, -gradient * weights, weights / (1 - weights + EPSILON) * (mean - gradient))


def masked_change(weights: Tensor, slopes: Tensor, masked: Tensor) -> Tensor:
    """[heads], loss: the change where the pairs of ``masked`` (bool [n, keys]) are all masked at once, exact to first order.

    With ``slopes`` = g A and m the masked weight of a row: sum over rows of (m sum_k g_k A_k - sum_S g_c A_c) / (1 - m), reckoned from
    what is left, which may be tiny. Nothing masked: 0. Rows that lose everything give nothing afterwards.
    """
    import torch

    left = weights.where(~masked, 0.0)
    kept, held = left.sum(-1), slopes.where(~masked, 0.0).sum(-1)
    after = torch.where(kept > 0, held / kept.clamp(min=1e-300), 0.0)
    return (after - slopes.sum(-1)).where(masked.any(-1), 0.0).sum(-1)


def beyond(n: int, blocks: int, width: int) -> Tensor:
    """bool [n, n]: causal pairs outside a span: queries see the first block and the last ``blocks`` blocks of ``width`` up to their own."""
    import torch

    row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    own, other = row // width, key // width
    return (key <= row) & (other > 0) & (other <= own - blocks)


def span_costs(weights: Tensor, gradient: Tensor, width: int) -> Tensor:
    """[heads, spans, 2], loss: for spans of 1, 2, ... blocks up to the window, the sum of |E| over what is masked (MoA's) and the change
    to first order where all of it is masked at once. The last span masks nothing: 0 and 0."""
    import torch
    import torch.nn.functional as F

    n = weights.shape[1]
    parts = (weights, gradient * weights, influence(weights, gradient).abs())
    held, slopes, sizes = (F.pad(x, (0, -n % width)).unflatten(2, (-1, width)).sum(3) for x in parts)  # by block: spans end with blocks
    found = []
    for blocks in range(1, held.shape[2] + 1):
        masked = beyond(n, blocks, width)[:, ::width].to(weights.device)
        found.append(torch.stack([sizes.where(masked, 0.0).sum((1, 2)), masked_change(held, slopes, masked)], 1))
    return torch.stack(found, 1)
