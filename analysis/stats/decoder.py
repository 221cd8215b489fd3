"""What decoder directions say by themselves: duplicates, encoders that read what their decoder writes, tokens they promote.

Source: METHODS D5 (`max_decoder_cosine_sim`), D7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.stats.nearest import blocks_of, counted, nearest, spread, top, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

DUPLICATE = 0.9
"""Cosine from which two decoder directions are called near duplicates. Ours."""


@dataclass(frozen=True)
class Similar:
    """For each direction the most similar other one; arrays [F]."""

    cosine: NDArray[np.float64]
    """-1 to 1; 0 where `has` is False."""
    other: NDArray[np.int64]
    has: NDArray[np.bool_]
    """Whether there is one: both must have a length."""

    def duplicates(self, threshold: float = DUPLICATE) -> NDArray[np.bool_]:
        """Directions whose most similar other one is at least so similar."""
        return self.has & (self.cosine >= threshold)


def most_similar(rows: Tensor) -> Similar:
    """max_{j != i} cos(W_i, W_j) of rows [F, d], in blocks of the F x F product; ties go to any. Zero rows have none and are none's."""
    unit, has = unit_rows(rows.detach())
    kept = has.nonzero().squeeze(1)
    cosine, other = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    found = has.cpu().numpy() & (len(kept) > 1)
    if len(kept) > 1:
        alive = unit[kept]
        best, _, place = nearest(alive, [alive], 1, own=0)
        cosine[found] = best[:, 0].double().clamp(-1, 1).cpu().numpy()
        other[found] = kept[place[:, 0]].cpu().numpy()
    return Similar(cosine, other, found)


def row_cosines(one: Tensor, other: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """cos of row i with row i, [n, d] each -> [n], -1 to 1, and which have both lengths (0 elsewhere)."""
    (a, has_a), (b, has_b) = unit_rows(one.detach()), unit_rows(other.detach())
    both = (has_a & has_b).cpu().numpy()
    return np.where(both, (a.double() * b.double()).sum(1).clamp(-1, 1).cpu().numpy(), 0.0), both


@dataclass(frozen=True)
class LensTokens:
    """Directions as the unembedding sees them."""

    promoted: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Scores [F, k], descending, and their tokens."""
    suppressed: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Scores [F, k], ascending, and their tokens."""
    std: NDArray[np.float64]
    skewness: NDArray[np.float64]
    """Of the scores over the vocabulary; NaN where std is 0, as excess_kurtosis."""
    excess_kurtosis: NDArray[np.float64]
    counts: NDArray[np.int64]
    """Tokens in each of as many bins as were asked for [F, bins], of equal width from the lowest to the highest score."""


def lens_tokens(directions: Tensor, unembedding: Tensor, k: int, *, centred: bool = True, bins: int = 0) -> LensTokens:
    """Logit lens of directions [F, d] through the unembedding [V, d], whose norm's gain is folded into one of them: scores W_dec,i W_U.

    ``centred``: less their mean over the vocabulary, so that a constant added to all columns of W_U changes nothing. In blocks of
    `nearest.BLOCK` scores. Early layers are not meaningful. ``bins``: of the histogram of each direction's scores; 0 for none.
    Source: METHODS D7.
    """
    weight = unembedding.detach().float()
    weight = weight - weight.mean(0) if centred else weight
    parts: list[list[NDArray[np.float64]]] = []
    counts = [np.zeros((0, bins), np.int64)]
    for part in blocks_of(len(directions), len(weight)):
        scores = directions.detach()[part].float() @ weight.T
        high, low = top(scores, k), top(-scores, k)
        parts.append([value.double().cpu().numpy() for value in (high[0], high[1], -low[0], low[1], *spread(scores))])
        counts.append(counted(scores, bins).cpu().numpy() if bins else np.zeros((len(scores), 0), np.int64))
    high, token, low, least, std, skewness, kurtosis = (np.concatenate(column) for column in zip(*parts, strict=True))
    edges = (high, token.astype(np.int64)), (low, least.astype(np.int64))
    return LensTokens(*edges, std, skewness, kurtosis, np.concatenate(counts))
