"""Small sealed runs of `sparsity_plane` on a tiny LLaMA, for tests of pages: of weights and of what is not, a point, a pair."""

from __future__ import annotations

import functools

import numpy as np
import torch

from analysis.models import TextWindows, subject_from
from analysis.sensitivity.plane import SPARSITY_PLANE, SparsityPlaneConfig
from store import RunInfo, Store
from tests import zoo
from tests.once import run_once

NAMES = "magnitude, magnitude-2-of-4, wanda, ffn-topk, sink-window, magnitude + ffn-topk@0.6"
V, LENGTH = 57, 16


def make_plane(store: Store, progress=None, name: str = "tiny", subject=None, **settings) -> RunInfo:
    """Three seconds: six interventions at two levels."""
    chosen = {"interventions": NAMES, "levels": "0.3, 0.6", "eps": "0.01, 0.1", "contexts": "64", **settings}
    return run_once(SPARSITY_PLANE, {"model": subject or learnt(name)}, SparsityPlaneConfig(**chosen), store, progress=progress)


def learnt(name: str = "tiny"):
    """A LLaMA that has learnt to count on in steps, 40 documents of one window: what is taken away hurts it."""
    model = zoo.llama()[0]
    model.load_state_dict(_weights())
    return subject_from(model, name=name, data=TextWindows.from_ids(_text(40, 1), document=np.arange(40)))


def _text(n: int, seed: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    step, first = (torch.randint(1, top, (n, 1), generator=chance) for top in (7, 54))
    return 3 + (first + step * torch.arange(LENGTH)) % V


@functools.cache
def _weights():
    model = zoo.llama()[0].train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for seed in range(60):
        x = _text(64, seed + 10)
        optimizer.zero_grad()
        model(input_ids=x, labels=x).loss.backward()
        optimizer.step()
    return model.state_dict()
