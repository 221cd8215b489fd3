"""What a place in the forward pass is (`Site`), and which rows of a batch are real tokens (`Frame`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["ffn", "conv", "attention", "matrix", "residual", "recurrent", "activation"]
Stream = Literal["input", "decoder", "rows"]
TOKEN_STREAMS: tuple[Literal["input", "decoder"], ...] = ("input", "decoder")


class CaptureError(UserError):
    """The forward pass did not hand over what its sites promise; the text says which site and what to do."""


@dataclass(frozen=True)
class Site:
    """A place in the forward pass, found by running the model once; a value, so it can be stored and compared.

    A site with role ``input`` is what one matrix product reads. Its kind is ``ffn`` or ``conv`` where these values come
    from an activation function, else ``matrix``: every matrix product with a parameter is exactly one site. Where several
    products read the very same values (a convolution and the shortcut beside it), the first one is the ``ffn``/``conv`` site
    and the others are ``matrix`` sites, so no neuron is counted twice; a replacement reaches the product it is given to.
    A module that runs several times in one pass (shared layers) is one site, seen each time.
    """

    name: str
    """Identity: ``module:operator:role``, then ``:weight`` where the matrix is not the module's own ``weight``, then
    ``[index]`` inside a stack of expert matrices. No ordinals: it survives changes elsewhere in the model."""
    kind: Kind
    module: str
    """Path of the innermost module whose forward contains the operator; empty for the model itself."""
    operator: str
    role: Literal["input", "output", "hidden", "cell"]
    """What of the operator: what it reads, what it gives; of a recurrent call also its final hidden and cell states."""
    layer: int
    """Rank from 0, by first execution, of the block: the outermost ModuleList entry around the module, else the outermost Sequential
    entry. Blocks that hold neurons or attention come first, then modules outside every block that do, then the rest
    (embeddings, heads), so that block 3 of a language model is layer 3."""
    width: int | None
    """Neurons or channels; None for attention."""
    stream: Stream
    """Which token sequence of the batch the rows follow; ``rows`` where they follow none (images, pooled vectors)."""
    activation: str | None
    weight: str | None
    """Parameter that reads the values; for an expert the stack; for a residual addition the matrix whose output is added, or the
    `group` of experts where it is theirs."""
    expert: int | None
    transposed: bool
    """The stored matrix is [in, out], not [out, in]."""
    producers: tuple[str, ...]
    """Parameters whose outputs feed the activation, gate first; the same name twice for a fused gate and up matrix, empty
    where the activation reads a residual sum."""
    gate: str | None
    """Module whose output is act(gate), where the unit is gated and such a module exists."""
    up: str | None
    plain: bool
    """A plain module hook suffices; else the functional call is intercepted."""
    hook_name: str
    axis: int = -1
    """Dimension of the values that counts the neurons."""
    product: bool = False
    """Whether the product's output has one row per row read, so that ``Observer.product`` is called."""
    positions_first: bool = False
    """Rows are laid out [positions, batch]; they are numbered as if they were [batch, positions]."""
    group: str | None = None
    """Of an expert: what holds it and the others, the stack's parameter or the path of the list. The group shares out the tokens."""
    member: int | None = None
    """Of an expert: its place in the group, from 0."""

    @property
    def gated(self) -> bool:
        """Whether the values are act(gate) times up."""
        return len(self.producers) == 2


@dataclass(frozen=True)
class Frame:
    """Which positions of a batch are real tokens; everything else is padding and is never handed to an observer.

    ``mask`` and ``decoder_mask`` are boolean [batch, positions]; None where the batch has no such token sequence.
    """

    mask: Tensor | None
    decoder_mask: Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Any] | tuple[Any, ...]) -> Frame:
        """The frame a batch states itself: ``attention_mask`` (2-D), ``src_key_padding_mask`` (True is padding) and
        ``decoder_attention_mask``; all True in the shape of the token ids or embeddings where these are absent."""
        import torch

        if not isinstance(batch, Mapping):
            return cls(None, None)

        def stated(mask: str, *shaped: str) -> Tensor | None:
            given = batch.get(mask)
            if isinstance(given, torch.Tensor) and given.ndim == 2:
                return given.bool()
            for name in shaped:
                like = batch.get(name)
                if isinstance(like, torch.Tensor) and like.ndim >= 2:
                    return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)
            return None

        padding = batch.get("src_key_padding_mask")
        mask = ~padding.bool() if isinstance(padding, torch.Tensor) else stated("attention_mask", "input_ids", "inputs_embeds")
        decoder = ("decoder_input_ids", "decoder_inputs_embeds", "labels") if _is_sequence_to_sequence(batch) else ()
        return cls(mask, stated("decoder_attention_mask", *decoder))

    def shape(self, stream: Stream) -> tuple[int, int] | None:
        """(batch, positions) of a stream; None where the batch has no such stream."""
        mask = {"input": self.mask, "decoder": self.decoder_mask, "rows": None}[stream]
        return None if mask is None else (mask.shape[0], mask.shape[1])

    def n_real(self, stream: Stream) -> int:
        """Real tokens of a stream; 0 where the batch has no such stream."""
        shape, rows = self.shape(stream), self.rows(stream)
        return 0 if shape is None else shape[0] * shape[1] if rows is None else len(rows)

    def kept(self, stream: Stream) -> Tensor | None:
        """Flattened mask [batch * positions] of a stream, or None where nothing is padding."""
        return {"input": self._input_kept, "decoder": self._decoder_kept, "rows": None}[stream]

    def rows(self, stream: Stream) -> Tensor | None:
        """Indices of the real tokens in the flattened stream, or None where nothing is padding."""
        return {"input": self._input_rows, "decoder": self._decoder_rows, "rows": None}[stream]

    @cached_property
    def _input_kept(self) -> Tensor | None:
        return _flat_unless_full(self.mask)

    @cached_property
    def _decoder_kept(self) -> Tensor | None:
        return _flat_unless_full(self.decoder_mask)

    @cached_property
    def _input_rows(self) -> Tensor | None:
        return None if self._input_kept is None else self._input_kept.nonzero().squeeze(1)

    @cached_property
    def _decoder_rows(self) -> Tensor | None:
        return None if self._decoder_kept is None else self._decoder_kept.nonzero().squeeze(1)


def _is_sequence_to_sequence(batch: Mapping[str, Any]) -> bool:
    return any(name.startswith("decoder_") for name in batch)


def _flat_unless_full(mask: Tensor | None) -> Tensor | None:
    return None if mask is None or bool(mask.all()) else mask.reshape(-1)
