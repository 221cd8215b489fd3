"""What a head's value and output matrices do together: the singular directions of W_OV = W_V W_O.

Source: Elhage et al. 2021 (the OV circuit); Millidge & Black 2022 (its singular vectors read through the unembedding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class OvDirections:
    """The leading singular directions of one head's map x -> x W_V W_O, largest first; float64."""

    read: Tensor
    """[n, d_in] at length 1: what the head moves along each direction is x . read."""
    written: Tensor
    """[n, d_out] at length 1: where it goes, times the singular value."""
    value: Tensor
    """[n] singular values, above 0."""
    energy: Tensor
    """[n] share of the sum of all squared singular values, above 0, at most 1."""


def ov_directions(values: Tensor, output: Tensor, n: int) -> OvDirections:
    """The ``n`` leading directions of values [d_in, d_v] times output [d_v, d_out]: W_OV = sum_i s_i read_i^T written_i.

    Through two QR factorisations, so that the [d_in, d_out] product is never made. Directions whose singular value is zero up to
    rounding are left out: none are left of a map that is zero. Singular vectors are defined up to a common sign: here the entry of
    ``written`` with the largest magnitude (the first of equal ones) is positive. Between equal singular values the directions are any
    basis of their space.
    """
    import torch

    left, left_r = torch.linalg.qr(values.double())
    right, right_r = torch.linalg.qr(output.double().T)
    u, s, vh = torch.linalg.svd(left_r @ right_r.T, full_matrices=False)
    floor = s.max() * max(values.shape[0], output.shape[1]) * torch.finfo(values.dtype).eps
    kept = min(n, int((s > floor).sum()))
    read, written = (left @ u[:, :kept]).T, (vh[:kept] @ right.T)
    largest = written.abs().argmax(dim=1, keepdim=True) if kept else torch.zeros(0, 1, dtype=torch.long, device=written.device)
    sign = torch.sign(written.gather(1, largest))
    squares = s.square()
    return OvDirections(read * sign, written * sign, s[:kept], (squares / squares.sum())[:kept])
