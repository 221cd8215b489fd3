"""Inputs that are not text: batches somebody made. And what all inputs have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from analysis.models.fingerprints import digest, tensor_bytes
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch


class Data(Protocol):
    """What an analysis may rely on of any inputs. A window is one example: a text window, an image, a row."""

    name: str
    fingerprint: str
    document: np.ndarray
    """int64 [n_windows]: index into `documents`; the unit of every interval."""
    documents: list[str]
    labels: np.ndarray | None
    """int64 [n_windows]: the class of each example; None where there is none."""

    @property
    def token_ids(self) -> np.ndarray | None:
        """int64 [n_windows, window]; None where the inputs are not tokens."""
        ...

    @property
    def special(self) -> np.ndarray | None:
        """bool [n_windows, window]: tokens the tokenizer added or reserves; None where the inputs are not tokens."""
        ...

    @property
    def n_windows(self) -> int:
        """Number of examples."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and settings, as JSON."""
        ...

    def parts(self, n_windows: int) -> list[slice]:
        """The windows in consecutive parts of about ``n_windows``: the pieces of work that are committed one by one."""
        ...

    def batches(self, batch_size: int, device: str = "cpu", within: slice | None = None) -> Iterator[tuple[Any, slice]]:
        """Batches for the model, each with the windows it holds; of all windows, or of one of the parts."""
        ...

    def only(self, windows: np.ndarray) -> Data:
        """The windows at these positions, in this order; `documents` and the numbers in `document` stay."""
        ...


class GivenBatches:
    """A list of batches, handed to the model as they are; each example is a document of its own.

    A batch is a tensor, a mapping (passed as keywords) or a sequence (passed as arguments); its first tensor's first axis
    counts examples. `batches` keeps the given division, so its ``batch_size`` is ignored.
    """

    token_ids = None
    special = None

    def __init__(self, batches: Sequence[Any], *, labels: Any = None, name: str = "given batches") -> None:
        """``labels``: the class of each example, in order, where there are classes."""
        self.name = name
        self._batches = list(batches)
        if not self._batches:
            raise UserError("the data must hold at least one batch, got none; give some inputs.")
        first = [next(_tensors(batch), None) for batch in self._batches]
        if any(tensor is None or not tensor.dim() for tensor in first):
            raise UserError("every batch must hold a tensor whose first axis counts examples, got one without; give tensors.")
        self._sizes = [int(tensor.shape[0]) for tensor in first if tensor is not None]
        self.document = np.arange(sum(self._sizes), dtype=np.int64)
        self.documents = [f"example {i}" for i in range(len(self.document))]
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        if self.labels is not None and self.labels.shape != self.document.shape:
            raise UserError(
                f"there must be one label for each of {len(self.document)} examples, got {self.labels.shape}; give one label each."
            )
        kept = () if self.labels is None else (self.labels.tobytes(),)
        self.fingerprint = digest([*_parts(self._batches), *kept])

    @property
    def n_windows(self) -> int:
        """Number of examples."""
        return len(self.document)

    @property
    def facts(self) -> dict[str, Any]:
        """Counts, as JSON."""
        return {"n_windows": self.n_windows, "n_documents": self.n_windows, "n_batches": len(self._batches)}

    def parts(self, n_windows: int) -> list[slice]:
        """Consecutive given batches, at least ``n_windows`` examples a part but for the last."""
        ends = [0]
        for end in accumulate(self._sizes):
            if end - ends[-1] >= n_windows or end == self.n_windows:
                ends.append(end)
        return [slice(a, b) for a, b in pairwise(ends)]

    def batches(self, batch_size: int = 0, device: str = "cpu", within: slice | None = None) -> Iterator[tuple[Any, slice]]:  # noqa: ARG002 - given division
        """The batches on that device, each with the examples it holds."""
        start = 0
        for batch, size in zip(self._batches, self._sizes):
            if within is None or within.start <= start < within.stop:
                yield _to(batch, device), slice(start, start + size)
            start += size

    def only(self, windows: np.ndarray) -> GivenBatches:
        """The examples at these positions, within the given division; their order must be that of the batches."""
        ends = np.cumsum([0, *self._sizes])
        parts = [windows[(windows >= a) & (windows < b)] - a for a, b in pairwise(ends)]
        batches = [_rows(batch, part, size) for batch, part, size in zip(self._batches, parts, self._sizes) if len(part)]
        chosen = GivenBatches(batches, labels=None if self.labels is None else self.labels[windows], name=self.name)
        chosen.document, chosen.documents = self.document[windows], self.documents
        return chosen


def _rows(batch: Any, rows: np.ndarray, size: int) -> Any:
    """Those examples of a batch: rows of every tensor whose first axis counts them."""
    import torch

    if isinstance(batch, torch.Tensor):
        return batch[torch.from_numpy(rows).to(batch.device)] if batch.dim() and batch.shape[0] == size else batch
    if isinstance(batch, Mapping):
        return {key: _rows(value, rows, size) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return tuple(_rows(value, rows, size) for value in batch)
    return batch


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for value in batch:
            yield from _tensors(value)


def _parts(batches: Sequence[Any]) -> Iterator[Any]:
    for batch in batches:
        yield repr(sorted(batch)).encode() if isinstance(batch, Mapping) else b""
        for tensor in _tensors(batch):
            yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
            yield tensor_bytes(tensor)


def _to(batch: Any, device: str) -> Any:
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return tuple(_to(value, device) for value in batch)
    return batch
