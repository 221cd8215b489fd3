"""Losses per position: negative log-likelihood, divergence of two distributions, relative error of vectors.

All are computed in pieces of a few million numbers, so that beside the logits themselves memory does not grow with them. Exponentials
are taken in float32 (float64 where the logits are) and summed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""A target that is none: padding, special tokens, what is not asked for."""
PIECE = 2**22
"""Numbers of a logits matrix worked on at a time: 16 MB in float32."""


def token_nll(logits: Tensor, targets: Tensor, piece: int = PIECE) -> tuple[Tensor, Tensor]:
    """-ln softmax(z)_y per position, in nats, and whether y has the largest logit; 0 and False where y is `IGNORED`.

    logits [..., V], targets int64 [...] -> float64 [...], 0 to infinity, and bool [...]. ln sum_v exp(z_v - m) + (m - z_y) with
    m = max z: exactly ln V for equal logits, exactly 0 where the answer's logit stands far enough above all others. Of equal largest
    logits the first counts as the largest. Not a number where a logit is NaN or two are infinite. Source: cross-entropy's definition.
    """
    import torch

    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    loss = torch.zeros(len(wanted), dtype=torch.float64, device=logits.device)
    right = torch.zeros(len(wanted), dtype=torch.bool, device=logits.device)
    for rows in _pieces(wanted != IGNORED, flat.shape[-1], piece):
        z, y = _wide(flat[rows]), wanted[rows, None]
        top, first = z.max(dim=-1, keepdim=True)
        total = (z - top).exp().sum(dim=-1, dtype=torch.float64)
        loss[rows] = total.log() + (top - z.gather(-1, y)).squeeze(-1).double()
        right[rows] = (first == y).squeeze(-1)
    return loss.view(targets.shape), right.view(targets.shape)


def kl_divergence(reference: Tensor, logits: Tensor, kept: Tensor, piece: int = PIECE) -> tuple[Tensor, Tensor]:
    """KL(P || Q) = sum_v P_v (ln P_v - ln Q_v) per position, in nats, and whether both have the same largest logit; 0 and False
    where not kept.

    reference, logits [..., V], kept bool [...] -> float64 [...], 0 to infinity, and bool [...]. P the reference, Q the model asked about;
    terms with P_v = 0 are 0. In float64, since the terms nearly cancel; rounding below 0 is 0; exactly 0 for equal logits.
    Source: Kullback and Leibler 1951.
    """
    import torch

    before, after = reference.reshape(-1, reference.shape[-1]), logits.reshape(-1, logits.shape[-1])
    mask = kept.reshape(-1)
    loss = torch.zeros(len(mask), dtype=torch.float64, device=logits.device)
    same = torch.zeros(len(mask), dtype=torch.bool, device=logits.device)
    for rows in _pieces(mask, after.shape[-1], piece):
        p, q = (values[rows].double().log_softmax(dim=-1) for values in (before, after))
        share = p.exp()
        loss[rows] = torch.where(share > 0, share * (p - q), 0.0).sum(dim=-1).clamp(min=0)
        same[rows] = before[rows].argmax(dim=-1) == after[rows].argmax(dim=-1)
    return loss.view(kept.shape), same.view(kept.shape)


def relative_error(reference: Tensor, values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """|y - y0| / |y0| per position, Euclidean norms over the last axis, and which positions have one; 0 where not kept.

    reference, values [..., d], kept bool [...] -> float64 [...], 0 to infinity, no unit, and bool [...]: positions kept whose
    reference is not the zero vector. Source: ours.
    """
    import torch

    size = torch.linalg.vector_norm(reference.double(), dim=-1)
    error = torch.linalg.vector_norm(values.double() - reference.double(), dim=-1)
    has = kept & (size > 0)
    return torch.where(has, error / torch.where(has, size, 1.0), 0.0), has


def _pieces(kept: Tensor, width: int, piece: int) -> Iterator[Tensor]:
    rows = kept.nonzero().squeeze(1)
    if len(rows):
        yield from rows.split(max(1, piece // width))


def _wide(values: Tensor) -> Tensor:
    import torch

    return values if values.dtype == torch.float64 else values.float()
