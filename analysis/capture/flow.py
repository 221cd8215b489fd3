"""What must be followed while a model runs: which tokens gathered rows are (experts, packed batches), and the factors of gated units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.capture.operators import ELEMENTWISE, MULTIPLICATIONS, RESHAPES, SUMS, activation_of, tensors_in
from analysis.capture.site import TOKEN_STREAMS, Frame, Stream

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Row r of the tensor is position ``index[r]`` of the flattened stream."""

    stream: Stream
    index: Tensor
    origin: int | None = None
    """Which values they were gathered from, where the flow was told how to number values."""


class Flow:
    """Follows gathered rows from the index that gathered them, through everything that keeps their number."""

    def __init__(self, frame: Frame, origin: Callable[[Tensor], int | None] = lambda tensor: None) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._origin = origin
        self._rows: Any = WeakIdKeyDictionary()
        self._streams: dict[int, Stream] = {}
        for stream in TOKEN_STREAMS:
            if (shape := frame.shape(stream)) is not None:
                self._streams.setdefault(shape[0] * shape[1], stream)

    def of(self, tensor: Any) -> Rows | None:
        """The rows of a tensor that were gathered, or None where they are in the stream's order."""
        import torch

        return self._rows.get(tensor) if isinstance(tensor, torch.Tensor) else None

    def follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Derive the rows of a function's results from those of its operands."""
        if name in ("getitem", "index_select", "index"):
            gathered = self._gathered(name, args, kwargs)
            if gathered is not None:
                self._rows[result] = gathered
                return
        if not len(self._rows):
            return
        known = next((rows for t in tensors_in(args) if (rows := self._rows.get(t)) is not None), None)
        if known is None:
            return
        for out in tensors_in(result):
            if out.ndim and out.shape[0] == known.index.shape[0] and out.is_floating_point():
                self._rows[out] = known

    def _gathered(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rows | None:
        import torch

        of = args[0]
        if name == "index_select":
            dim, index = kwargs.get("dim", args[1] if len(args) > 1 else None), kwargs.get("index", args[2] if len(args) > 2 else None)
            index = index if dim == 0 else None
        else:
            index = args[1]
            if isinstance(index, tuple | list):
                # `x[None, rows]` and `x[rows, :]` gather the same rows.
                index = _row_index(index)
        if not isinstance(index, torch.Tensor) or not isinstance(of, torch.Tensor) or not of.is_floating_point() or of.ndim < 2:
            return None
        known = self._rows.get(of)
        stream = self._streams.get(index.numel() if index.dtype == torch.bool else of.shape[0])
        if index.dtype == torch.bool:
            found = index.reshape(-1).nonzero().squeeze(1)
            return Rows(stream, found, self._origin(of)) if stream is not None and known is None else None
        if index.ndim != 1 or (stream is None and known is None):
            return None
        # A matrix [tokens, width] has one row a token; anything deeper is laid out by batch, and its rows are not tokens.
        if known is not None:
            return Rows(known.stream, known.index[index], self._origin(of))
        return Rows(stream, index, self._origin(of)) if stream is not None and of.ndim == 2 else None


def _row_index(index: Any) -> Any:
    """The tensor that chooses among the first dimension, where nothing else is chosen; else None."""
    kinds = [part for part in index if part is not None]
    rest = all(isinstance(part, slice) and part == slice(None) for part in kinds[1:])
    return kinds[0] if kinds and rest else None


class Gates:
    """Remembers, for the result of each gating product act(gate) * up, its two factors, until the next matrix product reads it."""

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._activated: Any = WeakIdKeyDictionary()
        self._factors: Any = WeakIdKeyDictionary()

    def of(self, values: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """act(gate) and up of values that are their product, else nothing."""
        return self._factors.get(values, (None, None))

    def follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Note an activation, a product of an activated tensor with another, and what merely reshapes these."""
        import torch

        if not isinstance(result, torch.Tensor):
            return
        operands = [t for t in tensors_in(args) if t.is_floating_point() and t.ndim]
        marked = [t for t in operands if t in self._activated]
        if activation_of(name, args, kwargs) is not None:
            self._activated[result] = True
            if name == "glu":
                up, gate = operands[0].chunk(2, dim=kwargs.get("dim", args[1] if len(args) > 1 else -1))
                self._factors[result] = (gate.sigmoid(), up)
        elif marked and name in _VALUE_WISE:
            self._activated[result] = True
            if name in MULTIPLICATIONS and len(operands) == 2 and operands[0].shape == operands[1].shape:
                gate = marked[0]
                self._factors[result] = (gate, operands[1] if gate is operands[0] else operands[0])
            elif name in RESHAPES and (factors := self._factors.get(operands[0])) is not None:
                self._factors[result] = factors


_VALUE_WISE = RESHAPES | MULTIPLICATIONS | SUMS | ELEMENTWISE
