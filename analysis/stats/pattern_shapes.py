"""What a head's pattern looks like, in a word: our own label beside MInference's classes, which tie on simple heads.

Shares of attention on the simplest patterns, mean over `pattern_masks.counted_rows`; then rules in a fixed order, the most particular
first. All of it is our own; the thresholds are settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.stats.pattern_masks import a_shape, best, counted_rows, diagonal_sums, offsets

if TYPE_CHECKING:
    from torch import Tensor

SHAPES = (
    "current token", "previous token", "next token", "sink", "uniform", "block-diagonal", "local", "sink and local", "vertical-slash",
    "mixed",
)  # fmt: skip
STATS = ("current", "previous", "next", "sink", "evenness", "block", "block_gain", "local", "sink_local")
SINKS = 4
"""Columns that may make a sink, at most; a sixteenth of the window where that is fewer (one at least)."""
BLOCKS = (8, 16, 32, 64)
"""Widths tried for block-diagonal patterns, up to half the window."""
NEARLY = 0.95
"""Where a head with the same distances would stay within its blocks this often anyway, staying tells nothing."""


def shape_stats(weights: Tensor, valid: Tensor, keys: int, causal: bool) -> Tensor:
    """[heads, `STATS`], 0 to 1 (block_gain may be less than 0): mean attention on the own, previous and next token; on the few columns
    that have most; entropy / ln(valid keys); on the own block and its gain (`block_gain`); on the ``keys`` nearest keys; on those and
    those columns. weights [heads, n, n], valid bool [n, n]. n = 1: all on the own token, evenness 0."""
    import torch

    n = weights.shape[-1]
    rows = counted_rows(valid, causal)
    part, seen = weights[:, rows], valid[rows]
    along = diagonal_sums(torch.zeros_like(weights).index_copy_(1, rows, part)) / len(rows)
    own = [along[:, n - 1 + d] if 0 <= n - 1 + d < 2 * n - 1 else along.new_zeros(len(along)) for d in (0, 1, -1)]
    columns = part.mean(1)
    sinks = best(columns, max(1, min(SINKS, n // 16)))
    near = a_shape(n, 0, max(1, keys), causal).to(weights.device)[rows]
    log_n = seen.sum(1).clamp(min=2).double().log().to(part.dtype)
    even = (torch.special.entr(part).sum(-1) / log_n).mean(1)
    block, gain = block_gain(weights, along, rows)
    parts = [
        *own, columns.where(sinks, 0.0).sum(1), even, block, gain, part.where(near, 0.0).sum(2).mean(1),
        part.where(near | sinks[:, None], 0.0).sum(2).mean(1),
    ]  # fmt: skip
    return torch.stack(parts, 1)


def block_gain(weights: Tensor, along: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Attention inside a query's own block, and how far that is beyond a head with the same distances and no blocks: [heads] each.

    gain = (own - expected) / (1 - expected), expected = mean over rows of what ``along`` [heads, 2 n - 1], the mean attention by
    distance, would put inside: 1 where no border is ever crossed, 0 where borders do not matter, however local the head is; 0 too
    where expected is above `NEARLY`. Of the widths in `BLOCKS` the one with the largest gain, the narrower of equal ones.
    """
    import torch

    heads, n, _ = weights.shape
    places, numbers = torch.arange(n, device=weights.device), offsets(n).to(weights.device)[rows]
    share, gain = weights.new_zeros(heads), weights.new_full((heads,), -1.0)
    for width in (w for w in BLOCKS if w <= n // 2):
        same = (places[rows][:, None] // width) == (places[None, :] // width)
        own = weights[:, rows].where(same, 0.0).sum(2).mean(1)
        expected = along[:, numbers].where(same, 0.0).sum(2).mean(1)
        here = torch.where(expected > NEARLY, 0.0, (own - expected) / (1 - expected).clamp(min=1e-6))
        larger = here > gain + 1e-3
        share, gain = torch.where(larger, own, share), torch.where(larger, here, gain)
    return share, gain.clamp(min=-1, max=1)


def shape_of(stats: Mapping[str, float], lines: float, share: float, even: float, gain: float) -> str:
    """The word for a head: the first of `SHAPES` whose rule holds.

    At least ``share`` of the attention on: the own token; the one before; the one after; the sinks. Evenness at least ``even``:
    uniform. Own block at least ``share`` with a gain of ``gain``: block-diagonal. At least ``share`` on the nearest keys: local; on
    those and the sinks; on ``lines``, the best columns and diagonals of MInference's search. Else mixed.
    """
    rules = {
        "current token": stats["current"] >= share,
        "previous token": stats["previous"] >= share,
        "next token": stats["next"] >= share,
        "sink": stats["sink"] >= share,
        "uniform": stats["evenness"] >= even,
        "block-diagonal": stats["block"] >= share and stats["block_gain"] >= gain,
        "local": stats["local"] >= share,
        "sink and local": stats["sink_local"] >= share,
        "vertical-slash": lines >= share,
        "mixed": True,
    }
    if any(math.isnan(value) for value in stats.values()):
        raise ValueError(f"the shares of a pattern must be numbers, got {dict(stats)}; leave fully masked rows out.")
    return next(name for name in SHAPES if rules[name])
