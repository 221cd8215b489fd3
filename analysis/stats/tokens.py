"""Per-token measures of a site: share of neurons active, share above zero, Hoyer; Gini on a seeded sample of tokens.

Kept as moments over tokens and as sums per document, so that intervals can be made over documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.moments import Moments
from analysis.stats.rows import Rows
from analysis.stats.sparsity import Measured, gini, hoyer_of_norms
from analysis.stats.threads import run

if TYPE_CHECKING:
    import torch

MEASURES = ("share_active", "share_positive", "hoyer")
"""Shares of the site's neurons, 0 to 1 (`share_positive` x 100 is METHODS B1's nnz%); Hoyer 0 to 1."""


@dataclass
class TokenMeasures:
    """Moments and per-document n, sum, sum of squares of `MEASURES`, each [3, documents]. O(documents).

    Tokens with a value that is not finite have no measures; tokens whose values are all zero have no Hoyer.
    """

    moments: Moments
    document_n: NDArray[np.int64]
    document_sum: NDArray[np.float64]
    document_square: NDArray[np.float64]

    @classmethod
    def empty(cls, documents: int) -> TokenMeasures:
        """No token yet."""
        shape = (len(MEASURES), documents)
        return cls(Moments.zeros(len(MEASURES)), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    def update(self, rows: Rows, row_sums: NDArray[np.float64], row_finite: NDArray[np.bool_], n: int) -> None:
        """row_sums [4, T] as in `BlockStatistics`, of n neurons."""
        size, square, active, positive = row_sums
        hoyer, has_hoyer = hoyer_of_norms(size, square, n)
        values = np.stack([active / n, positive / n, hoyer])
        known = np.stack([row_finite, row_finite, row_finite & has_hoyer])
        values = np.where(known, values, 0.0)
        self.moments.merge(Moments.of(values.T, known.T))
        documents, which = rows.documents
        for m in range(len(MEASURES)):
            self.document_n[m, documents] += np.bincount(which, known[m], len(documents)).astype(np.int64)
            self.document_sum[m, documents] += np.bincount(which, values[m], len(documents))
            self.document_square[m, documents] += np.bincount(which, values[m] ** 2, len(documents))

    def merge(self, other: TokenMeasures) -> None:
        """Take in another part of the stream."""
        self.moments.merge(other.moments)
        self.document_n += other.document_n
        self.document_sum += other.document_sum
        self.document_square += other.document_square

    def result(self) -> dict[str, NDArray[Any]]:
        """``{measure}_n``, ``_mean``, ``_variance`` (scalars) and ``_document_n``, ``_document_sum``, ``_document_square``."""
        moments = self.moments.result()
        found: dict[str, NDArray[Any]] = {}
        for m, name in enumerate(MEASURES):
            found |= {f"{name}_n": moments["count"][m], f"{name}_mean": moments["mean"][m]}
            found[f"{name}_variance"] = moments["variance"][m]
            found[f"{name}_document_n"] = self.document_n[m].copy()
            found[f"{name}_document_sum"] = self.document_sum[m].copy()
            found[f"{name}_document_square"] = self.document_square[m].copy()
        return found


@dataclass
class GiniSample:
    """Gini of a seeded sample of tokens: those with the smallest hashes of their global index, whatever the order.

    A sort per token is too dear for all of them. O(sample).
    """

    hash: NDArray[np.uint64]
    token: NDArray[np.int64]
    document: NDArray[np.int64]
    value: NDArray[np.float64]
    defined: NDArray[np.bool_]
    size: NDArray[np.int64]
    """[1]: how many tokens the sample holds at most."""
    seed: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int, seed: int) -> GiniSample:
        """No token yet."""
        integers = np.zeros(0, np.int64)
        return cls(np.zeros(0, np.uint64), integers, integers, np.zeros(0), np.zeros(0, bool), np.array([size]), np.array([seed]))

    def update(self, rows: Rows, values: torch.Tensor, row_finite: NDArray[np.bool_], threads: int = 1) -> None:
        """Measure those rows of values [T, n] that come into the sample."""
        import torch

        hashes = rows.hashes(int(self.seed[0]))
        room = int(self.size[0])
        if len(self.hash) == room:
            new = np.flatnonzero(hashes < self.hash.max(initial=0))
        else:
            new = np.arange(len(rows))
        new = new[np.argsort(hashes[new])[:room]]
        if not len(new):
            return
        if values.device.type == "cpu":  # numpy gathers on this thread: waking torch's others costs more than the copy
            numbers = values.numpy()[new]
        else:
            numbers = values[torch.from_numpy(new).to(values.device)].cpu().numpy()
        numbers[~row_finite[new]] = 0
        value, defined = _gini_on(threads, numbers)
        self._add(hashes[new], rows.token_index[new], rows.document_id[new], value, defined)

    def _add(self, *columns: NDArray[Any]) -> None:
        mine = (self.hash, self.token, self.document, self.value, self.defined)
        together: list[NDArray[Any]] = [np.concatenate(pair) for pair in zip(mine, columns, strict=True)]
        keep = np.argsort(together[0])[: int(self.size[0])]
        self.hash, self.token, self.document, self.value, self.defined = (column[keep] for column in together)

    def merge(self, other: GiniSample) -> None:
        """Take in another part of the stream."""
        self._add(other.hash, other.token, other.document, other.value, other.defined)

    def result(self) -> dict[str, NDArray[Any]]:
        """``gini_n`` and, of the sampled tokens in ascending index, ``gini_token_index``, ``gini_document``, ``gini_value``."""
        order = np.argsort(self.token)
        order = order[self.defined[order]]
        return {
            "gini_n": np.array(len(order)),
            "gini_token_index": self.token[order],
            "gini_document": self.document[order],
            "gini_value": self.value[order],
        }


def _gini_on(threads: int, numbers: NDArray[np.float32]) -> Measured:
    """`gini` of each row, the rows shared out in parts that stay in the second-level cache."""
    value, defined = np.zeros(len(numbers)), np.zeros(len(numbers), bool)

    def job(part: slice) -> None:
        value[part], defined[part] = gini(numbers[part])

    run([lambda _, part=slice(k, k + 16): job(part) for k in range(0, len(numbers), 16)], threads)
    return Measured(value, defined)
