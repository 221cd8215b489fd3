"""Merge the tokens that are most alike (ToMe): each goes on as part of the mean of its group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.tokens import papers
from analysis.interventions.tokens.base import TokenMethod, mean_keys
from analysis.spec import Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.tokens.state import Tokens


@dataclass(frozen=True)
class Merging(TokenMethod):
    """Every second token looks for the most alike of the others; the closest pairs are averaged, weighed by what they stand for."""

    slug: ClassVar[str] = "token-merging"
    title: ClassVar[str] = "Token merging (ToMe)"
    sources: ClassVar[tuple[Source, ...]] = (papers.TOME,)
    notes: ClassVar[tuple[str, ...]] = (
        "A merged token goes on with the mean of its group, also as its output: losses at each token are asked of it.",
        "Tokens are merged behind the FFN instead of before it, and where more than half must go in one block, in several rounds; one "
        "token beside the first always stays.",
    )

    def reduce(self, tokens: Tokens, rows: Tensor, n: int) -> Tensor:
        """n tokens fewer, as far as there are two to merge."""
        import torch

        keys = mean_keys(self.slug, tokens)
        alike = torch.zeros(tokens.n, keys.shape[-1], device=rows.device)
        alike[tokens.left] = keys
        while n > 0 and tokens.n_alive > 2:  # noqa: PLR2004 - the first token and one more
            left = tokens.left[1:]
            targets, sources = left[0::2], left[1::2]
            tokens.products += len(targets) * len(sources)
            pairs = closest(alike[sources], alike[targets], n)
            n -= len(pairs)
            rows = tokens.merge(rows, sources[pairs[:, 0]], targets[pairs[:, 1]])
        return rows


def closest(sources: Tensor, targets: Tensor, n: int) -> Tensor:
    """int64 [min(n, sources), 2]: (source, its most alike target) of the sources that are most like theirs; by cosine of the rows.

    sources [a, d], targets [b, d]. Of equal ones the earliest. (1, 0) and (0, 1) against (1, 1), (0, 2): (1, 1) comes first, then (0, 0).
    """
    import torch
    from torch.nn.functional import normalize

    best = (normalize(sources, dim=-1) @ normalize(targets, dim=-1).T).max(-1)
    order = best.values.argsort(descending=True, stable=True)[:n]
    return torch.stack([order, best.indices[order]], -1)
