"""How alike the heads of one layer are: in where they look and in what they give; and a tree of them.

Means over the rows of a window; pairs of a head with itself are on the diagonal, and layer means include them, as the code that is
followed does. Source: METHODS C16.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

PIECE = 2**22
"""Numbers of a comparison held at a time."""


def agreement(weights: Tensor) -> Tensor:
    """[heads, heads]: mean over rows of the inner product of two heads' weights, 0 to 1. Heads I and 1/2 on two keys: layer mean .625."""
    flat = weights.flatten(1).double()
    return flat @ flat.T / weights.shape[1]


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) = sum p ln(p / q) in nats over the last axis; terms with p = 0 are 0, q is taken as e^-40 at least, as the code does.
    A row of I against the uniform one of two keys: ln 2."""
    import torch

    return torch.where(p > 0, p * (p.clamp(min=1e-300).log() - q.clamp(min=math.exp(-40)).log()), 0.0).sum(-1)


def jensen_shannon(weights: Tensor) -> Tensor:
    """[heads, heads]: mean over rows of the Jensen-Shannon divergence of two heads' rows, 0 to ln 2. Heads I and 1/2: .215762.

    By entropies: H((p + q) / 2) - (H(p) + H(q)) / 2; rounding below 0 is 0.
    """
    import torch

    own = torch.special.entr(weights).sum(-1, dtype=torch.float64).mean(1)
    found = torch.zeros(len(weights), len(weights), dtype=torch.float64, device=weights.device)
    for h in range(len(weights)):
        step = max(1, PIECE // weights[0].numel())
        for g in range(h + 1, len(weights), step):
            mixed = (weights[h] + weights[g : g + step]) / 2
            both = torch.special.entr(mixed).sum(-1, dtype=torch.float64).mean(1)
            found[h, g : g + step] = both - (own[h] + own[g : g + step]) / 2
    return (found + found.T).clamp(0, math.log(2))


def output_cosine(outputs: Tensor) -> Tensor:
    """[heads, heads]: mean over rows of the cosine of two heads' outputs [heads, rows, d], -1 to 1; a row of zeros counts as 0."""
    import torch.nn.functional as F

    units = F.normalize(outputs.double(), dim=-1).flatten(1)
    return (units @ units.T / outputs.shape[1]).clamp(-1, 1)


def linear_cka(outputs: Tensor) -> Tensor:
    """[heads, heads]: |Z_h^T Z_g|_F^2 / (|Z_h^T Z_h|_F |Z_g^T Z_g|_F) of outputs [heads, rows, d] with columns centred over rows, 0 to 1;
    0 where a head gives the same everywhere. Unchanged by rotations and scale of a head's outputs. Source: Kornblith et al. 2019."""
    import torch

    centred = outputs.double() - outputs.double().mean(1, keepdim=True)
    heads, rows, width = centred.shape
    found = torch.zeros(heads, heads, dtype=torch.float64, device=outputs.device)
    side = centred.transpose(0, 1).reshape(rows, heads * width)
    for h in range(heads):
        crossed = centred[h].T @ side
        found[h] = (crossed**2).reshape(width, heads, width).sum((0, 2))
    sizes = found.diagonal().sqrt()
    scale = sizes[:, None] * sizes[None, :]
    return torch.where(scale > 1e-12 * sizes.max() ** 2, found / scale.clamp(min=1e-300), 0.0).clamp(0, 1)


def pooled(weights: Tensor, size: int) -> Tensor:
    """[heads, size, size] (fewer where the window is shorter): the pattern by equal parts of queries and keys, rows summing to 1: mass
    summed over the keys of a part, mean over the queries of one that see a key (0 where none does). What patterns of all layers are
    compared by."""
    import torch

    n = weights.shape[-1]
    size = min(size, n)
    part = torch.arange(n, device=weights.device) * size // n
    ones = torch.zeros(n, size, dtype=weights.dtype, device=weights.device).scatter_(1, part[:, None], 1.0)
    seeing = ones * weights.sum(2).any(0)[:, None]
    return (seeing / seeing.sum(0).clamp(min=1)).T @ weights @ ones


def overlap(pooled_one: Tensor, pooled_other: Tensor) -> Tensor:
    """[heads, other heads]: mean over rows of sum_c sqrt(p_c q_c) (Bhattacharyya), 0 for patterns apart, 1 for equal ones. Rows that are
    empty in either are left out."""
    one, other = (x.clamp(min=0).sqrt().flatten(1) for x in (pooled_one, pooled_other))
    rows, others = ((x.sum(2) > 0).to(x.dtype) for x in (pooled_one, pooled_other))
    return (one @ other.T / (rows @ others.T).clamp(min=1)).clamp(0, 1)


def distance(divergences: NDArray[np.float64]) -> NDArray[np.float64]:
    """sqrt(JS / ln 2): a metric, 0 for heads that look at the same keys, 1 for heads that share none."""
    import numpy as np

    return np.sqrt(np.clip(divergences / math.log(2), 0, 1))


def tree(distances: NDArray[np.float64], near: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Average linkage of [heads, heads] distances: merges [heads - 1, 4] (the two joined, numbers from ``heads`` on being earlier
    merges; their mean distance; heads inside), the place of each head's leaf, so that no branches cross, and each head's cluster: heads
    joined at ``near`` or less. One head: no merge."""
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    heads = len(distances)
    if heads < 2:
        return np.zeros((0, 4)), np.zeros(heads, np.int64), np.zeros(heads, np.int64)
    even = (distances + distances.T) / 2
    np.fill_diagonal(even, 0.0)
    merges = linkage(squareform(even, checks=False), "average")
    places = np.empty(heads, np.int64)
    places[leaves_list(merges)] = np.arange(heads)
    found = fcluster(merges, near, "distance")
    first = {c: int(np.flatnonzero(found == c)[0]) for c in np.unique(found)}
    order = {c: i for i, c in enumerate(sorted(first, key=lambda c: first[c]))}
    return merges, places, np.array([order[c] for c in found], np.int64)
