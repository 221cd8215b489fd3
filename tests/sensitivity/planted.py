"""Models trained here in a second whose blocks' worth is planted: one essential, one useless, one small."""

from __future__ import annotations

import functools

import torch
from torch import nn

from analysis.models import GivenBatches, subject_from
from tests.sensitivity_run import all_digits, learn

ESSENTIAL, USELESS, SMALL = 0, 1, 2


class Block(nn.Module):
    """Up, ReLU, down; beside the stream, or in place of it."""

    def __init__(self, width: int, inner: int, residual: bool) -> None:
        super().__init__()
        self.up, self.down, self.residual = nn.Linear(width, inner), nn.Linear(inner, width), residual

    def forward(self, x):
        made = self.down(torch.relu(self.up(x)))
        return x + made if self.residual else made


class Planted(nn.Module):
    """Block 0 is the only way through; block 1 gives zeros; block 2 adds a little."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(64, 24)
        self.blocks = nn.ModuleList([Block(24, 32, False), Block(24, 32, True), Block(24, 32, True)])
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@functools.cache
def _trained():
    x, y = all_digits()
    model = Planted()
    for block in (model.blocks[USELESS],):
        for p in block.down.parameters():
            p.data.zero_()
            p.requires_grad_(False)
    with torch.no_grad():
        model.blocks[SMALL].down.weight.mul_(0.1)
    return learn(model, x, y, 150).state_dict(), x, y.numpy()


def planted(n: int = 800):
    """As a subject: the same weights each time."""
    state, x, y = _trained()
    model = Planted()
    model.load_state_dict(state)
    return subject_from(model, data=GivenBatches(list(x[:n].split(50)), labels=y[:n]))
