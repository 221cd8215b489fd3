"""One example on its way through the blocks: which of its tokens are still there, and which one each of the others went into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Tokens:
    """The real tokens of one example, n of them; index 0 is its first real token, which never goes."""

    at: Tensor
    """int64 [n]: where they are among the stream's positions."""
    number: int
    """Which example it is, counted since the level was set."""
    alive: Tensor = field(init=False)
    """bool [n]."""
    size: Tensor = field(init=False)
    """float32 [n]: how many tokens each one stands for."""
    into: Tensor = field(init=False)
    """int64 [n]: the token that each was merged into; itself where it was not."""
    weights: Tensor | None = None
    """[heads, alive, alive]: the attention of the block that runs, among the tokens still there; rows sum to 1."""
    key: Tensor | None = None
    """[groups, alive, d]: its keys; None where they could not be seen."""
    depth: float = 0.0
    """Of the block that runs, among those after which tokens go: 0 to below 1."""
    products: float = 0.0
    """Query-key products' worth of work that choosing took, summed over heads, since it was last asked."""

    def __post_init__(self) -> None:
        n, device = len(self.at), self.at.device
        self.alive = torch.ones(n, dtype=torch.bool, device=device)
        self.size = torch.ones(n, device=device)
        self.into = torch.arange(n, device=device)

    @property
    def n(self) -> int:
        """Real tokens."""
        return len(self.at)

    @property
    def n_alive(self) -> int:
        """Those still there."""
        return int(self.alive.sum())

    @property
    def left(self) -> Tensor:
        """int64 [alive]: indices of those still there, the first token among them."""
        return self.alive.nonzero()[:, 0]

    @property
    def key_width(self) -> int:
        """Multiply-adds of one query-key product; 1 where keys could not be seen, which overstates what work is told in products."""
        return 1 if self.key is None else self.key.shape[-1]

    def remove(self, gone: Tensor) -> None:
        """Take tokens away: indices int64 [m]."""
        self.alive[gone] = False

    def merge(self, rows: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        """``rows`` [n, width] after each source [m] was averaged into its target [m], weighed by how many tokens each stands for.

        Sources are gone, and they and all that went into them go on with the target's row.
        """
        summed = (rows.float() * self.size[:, None]).index_add(0, targets, rows[sources].float() * self.size[sources, None])
        self.size = self.size.index_add(0, targets, self.size[sources])
        mean = (summed / self.size[:, None]).to(rows.dtype)
        changed = rows.clone()
        changed[targets] = mean[targets]
        self.remove(sources)
        moved = torch.arange(self.n, device=sources.device)
        moved[sources] = targets
        self.into = moved[self.into]
        return changed[self.into]
