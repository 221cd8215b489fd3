"""What a recurrent call returns, as rows: its output, padded or packed, and its final states."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.capture.flow import Rows
from analysis.capture.site import Frame, Site

if TYPE_CHECKING:
    from torch import Tensor


class Shown(NamedTuple):
    """A tensor of a module's output: which tokens its rows are, and how to put another one in its place."""

    tensor: Tensor
    rows: Rows | None
    put: Callable[[Tensor], Any]


def shown_by(site: Site, output: Any, frame: Frame) -> Shown:
    """The part of a module's output that the site stands for.

    States [layers * directions, batch, hidden] are shown as [batch, layers * directions * hidden]: a row a sequence.
    """
    if site.role in ("hidden", "cell"):
        return _state(output, 1 if site.role == "cell" else 0)
    if hasattr(output, "batch_sizes"):
        return Shown(output.data, packed_rows(site, output, frame), lambda new: output._replace(data=new))
    if not isinstance(output, tuple):
        return Shown(output, None, lambda new: new)
    first = shown_by(site, output[0], frame)
    return Shown(first.tensor, first.rows, lambda new: (first.put(new), *output[1:]))


def _state(output: Any, place: int) -> Shown:
    nested = isinstance(output[1], tuple)
    states = output[1] if nested else (output[1],)
    state = states[place]
    batched = state if state.ndim == 3 else state[:, None]

    def put(new: Tensor) -> Any:
        back = new.view(batched.shape[1], batched.shape[0], -1).movedim(1, 0).reshape(state.shape)
        changed = (*states[:place], back, *states[place + 1 :])
        return (output[0], changed if nested else changed[0])

    return Shown(batched.movedim(0, 1).flatten(1), None, put)


def packed_rows(site: Site, packed: Any, frame: Frame) -> Rows | None:
    """Position of each row in the flattened stream: step t of the packed sequence holds ``batch_sizes[t]`` sequences, longest first."""
    import torch

    shape = frame.shape(site.stream)
    if shape is None:
        return None
    device = packed.data.device
    sizes = packed.batch_sizes.to(device)
    step = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
    place = torch.arange(len(step), device=device) - (sizes.cumsum(0) - sizes)[step]
    sequence = place if packed.sorted_indices is None else packed.sorted_indices[place]
    return Rows(site.stream, sequence * shape[1] + step)
