"""From a tensor in the forward pass to rows of real tokens for the observer, and back again with replacement values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.capture.flow import Rows
from analysis.capture.site import CaptureError, Frame, Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def as_rows(tensor: Tensor, axis: int) -> Tensor:
    """[rows, width] with the neurons' dimension last; a view wherever the layout allows."""
    moved = tensor if axis in (-1, tensor.ndim - 1) else tensor.movedim(axis, -1)
    return moved.reshape(-1, moved.shape[-1])


@dataclass
class Handed:
    """What an observer was given at one place: the values, the tokens they belong to, and which rows of the tensor they were."""

    site: Site
    values: Tensor
    rows: Tensor | None
    """Positions in the flattened stream; None: all of them, in order."""
    kept: Tensor | None
    """Rows of the group that are real tokens; None: all of them."""
    group: slice
    """Rows of the tensor that belong to this site (one expert's); all of them for a single matrix."""

    def part(self, tensor: Tensor | None, axis: int) -> Tensor | None:
        """The rows of another tensor of the same layout (output, gate, up) that match ``values``."""
        if tensor is None:
            return None
        rows = as_rows(tensor, axis)[self.group]
        return rows if self.kept is None else rows[self.kept]


def hand_over(site: Site, tensor: Tensor, frame: Frame, gathered: Rows | None, group: slice = slice(None)) -> Handed:
    """Select the rows of ``tensor`` that are real tokens. Nothing is copied where nothing is padding."""
    flat = as_rows(tensor, site.axis)
    index = None if gathered is None else gathered.index[group]
    flat = flat[group]
    if site.stream == "rows":
        return Handed(site, flat, None, None, group)
    shape = frame.shape(site.stream)
    if shape is None or (index is None and flat.shape[0] != shape[0] * shape[1]):
        wanted = "a frame with that stream" if shape is None else f"{shape[0] * shape[1]} rows ({shape[0]} x {shape[1]} positions)"
        raise CaptureError(
            f"site {site.name} must be handed {wanted} of the {site.stream} stream, got {flat.shape[0]} rows; "
            f"run batches of the same kind as the one the sites were found on."
        )
    if site.positions_first and index is None:
        index = _positions_first(shape, flat.device)
    mask, real = frame.kept(site.stream), frame.rows(site.stream)
    if mask is None or real is None:
        return Handed(site, flat, index, None, group)
    if index is None:
        real = real.to(flat.device)
        return Handed(site, flat[real], real, real, group)
    kept = mask.to(index.device)[index].nonzero().squeeze(1)
    if kept.shape[0] == index.shape[0]:
        return Handed(site, flat, index, None, group)
    return Handed(site, flat[kept], index[kept], kept, group)


def _positions_first(shape: tuple[int, int], device: torch.device) -> Tensor:
    """Number in [batch, positions] of each row laid out [positions, batch]."""
    import torch

    return torch.arange(shape[0] * shape[1], device=device).view(shape).t().reshape(-1)


def exchanged(tensor: Tensor, axis: int, replaced: list[tuple[Handed, Tensor]]) -> Tensor:
    """``tensor`` with the handed rows exchanged; same layout in memory, so that the same kernel computes the same bits."""
    import torch

    rows = as_rows(tensor, axis).clone()
    for handed, values in replaced:
        if handed.kept is None:
            rows[handed.group] = values
        else:
            rows[handed.group][handed.kept] = values
    new = torch.empty_like(tensor)
    moved = new.movedim(axis, -1)
    moved.copy_(rows.view(moved.shape))
    return new


class Contract:
    """The two optional methods of an observer, with the checks around them.

    ``values(site, values, rows) -> Tensor | None``: called before the product reads the values [rows, width] (for recurrent
    and activation sites: as the module returns them). They must not be changed in place; a returned tensor of the same
    shape takes their place. Where the observer has a true attribute ``factors``, it is called with act(gate) and up besides,
    [rows, width] of gated units (else None). ``product(site, values, rows, output, gate, up)``: called after the product, with what it
    read, its output [rows, d_out], and, where the observer has a true attribute ``gates``, act(gate) and up
    [rows, width] of gated units (else None). A method the observer lacks costs nothing.
    """

    def __init__(self, observer: Any) -> None:
        self.values: Callable[..., Tensor | None] | None = getattr(observer, "values", None)
        self.product: Callable[..., None] | None = getattr(observer, "product", None)
        self.gates: bool = bool(getattr(observer, "gates", False)) and self.product is not None
        self.factors: bool = bool(getattr(observer, "factors", False)) and self.values is not None

    @property
    def wants_gates(self) -> bool:
        """Whether act(gate) and up are to be followed at all."""
        return self.gates or self.factors

    def read(self, handed: list[Handed], tensor: Tensor, axis: int, gate: Tensor | None = None, up: Tensor | None = None) -> Tensor | None:
        """Show the values; the tensor to read instead, or None where nothing was replaced."""
        replaced = []
        for one in handed:
            factors = (one.part(gate, axis), one.part(up, axis)) if self.factors else ()
            new = None if self.values is None else self.values(one.site, one.values, one.rows, *factors)
            if new is None:
                continue
            if new.shape != one.values.shape or new.dtype != one.values.dtype:
                raise CaptureError(
                    f"replacement values at {one.site.name} must be {one.values.dtype} of shape {tuple(one.values.shape)}, "
                    f"got {new.dtype} of shape {tuple(new.shape)}; return them in the shape they were handed over in."
                )
            one.values = new
            replaced.append((one, new))
        return exchanged(tensor, axis, replaced) if replaced else None

    def wrote(self, handed: list[Handed], output: Tensor, out_axis: int, gate: Tensor | None, up: Tensor | None) -> None:
        """Show the product's output."""
        if self.product is None:
            return
        for one in handed:
            axis = one.site.axis
            self.product(one.site, one.values, one.rows, one.part(output, out_axis), one.part(gate, axis), one.part(up, axis))
