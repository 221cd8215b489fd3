"""The largest scores of every row of a matrix product too large to be held, and how a row of scores is spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 24
"""Scores held at once: 64 MB in float32."""


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [n, d] at length 1 in float32, and which of them have a length at all [n] (zero and non-finite rows stay zero).

    Lengths are taken in float64, so that the largest and smallest values do not overflow.
    """
    import torch

    wide = rows.double()
    length = wide.norm(dim=1)
    has = torch.isfinite(length) & (length > 0)
    return torch.where(has[:, None], wide / torch.where(has, length, 1.0)[:, None], 0.0).float(), has


def blocks_of(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Consecutive slices of rows whose scores against all columns fit into `BLOCK`."""
    step = max(1, BLOCK // max(1, n_columns))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, descending, and their columns; all of them where there are fewer than k."""
    return scores.topk(min(k, scores.shape[1]), dim=1)


def nearest(rows: Tensor, groups: Sequence[Tensor], k: int, own: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """For each of rows [n, d]: the k largest inner products with the rows of all groups [m_g, d], each one's group, and its place there.

    All three [n, k], descending; -inf where there are fewer than k candidates. ``own`` is the group that ``rows`` are: a
    row is not its own neighbour. With `unit_rows` these are cosines, with standardised rows correlations, -1 to 1. Memory: one
    block of scores and n k candidates, whatever the number of groups. Exact; between equal scores the order is not defined.
    """
    import torch

    best = rows.new_full((len(rows), k), -torch.inf)
    group, place = (torch.zeros(len(rows), k, dtype=torch.long, device=rows.device) for _ in range(2))
    for g, others in enumerate(groups):
        for part in blocks_of(len(rows), len(others)):
            scores = rows[part] @ others.T
            if g == own:
                scores.diagonal(part.start).fill_(-torch.inf)
            value, index = top(scores, k)
            merged, chosen = torch.cat([best[part], value], 1).topk(k, dim=1)
            group[part] = torch.cat([group[part], torch.full_like(index, g)], 1).gather(1, chosen)
            place[part] = torch.cat([place[part], index], 1).gather(1, chosen)
            best[part] = merged
    return best, group, place


def spread(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviation, skewness and excess kurtosis of each row [n] of scores [n, m]; NaN for the latter two where the first is 0.

    m2 = mean (s - mean)^2; standard deviation m2^(1/2) >= 0; skewness m3 / m2^(3/2); excess kurtosis m4 / m2^2 - 3 >= -2.
    Moments of the population, not corrected for the sample: a row is all there is. 0 and 0 for a normal distribution.
    """
    centred = scores - scores.mean(1, keepdim=True)
    square = centred * centred
    m2 = square.mean(1).double()
    m3, m4 = (centred * square).mean(1).double(), (square * square).mean(1).double()
    return m2.sqrt(), m3 / m2**1.5, m4 / m2**2 - 3


def counted(scores: Tensor, bins: int) -> Tensor:
    """How many scores of each row [n, m] fall into each of ``bins`` bins of equal width between its lowest and its highest one [n, bins].

    A bin holds its lower edge, the last one both; the counts of a row add up to m. A row whose scores are all equal has them in bin 0.
    """
    import torch

    low, high = scores.aminmax(dim=1, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    found = (scores - low).mul_(bins / width).int().clamp_(max=bins - 1)
    found += torch.arange(0, len(scores) * bins, bins, dtype=torch.int32, device=scores.device)[:, None]
    return torch.bincount(found.flatten(), minlength=len(scores) * bins).reshape(len(scores), bins)
