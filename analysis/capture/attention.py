"""Attention as it happens: queries, keys, values and the mask that one call really used, and its logits a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.capture.site import CaptureError, Frame, Site

if TYPE_CHECKING:
    from torch import Tensor

EXCLUDED = -1e10
"""Logit given to the keys that the mask excludes; `analysis.stats.attention_kernel` knows the same number."""
MASKING = -9900.0
"""Additive masks of this much or less exclude a key: -inf, the smallest number of a type, or the -10,000 of older models. Biases by
distance (ALiBi) stay far above it for tens of thousands of positions."""


@dataclass(frozen=True)
class AttentionCall:
    """One call of one site. Tensors are [batch, heads, ...] and belong to the model: they must not be changed.

    Either ``query`` and ``key`` are known and the logits are computed from them, or ``logits`` are what the model's own softmax
    read. ``key`` and ``value`` may have fewer heads than ``query``: query head h reads head h // (heads / kv heads).
    """

    site: Site
    turn: int
    """Which call of its site in this forward pass, from 0: shared layers run several times."""
    query: Tensor | None
    key: Tensor | None
    value: Tensor | None
    output: Tensor | None
    """[batch, heads, queries, d_v]: what the heads give, before the output projection."""
    scale: float
    mask: Tensor | None
    """What was added to the logits, or, where boolean, which keys may be seen; broadcastable to [batch, heads, queries, keys]."""
    causal: bool
    """Row r sees keys 0 to r at most, without a mask that says so."""
    logits: Tensor | None
    frame: Frame
    sink: Tensor | None = None
    """[batch, heads, queries, n]: logits of learned sinks, which join the softmax and are no key; None where there are none. `blocks`
    leaves them off, so that a softmax of a block is the attention beside them."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(batch, heads, queries, keys)."""
        if self.logits is not None:
            batch, heads, queries, keys = self.logits.shape
            return batch, heads, queries, keys
        assert self.query is not None and self.key is not None
        return self.query.shape[0], self.query.shape[1], self.query.shape[2], self.key.shape[2]

    def real_queries(self) -> Tensor | None:
        """[batch, queries]: which queries are real tokens; None where the site follows no token stream (images): all of them."""
        shape = self.frame.shape(self.site.stream)
        if shape is None:
            return None
        if shape != (self.shape[0], self.shape[2]):
            raise CaptureError(
                f"attention at {self.site.name} must have a row for each of {shape[0]} x {shape[1]} positions, got {self.shape[0]} x "
                f"{self.shape[2]}; run batches of the same kind as the one the sites were found on."
            )
        return self.frame.mask if self.site.stream == "input" else self.frame.decoder_mask

    def sink_mass(self) -> Tensor | None:
        """[batch, heads, queries]: what of each query's attention learned sinks take; None where the model has none. Range 0 to 1."""
        if self.sink is None or self.logits is None:
            return None
        logits = self.logits.float()
        keys = logits.masked_fill(logits <= MASKING, EXCLUDED).logsumexp(-1)
        sink = self.sink.float().logsumexp(-1)
        return (sink - keys).sigmoid_()

    def blocks(self, elements: int = 1 << 19) -> Iterator[tuple[int, Tensor]]:
        """Blocks of logits of about that many numbers, in order: (first row, [batch * heads, rows, keys]).

        Natural logarithms, float32, `EXCLUDED` where the mask says so. Where the call is causal, keys after the block's last row
        are left off. A block may be changed, and is good until the next one is asked for: they share their memory.
        """
        room: dict[str, Tensor] = {}
        batch, heads, queries, keys = self.shape
        start = 0
        while start < queries:
            width = min(keys, queries) if self.causal else keys
            rows = max(1, min(queries - start, elements // (batch * heads * width)))
            if self.causal:  # the triangle's short rows come in larger blocks
                while rows < queries - start and batch * heads * (rows * 2) * min(keys, start + rows * 2) <= elements:
                    rows *= 2
                rows = min(rows, queries - start)
            yield start, self._block(start, start + rows, room)
            start += rows

    def _block(self, start: int, stop: int, room: dict[str, Tensor]) -> Tensor:
        batch, heads, _, keys = self.shape
        if self.logits is not None:
            found = self.logits[:, :, start:stop].float().reshape(batch * heads, stop - start, keys)
            return found.masked_fill(found <= MASKING, EXCLUDED)
        until = min(keys, stop) if self.causal else keys
        found = self._scores(start, stop, until, room)
        if self.mask is not None:
            found = _masked(found, self.mask.expand(batch, heads, *self.mask.shape[-2:]), start, stop, until)
        if self.causal:
            found = _triangle(found, start, stop, until)
        return found.reshape(batch * heads, stop - start, until)

    def _scores(self, start: int, stop: int, until: int, room: dict[str, Tensor]) -> Tensor:
        """[batch, heads, rows, keys] of q . k times scale, in the room that an earlier block left."""
        import torch

        query, key = self.query, self.key
        assert query is not None and key is not None
        batch, heads, _, width = query.shape
        groups, rows = key.shape[1], stop - start
        if "keys" not in room:
            room["keys"] = key.float().reshape(batch * groups, key.shape[2], width)
        n = batch * heads * rows * until
        if "scores" not in room or room["scores"].numel() < n:
            room["scores"] = torch.empty(n, device=query.device)
        q = (query[:, :, start:stop].float() * self.scale).reshape(batch * groups, heads // groups * rows, width)
        found = room["scores"][:n].view(batch * groups, heads // groups * rows, until)
        torch.bmm(q, room["keys"][:, :until].transpose(1, 2), out=found)
        return found.view(batch, heads, rows, until)


def _masked(scores: Tensor, mask: Tensor, start: int, stop: int, until: int) -> Tensor:
    import torch

    part = mask[..., start:stop, :until] if mask.shape[-2] > 1 else mask[..., :until]
    if part.dtype == torch.bool:
        return scores.masked_fill_(~part, EXCLUDED)
    part = part.float()
    return scores.add_(part).masked_fill_(part <= MASKING, EXCLUDED)


def _triangle(scores: Tensor, start: int, stop: int, until: int) -> Tensor:
    """Exclude keys after each row's own; only the block's last columns can hold any."""
    import torch

    if until > start + 1:
        rows = torch.arange(start, stop, device=scores.device)[:, None]
        keys = torch.arange(start + 1, until, device=scores.device)[None, :]
        scores[..., start + 1 :].masked_fill_(keys > rows, EXCLUDED)
    return scores
