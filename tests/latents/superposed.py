"""A model that is known through and through: what flows in it are sparse sums of more features than it has dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Superposed(nn.Module):
    """Each token id stands for a few of G unit features in d dimensions; a matrix reads their sum."""

    def __init__(self, features: int = 48, width: int = 24, tokens: int = 6000, active: float = 2.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        made = torch.Generator().manual_seed(seed)
        directions = nn.functional.normalize(torch.randn(features, width, generator=made), dim=1)
        on = torch.rand(tokens, features, generator=made) < active / features
        codes = on * (0.5 + torch.rand(tokens, features, generator=made))
        self.register_buffer("ground_truth_features", directions)
        self.register_buffer("values", codes @ directions)
        self.head = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """Two numbers per token."""
        return self.head(self.values[ids])


def ids(windows: int = 300, window: int = 20, tokens: int = 6000, seed: int = 1) -> Tensor:
    """Token ids [windows, window], any token anywhere."""
    return torch.randint(0, tokens, (windows, window), generator=torch.Generator().manual_seed(seed))
