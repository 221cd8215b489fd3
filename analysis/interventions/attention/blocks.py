"""Blocks: each tile of queries keeps a few tiles of keys, chosen by the mean logit of the tile (METHODS C2, C5, C6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention
from analysis.interventions.attention.tally import Kept
from analysis.spec import Source
from analysis.stats.pattern_masks import best, block_means

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.attention.pattern import Pattern

BLOCK = 16


def tiles_kept(scores: Tensor, tiles: int, causal: bool, seen: Tensor | None = None) -> Tensor:
    """bool [heads, T, T]: the ``tiles`` key tiles that each tile of queries keeps: its own, the first where there is room, and of the
    rest those with the largest score [heads, T, T]; of tiles that may be ``seen`` bool [T, T] (None: all) as long as there are any.

    Causal: a tile of queries goes by the scores of the tile before it, since its own hold queries later than some it serves. T4, tiles
    of 2, one kept: .8 of the attention.
    """
    import torch

    n = scores.shape[-1]
    ranked = torch.cat([scores[:, :1], scores[:, :-1]], 1) if causal else scores.clone()
    ranked = ranked.masked_fill(torch.isneginf(ranked), -1e30)
    ranked[:, :, 0] = 1e31
    ranked[:, torch.arange(n), torch.arange(n)] = 1e32
    if causal:
        ranked = ranked.masked_fill(torch.ones(n, n, dtype=torch.bool, device=scores.device).triu(1), -math.inf)
    if seen is not None:
        ranked = ranked.masked_fill(~seen, -math.inf)
    return best(ranked, tiles)


def spread(tiles: Tensor, block: int, n: int) -> Tensor:
    """bool [.., n, n] of tiles [.., T, T]; the last tile may be narrower."""
    return tiles.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :n, :n]


@dataclass(frozen=True)
class Blocks(AttentionIntervention):
    """The same number of tiles for every tile of queries and every head."""

    block: int = BLOCK
    slug: ClassVar[str] = "attention-blocks"
    title: ClassVar[str] = "Attention blocks"
    sources: ClassVar[tuple[Source, ...]] = (papers.MINFERENCE, papers.SEER)
    notes: ClassVar[tuple[str, ...]] = (
        "In causal attention a tile of queries chooses by the tile before it, where published kernels pool its own queries and so look "
        "ahead; the own and the first tile always stay.",
    )

    def keep(self, pattern: Pattern) -> Kept:
        """Pooled queries and keys are multiplied, a product for each pair of tiles; a pooled key is read for each tile."""
        block = block_of(pattern.n, self.block)
        pairs = tile_pairs(pattern.shared, block)
        means = block_means(pattern.logits, pattern.shared, block)
        kept = spread(tiles_kept(means, tiles_at(pattern.level, pairs), pattern.causal, pairs > 0), block, pattern.n)
        return Kept(kept, float((pairs > 0).sum()) * pattern.heads, 0.5 / block)


def block_of(n: int, block: int) -> int:
    """Width of tiles: ``block``, or so little that there are 8 of them."""
    return min(block, max(1, n // 8))


def tile_pairs(shared: Tensor, block: int) -> Tensor:
    """float [T, T]: pairs in each tile that may be seen, of pairs bool [n, n]."""
    import torch.nn.functional as F

    spare = -shared.shape[-1] % block
    return F.pad(shared.float(), (0, spare, 0, spare)).unflatten(0, (-1, block)).unflatten(-1, (-1, block)).sum((1, 3))


def tiles_at(level: float, pairs: Tensor) -> int:
    """The fewest tiles in a row of tiles, at least 1, that leave at least 1 - level of the ``pairs`` [T, T]: the own, then full ones."""
    import torch

    own = pairs.diagonal()[:, None]
    rest = (pairs - torch.diag(own[:, 0])).sort(dim=-1, descending=True).values[:, : len(pairs) - 1]
    stay = torch.cat([own, rest], 1).cumsum(1).sum(0)
    return int((stay >= (1 - level - 1e-6) * pairs.sum()).long().argmax()) + 1
