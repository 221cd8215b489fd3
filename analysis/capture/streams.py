"""Which token stream the rows of a tensor follow, told by its shape or by what gathered them; and how the rows are laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.capture.flow import Flow
from analysis.capture.site import TOKEN_STREAMS, Frame, Stream

if TYPE_CHECKING:
    from torch import Tensor


class Layout(NamedTuple):
    """The stream, and whether its rows are laid out [positions, batch]."""

    stream: Stream
    positions_first: bool = False


class Streams:
    """Answers for one batch."""

    def __init__(self, frame: Frame, flow: Flow) -> None:
        self._frame, self._flow = frame, flow

    def of(self, values: Tensor, axis: int) -> Layout:
        """Of values whose rows are [batch, positions], flattened or not, or [positions, batch], or were gathered from such."""
        gathered = self._flow.of(values)
        if gathered is not None:
            return Layout(gathered.stream)
        return self.laid_out(tuple(values.movedim(axis, -1).shape[:-1]))

    def laid_out(self, lead: tuple[int, ...]) -> Layout:
        """Of a tensor whose dimensions other than its width are these; where batch and positions are equally many, batch goes first."""
        stream = self.fitting(lambda shape: lead in (shape, (shape[0] * shape[1],)))
        if stream != "rows":
            return Layout(stream)
        stream = self.fitting(lambda shape: lead == shape[::-1])
        return Layout(stream, stream != "rows")

    def packed(self, batch_sizes: Tensor) -> Layout:
        """Of a packed sequence, by how many sequences are left at each step."""
        n, steps = int(batch_sizes[0]), len(batch_sizes)
        return Layout(self.fitting(lambda shape: shape[0] == n and steps <= shape[1]))

    def fitting(self, fits: Callable[[tuple[int, int]], bool]) -> Stream:
        """The first stream whose (batch, positions) fits."""
        for stream in TOKEN_STREAMS:
            shape = self._frame.shape(stream)
            if shape is not None and fits(shape):
                return stream
        return "rows"


def with_distinct_lengths(batch: Mapping[str, Any] | tuple[Any, ...]) -> Mapping[str, Any] | tuple[Any, ...]:
    """The batch, the decoder's sequence cut by one position where it is as long as the encoder's, so that streams can be told."""
    frame = Frame.of(batch)
    if not isinstance(batch, Mapping) or frame.mask is None or frame.decoder_mask is None:
        return batch
    length = frame.decoder_mask.shape[1]
    if frame.mask.shape[1] != length or length < 2:
        return batch
    cut = [n for n in batch if (n.startswith("decoder_") or n == "labels") and batch[n] is not None and batch[n].shape[1:2] == (length,)]
    return {n: v[:, :-1] if n in cut else v for n, v in batch.items()}
