"""A module that holds named tensors and does nothing."""

from __future__ import annotations

import torch
from torch import nn


class Holder(nn.Module):
    """Named tensors, nothing to run."""

    def __init__(self, **tensors):
        super().__init__()
        for name, values in tensors.items():
            setattr(self, name, nn.Parameter(torch.as_tensor(values), requires_grad=False))
