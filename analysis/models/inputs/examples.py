"""Examples that are not text: images, rows of arrays. They are read when their batch comes, never all at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np

from analysis.models.fingerprints import digest

Read = Callable[[np.ndarray], np.ndarray]
"""From positions [n] to values [n, ...], float32 or integers."""


class Examples:
    """Chosen examples of a data set, each a document of its own."""

    token_ids = None
    special = None

    def __init__(
        self,
        name: str,
        read: Read,
        documents: Sequence[str],
        *,
        labels: np.ndarray | None = None,
        argument: str | None = None,
        dtype: str = "float32",
        facts: dict[str, Any] | None = None,
        contents: Sequence[bytes] = (),
    ) -> None:
        """``read`` gives examples by position, in order of ``documents``; ``contents`` is what the fingerprint hashes of them.

        ``argument`` is the model's argument they are passed as; None passes them as the only one, in ``dtype``.
        """
        self.name, self.documents, self.labels = name, list(documents), labels
        self.document = np.arange(len(documents), dtype=np.int64)
        self._read, self._argument, self._dtype, self._facts = read, argument, dtype, facts or {}
        self._positions = self.document
        settings = sorted((key, value) for key, value in self._facts.items() if key not in ("data", "n_examples_total"))
        kept = b"" if labels is None else np.ascontiguousarray(labels).tobytes()
        self.fingerprint = digest([repr((settings, argument)).encode(), kept, *contents])

    @property
    def n_windows(self) -> int:
        """Number of examples."""
        return len(self.document)

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and how the examples were made, as JSON."""
        return {**self._facts, "n_windows": self.n_windows, "n_documents": self.n_windows}

    def parts(self, n_windows: int) -> list[slice]:
        """The examples in consecutive parts of ``n_windows``."""
        return [slice(i, min(i + n_windows, self.n_windows)) for i in range(0, self.n_windows, n_windows)]

    def batches(self, batch_size: int, device: str = "cpu", within: slice | None = None) -> Iterator[tuple[Any, slice]]:
        """Batches for the model, each with the examples it holds."""
        import torch

        within = within or slice(0, self.n_windows)
        for first in range(within.start, within.stop, batch_size):
            part = slice(first, min(first + batch_size, within.stop))
            values = torch.from_numpy(np.ascontiguousarray(self._read(self._positions[part]))).to(device)
            if values.is_floating_point():
                values = values.to(getattr(torch, self._dtype))
            yield values if self._argument is None else {self._argument: values}, part

    def only(self, windows: np.ndarray) -> Examples:
        """The examples at these positions."""
        chosen = copy.copy(self)
        chosen._positions, chosen.document = self._positions[windows], self.document[windows]
        chosen.labels = None if self.labels is None else self.labels[windows]
        chosen.fingerprint = digest([self.fingerprint.encode(), np.ascontiguousarray(windows).tobytes()])
        return chosen


def choose(n: int, n_tokens: int, window: int, seed: int) -> np.ndarray:
    """Which of n examples are taken: a seeded sample, in order; an example counts as one window of tokens.

    Asking for more only adds examples.
    """
    wanted = max(1, ceil(n_tokens / window))
    return np.sort(np.random.default_rng(seed).permutation(n)[:wanted]).astype(np.int64)
