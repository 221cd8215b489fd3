"""A pattern for each head: sinks and a window, columns and diagonals, or blocks, whichever holds most on calibration (METHODS C2).

1. Per level: on calibration windows, what each of the candidates keeps of each head's attention over the later rows; the best class,
   the simplest of equal ones, and its best candidate.
2. As the model runs, columns and diagonals are chosen anew for every stretch of queries, by the last queries before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.attention import papers
from analysis.interventions.attention.base import AttentionIntervention, HeldAttention, PlaceKey
from analysis.interventions.attention.blocks import BLOCK, Blocks
from analysis.interventions.attention.looking import look
from analysis.interventions.attention.pattern import Pattern
from analysis.interventions.attention.tally import Kept
from analysis.spec import Source
from analysis.stats.attention_policies import kept_mass
from analysis.stats.pattern_masks import (
    CLASSES,
    COLUMN_SHARES,
    FIRST_SHARE,
    a_shape,
    best,
    chosen_class,
    diagonal_sums,
    later_rows,
    lines_mask,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

STRETCH, TELLING = 64, 4
"""Queries that share columns and diagonals, at most (an eighth of the window where that is fewer); one of so many of them tells."""
EXAMPLES = 4
LINES = range(1, 1 + len(COLUMN_SHARES))
"""Candidates, by number: the A-shape, vertical-slash by its shares, blocks."""
BLOCKY = 1 + len(COLUMN_SHARES)


@dataclass(frozen=True)
class HeadPatterns(AttentionIntervention):
    """K keys per query, laid out as each head has them."""

    block: int = BLOCK
    slug: ClassVar[str] = "minference"
    title: ClassVar[str] = "A pattern per head (MInference)"
    sources: ClassVar[tuple[Source, ...]] = (papers.MINFERENCE,)
    whole_only: ClassVar[bool] = True
    nested: ClassVar[bool] = False  # a head may have another pattern
    notes: ClassVar[tuple[str, ...]] = (
        "In causal attention columns and diagonals are chosen by queries before those they serve, where the published method chooses by "
        "the last queries of the prompt; candidates are its own, scaled to the budget.",
    )

    def prepare(self, held: HeldAttention, level: float) -> dict[PlaceKey, Any]:
        """Candidate of each head [heads] by place."""
        import torch

        if level not in held.memory:
            found: dict[PlaceKey, list[Tensor]] = {}

            def told(place: PlaceKey, pattern: Pattern) -> None:
                pattern.level = level
                found.setdefault(place, []).append(self._recalls(pattern))

            look(held, told, EXAMPLES)
            held.memory[level] = {place: winners(torch.stack(recalls).mean(0)) for place, recalls in found.items()}
        return held.memory[level]

    def keep(self, pattern: Pattern) -> Kept:
        """Products: of the telling queries for heads with lines, of pooled tiles for heads with blocks."""
        import torch

        chosen = pattern.prepared.to(pattern.logits.device)
        mask = torch.zeros_like(pattern.allowed)
        products = key_share = 0.0
        for number in chosen.unique().tolist():
            found, cost, keys = self._candidate(pattern, number)
            here = chosen == number
            mask |= found & here[:, None, None]
            products += cost * int(here.sum())
            key_share += keys * float(here.float().mean())
        return Kept(mask, products, key_share)

    def _recalls(self, pattern: Pattern) -> Tensor:
        """[heads, candidates]: mean attention kept over the later rows."""
        import torch

        rows = later_rows(pattern.n, pattern.causal)
        found = (self._candidate(pattern, number)[0] for number in range(BLOCKY + 1))
        return torch.stack([kept_mass(pattern.weights, mask & pattern.allowed, rows) for mask in found], 1)

    def _candidate(self, pattern: Pattern, number: int) -> tuple[Tensor, float, float]:
        """Mask [heads or 1, n, n], products for each head and share of key and value bytes that finding it takes."""
        if number == BLOCKY:
            kept = Blocks(block=self.block).keep(pattern)
            return kept.mask, kept.products / pattern.heads, kept.key_share
        if number in LINES:
            pairs = float(pattern.allowed.sum()) / pattern.heads
            share = 1 / TELLING if pattern.causal else 1.0
            return lines(pattern, COLUMN_SHARES[number - 1]), pairs * share, 0.5 * share
        first = min(max(1, round(pattern.keys * FIRST_SHARE)), pattern.keys - 1)
        return a_shape(pattern.n, first, pattern.keys - first, pattern.causal)[None].to(pattern.logits.device), 0.0, 0.0


def winners(recalls: Tensor) -> Tensor:
    """int64 [heads]: the best candidate of the best class (`chosen_class`) of recalls [heads, candidates]."""
    import torch

    by_class = torch.stack([recalls[:, 0], recalls[:, 1:BLOCKY].amax(1), recalls[:, BLOCKY]], 1).tolist()
    line = 1 + recalls[:, 1:BLOCKY].argmax(1)
    number = {CLASSES[0]: torch.zeros_like(line), CLASSES[1]: line, CLASSES[2]: torch.full_like(line, BLOCKY)}
    return torch.stack([number[chosen_class(row)][head] for head, row in enumerate(by_class)])


def lines(pattern: Pattern, share: float) -> Tensor:
    """bool [heads, n, n]: K keys as columns (``share`` of them) and diagonals; the first column and the own key stay where there is room.

    Causal: stretches of queries, each by the last queries before it; the first stretch has sinks and a window of K. Else by all queries.
    """
    import torch

    n, keys, weights = pattern.n, pattern.keys, pattern.weights
    vertical = min(max(1, round(keys * share)), keys - 1)
    if not pattern.causal:
        return lines_mask(best(weights.sum(1), vertical), best(diagonal_sums(weights), keys - vertical))
    stretch = min(STRETCH, max(1, n // 8))
    mask = a_shape(n, min(1, vertical), keys - min(1, vertical)).to(weights.device).expand_as(weights).clone()
    for start in range(stretch, n, stretch):
        telling = weights[:, start - max(1, stretch // TELLING) : start]
        columns, behind = telling.sum(1), along(telling, start)
        columns[:, 0] = behind[:, 0] = torch.inf
        rows = torch.arange(start, min(n, start + stretch), device=weights.device)
        apart = rows[:, None] - torch.arange(n, device=weights.device)
        mask[:, rows] = best(columns, vertical)[:, None] | best(behind, keys - vertical)[:, apart.clamp(min=0)] & (apart >= 0)
    return mask


def along(telling: Tensor, stop: int) -> Tensor:
    """[heads, n]: sum of the weights by how far the key lies behind; ``telling`` [heads, rows, n] are the rows before ``stop``."""
    import torch

    heads, rows, n = telling.shape
    apart = torch.arange(stop - rows, stop, device=telling.device)[:, None] - torch.arange(n, device=telling.device)
    return telling.new_zeros(heads, n).index_add_(1, apart.clamp(min=0).flatten(), telling.masked_fill(apart < 0, 0.0).flatten(1))
