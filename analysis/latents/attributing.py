"""From examples of latents to what every source position and head adds to them, in forward passes over the windows that hold any.

1. The attention that gives what the dictionary reads is the one whose output matrix reads it.
2. In a pass over a few windows, rows of exact softmax are computed for the queries at which examples peak, and nothing else is kept.
3. What the dictionary read at those tokens is kept beside them: what does not add up is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.latents.encoding import WINDOWS, Source
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.attribution import attribution

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture.attention import AttentionCall
    from analysis.capture.attention_places import AttentionPlace
    from analysis.latents.studying import Study

Ints = NDArray[np.int64]
_HELD = 2**23
"""Numbers of values held at once while examples are attributed."""


def attention_of(study: Study) -> AttentionPlace:
    """The attention whose output the dictionary reads. Raises `UserError` where it reads something else, or it cannot be seen."""
    from analysis.attention.observing import attention_places

    place = study.place
    if place.kind != "attention_z" or not place.n_heads:
        raise UserError(
            f"the SAE must read the heads' outputs (hook_z) to be attributed to heads and positions, got {place.hook_name} ({place.kind}); "
            f"train one there with sae_train, or use latent_examples."
        )
    found = [one for one in attention_places(study.subject) if one.projection is not None and one.projection.weight == place.site.weight]
    if len(found) != 1 or found[0].heads != place.n_heads or found[0].crosses:
        raise IncompatibleSubject(
            f"the attention in front of {place.hook_name} must be seen once, between tokens of one sequence, got {len(found)} calls that "
            f"its matrix reads; latent_examples can still be run."
        )
    return found[0]


@dataclass(frozen=True)
class Asked:
    """Examples to attribute, an entry each, in order of windows."""

    latent: Ints
    rank: Ints
    value: NDArray[np.float64]
    window: Ints
    position: Ints

    def part(self, entries: slice) -> Asked:
        """Some of them."""
        return Asked(*(getattr(self, name)[entries] for name in self.__dataclass_fields__))

    def within(self, windows: slice) -> Asked:
        """Those of these windows."""
        return self.part(slice(*np.searchsorted(self.window, [windows.start, windows.stop]).tolist()))


@dataclass(frozen=True)
class Attributed:
    """What came of some examples."""

    asked: Asked
    joint: NDArray[np.float64]
    """[n, H, S]: by head and source position."""
    direct: NDArray[np.float64]
    """[n]: z . W_enc, of what the dictionary really read."""


class _Enough(Exception):  # noqa: N818 - not an error: the attention has been read
    """Ends a pass behind the attention."""


class _RowReader:
    """Observer of attention: of one call the rows of some queries after softmax, and the values."""

    def __init__(self, place: AttentionPlace, batch: Ints, query: Ints) -> None:
        self._place, self._batch, self._query = place, batch, query
        self.read: tuple[Tensor, Tensor] | None = None
        """Rows [n, H, S] and values [batch, G, S, d_v]."""

    def attention(self, call: AttentionCall) -> None:
        """Keeps the rows of the call asked for, and ends the pass."""
        if call.turn != self._place.turn:
            return
        if call.value is None:
            raise IncompatibleSubject(f"the values of attention at {call.site.name} cannot be seen, so nothing can be attributed to them.")
        self.read = self._rows(call), call.value.detach().clone()
        raise _Enough

    def _rows(self, call: AttentionCall) -> Tensor:
        import torch

        batch, heads, _, keys = call.shape
        assert call.value is not None
        device = call.value.device
        found = torch.zeros(len(self._batch), heads, keys, device=device)
        for start, block in call.blocks():
            by_batch = block.view(batch, heads, *block.shape[1:])
            here = np.flatnonzero((self._query >= start) & (self._query < start + block.shape[1]))
            at, row = (torch.from_numpy(one[here]).to(device) for one in (self._batch, self._query - start))
            found[torch.from_numpy(here).to(device), :, : block.shape[2]] = by_batch[at, :, row].softmax(-1)
        sink = call.sink_mass()
        if sink is not None:
            at, row = (torch.from_numpy(one).to(device) for one in (self._batch, self._query))
            found *= 1 - sink[at, :, row][..., None]
        return found


def attributed(study: Study, place: AttentionPlace, asked: Asked, within: slice, report: Callable[[float], None]) -> Iterator[Attributed]:
    """The attribution of all examples in these windows, a few at a time."""
    source = Source(study.subject, study.place, study.place, study.mask)
    for inputs, windows in study.data.batches(WINDOWS, study.subject.device, within):
        here = asked.within(windows)
        if len(here.latent):
            block = next(source.blocks(study.data, windows))
            rows, values = _read(study, place, here, inputs, windows.start)
            length = study.token_ids.shape[1]
            at = np.searchsorted(block.window * length + block.position, here.window * length + here.position)
            yield from _attributed(study, here, here.window - windows.start, block.x, at, rows, values)
        report((windows.stop - within.start) / (within.stop - within.start))


def _read(study: Study, place: AttentionPlace, asked: Asked, inputs: Any, first: int) -> tuple[Tensor, Tensor]:
    """Rows of attention and the values of one batch, whose first window has that number."""
    from analysis.capture.attention_session import capture_attention

    reader = _RowReader(place, asked.window - first, asked.position)
    with capture_attention(study.subject.model, [place.site], reader) as session, contextlib.suppress(_Enough):
        session.run(inputs)
    if reader.read is None:
        raise IncompatibleSubject(
            f"the attention of {place.site.module} must run in every pass, got one without; run it on the same kind of text."
        )
    return reader.read


def _attributed(study: Study, asked: Asked, batch: Ints, x: Tensor, at: Ints, rows: Tensor, values: Tensor) -> Iterator[Attributed]:
    import torch

    step = max(1, _HELD // values[0].numel())
    encoder, device = study.dictionary.W_enc, values.device
    for start in range(0, len(batch), step):
        part = slice(start, min(start + step, len(batch)))
        some = asked.part(part)
        columns = encoder[:, torch.from_numpy(some.latent).to(encoder.device)].T.to(device)
        joint = attribution(rows[part], values[torch.from_numpy(batch[part]).to(device)], columns)
        direct = (x[torch.from_numpy(at[part]).to(x.device)].double() * columns.to(x.device).double()).sum(1)
        yield Attributed(some, joint.cpu().numpy(), direct.cpu().numpy())
