"""A model whose heads look where they are told to, whatever the tokens are; and one that finds repeated tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

N = 128
HEADS = ("previous", "sink", "local", "uniform", "blocks", "current", "middle sink")
FAR = -30.0
"""Logit of a key that a head does not look at: next to nothing, but a valid key."""
WIDTH, BLOCK, MIDDLE = 8, 32, 40


def plan(n: int) -> torch.Tensor:
    """[heads, n, n] logits, before the causal mask."""
    row, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    looks = {
        "previous": key == row - 1,
        "sink": (key == 0) & (row >= 0),
        "local": (key <= row) & (key > row - WIDTH),
        "uniform": (key <= row) & (row >= 0),
        "blocks": (row // BLOCK == key // BLOCK) & (key <= row),
        "current": key == row,
        "middle sink": torch.where(row >= MIDDLE, key == MIDDLE, key == row),
    }
    return torch.stack([torch.where(looks[h], 0.0, FAR) for h in HEADS])


class Layer(nn.Module):
    """Attention by plan; values are the tokens' embeddings, split over the heads."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(3))

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """[1 or batch, heads, n, n]."""
        return plan(ids.shape[1])[None]

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        n = x.shape[1]
        q, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.v))
        mask = self.logits(ids).masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), float("-inf"))
        return self.o(F.scaled_dot_product_attention(torch.zeros_like(q), q, v, attn_mask=mask).transpose(1, 2).flatten(2))


class Matching(Layer):
    """Two heads that compare tokens: an induction head, a duplicate-token head; both look at key 0 where nothing matches."""

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        same = (ids[:, :, None] == ids[:, None, :]).tril(-1)
        after = F.pad(same, (1, 0))[:, :, :-1]
        found = torch.stack([after, same], 1).float() * -FAR
        found[..., 0] += -FAR / 2
        return found


class Planted(nn.Module):
    """Token ids through one layer of planned heads."""

    def __init__(self, kind: type[Layer] = Layer, heads: int = len(HEADS)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(200, heads * 4)
        self.blocks = nn.ModuleList([kind(heads, heads * 4)])
        self.head = nn.Linear(heads * 4, 200)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = x + block(x, input_ids)
        return self.head(x)
