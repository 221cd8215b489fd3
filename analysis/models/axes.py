"""Which axis of a stored weight the input runs along, told by the module that owns it; and the tensor as matrices [n, d_out, d_in].

`nn.Linear` stores [out, in], GPT-2's `Conv1D` [in, out], a convolution [out, in, ...], a transposed one [in, out, ...], expert
stacks [E, out, in] or [E, in, out]. An embedding looks rows up, a weight of an unknown module may be anything: there the axis is
not known, and the tensor is taken as it is stored, its first axis as outputs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

_EXPERT = re.compile(r"expert", re.IGNORECASE)


class Axes(NamedTuple):
    """How a stored tensor is to be read as matrices."""

    input_axis: int | None = None
    """Axis the input runs along, counted from 0; None where it is not known, or there is none."""
    stacked: bool = False
    """Whether the first axis counts matrices of their own (experts)."""


def axes_of(model: torch.nn.Module, names: Sequence[str], shape: Sequence[int]) -> Axes:
    """The axes of a parameter: the first of its owners that tells. Sizes are compared where the owner's type says nothing."""
    if len(shape) < 2:
        return Axes()
    found = [_owned(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], shape) for name in names]
    told = [axes for axes in found if axes.input_axis is not None]
    return (told or found)[0]


def axes_by_name(name: str, shape: Sequence[int]) -> Axes:
    """What the name and shape alone tell: whether it is a stack of experts."""
    return Axes(None, len(shape) == 3 and _EXPERT.search(name) is not None)


def _owned(owner: torch.nn.Module, leaf: str, shape: Sequence[int]) -> Axes:
    from torch import nn

    if isinstance(owner, nn.Linear | nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention) and len(shape) == 2:
        return Axes(1)
    if isinstance(owner, nn.modules.conv._ConvNd) and leaf == "weight":
        return Axes(0 if owner.transposed else 1)
    if type(owner).__name__ == "Conv1D" and len(shape) == 2:
        return Axes(0)
    if len(shape) == 3 and (hasattr(owner, "is_transposed") or _EXPERT.search(f"{type(owner).__name__}.{leaf}")):
        transposed = getattr(owner, "is_transposed", None)
        return Axes(None if transposed is None else 1 if transposed else 2, True)
    return Axes(_by_sizes(owner, shape))


def _by_sizes(owner: Any, shape: Sequence[int]) -> int | None:
    """For linear layers of other libraries: which axis is as long as the input they state."""
    n_in, n_out = getattr(owner, "in_features", None), getattr(owner, "out_features", None)
    if n_in == n_out or len(shape) != 2:
        return None
    return {(n_out, n_in): 1, (n_in, n_out): 0}.get((shape[0], shape[1]))


def matrix_shape(shape: Sequence[int], axes: Axes) -> tuple[int, int, int] | None:
    """(n_matrices, d_out, d_in); None for vectors and single numbers, which are no matrices."""
    if len(shape) < 2:
        return None
    import math

    n, rest = (shape[0], list(shape[1:])) if axes.stacked else (1, list(shape))
    if _leading_ones(shape, axes):
        rest = _without_leading_ones(rest)
    out = 1 if _swapped(axes) else 0
    return n, rest[out], math.prod(rest[:out] + rest[out + 1 :])


def as_matrix(values: torch.Tensor, info: Any) -> torch.Tensor:
    """The values of a tensor as [n_matrices, d_out, d_in]: the input runs along the last axis.

    ``values`` has the shape of ``info`` (anything with `input_axis`, `stacked` and `shape`). A convolution is flattened to
    [1, out, in * kh * kw]; an unknown input axis leaves the tensor as stored, leading axes of length 1 dropped. A view wherever one
    can be (writing to it then writes to ``values``). Vectors are refused.
    """
    axes = Axes(info.input_axis, info.stacked)
    if values.dim() < 2:
        raise ValueError(f"values must have two or more axes to be a matrix, got shape {tuple(values.shape)}; leave vectors out.")
    stack = values if axes.stacked else values[None]
    if _leading_ones(values.shape, axes):
        stack = stack.reshape(1, *_without_leading_ones(list(values.shape)))
    if _swapped(axes):
        stack = stack.transpose(1, 2)
    return stack.flatten(2)


def _swapped(axes: Axes) -> bool:
    """Whether the input comes before the output."""
    return axes.input_axis is not None and axes.input_axis == int(axes.stacked)


def _leading_ones(shape: Sequence[int], axes: Axes) -> bool:
    return axes == Axes() and len(shape) > 2 and shape[0] == 1


def _without_leading_ones(sizes: list[int]) -> list[int]:
    while len(sizes) > 2 and sizes[0] == 1:
        sizes = sizes[1:]
    return sizes
