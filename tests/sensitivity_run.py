"""Real sealed runs of `essential_sparsity` on tiny models whose curves are known: learned, flat, exploding. For tests of pages.

`make_digits(store)` measures a classifier trained here in a second, `make_flat(store)` one that ignores its matrices, `make_loud(store)`
one whose perplexity passes 1e10 and whose loss is no number at the end.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from store import RunInfo, Store

V = 20


def sealed(store: Store, subject, progress=None, **settings) -> RunInfo:
    """A run with these settings, in a second or two."""
    config = EssentialSparsityConfig(**{"kl_positions": 16, **settings})
    return run(ESSENTIAL_SPARSITY, {"model": subject}, config, store, progress=progress)


def stop_after(units: int):
    """A progress callback that kills a run once it has finished so many units."""

    def stop(progress):
        if progress.what != "starting" and progress.done > units:
            raise KeyboardInterrupt

    return stop


def make_digits(store: Store, name: str = "digits", seed: int = 0, **settings) -> RunInfo:
    """A classifier of digits with more weights than it needs."""
    state, x, y = _trained(seed)
    model = _classifier(seed)
    model.load_state_dict(state)
    data = GivenBatches(list(x[:800].split(100)), labels=y[:800])
    return sealed(store, subject_from(model, name=name, data=data), **{"eps": "0.05, 0.2, 0.5", **settings})


def _classifier(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


@functools.cache
def _trained(seed: int):
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.from_numpy(digits.data.astype(np.float32) / 16), torch.from_numpy(digits.target)
    model = _classifier(seed)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict(), x, y.numpy()


def make_matrices(store: Store, progress=None, **settings) -> RunInfo:
    """Every matrix of that classifier pruned alone."""
    state, x, y = _trained(0)
    model = _classifier(0)
    model.load_state_dict(state)
    subject = subject_from(model, name="digits", data=GivenBatches(list(x[:800].split(100)), labels=y[:800]))
    chosen = {"levels": "0.3, 0.6, 0.9", "refine": 0, "proxies": "output", "eps": "0.2", **settings}
    return run(MATRIX_SENSITIVITY, {"model": subject}, MatrixSensitivityConfig(**chosen), store, progress=progress)


class Ignores(nn.Module):
    """Gives logits that its matrices have no part in: nothing can be noticed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.logits = nn.Parameter(torch.linspace(-1, 1, V))

    def forward(self, input_ids):
        hidden = input_ids[..., None].float() * torch.ones(8)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.logits.expand(*input_ids.shape, -1) + 0 * hidden.sum()


class Loud(nn.Module):
    """Says the next token. Its right answers (25) go first, then what holds its wrong ones back (-50 against 60), then those: 0 / 0."""

    def __init__(self) -> None:
        super().__init__()
        noise = torch.randn(2, V, V, generator=torch.Generator().manual_seed(0)) * 0.01
        self.layers = nn.ModuleList([nn.Linear(V, V, bias=False) for _ in range(2)])
        right, wrong = torch.eye(V).roll(1, 0), torch.eye(V).roll(6, 0)
        with torch.no_grad():
            self.layers[0].weight.copy_(noise[0] + 60 * wrong)
            self.layers[1].weight.copy_(noise[1] + 25 * right - 50 * wrong)

    def forward(self, input_ids):
        hidden = nn.functional.one_hot(input_ids, V).float()
        said = sum(layer(hidden) for layer in self.layers)
        return said * (60 / self.layers[0].weight.abs().max())


def _windows(n: int = 80, length: int = 9) -> TextWindows:
    first = torch.randint(0, V, (n, 1), generator=torch.Generator().manual_seed(0))
    return TextWindows.from_ids((first + torch.arange(length)) % V, document=np.arange(n) // 2)


def make_flat(store: Store, **settings) -> RunInfo:
    """A curve that never leaves its tolerance."""
    return sealed(store, subject_from(Ignores(), name="ignores", data=_windows()), task="causal-lm", **settings)


def make_loud(store: Store, **settings) -> RunInfo:
    """Loss 60 nats at 97 % (perplexity 1e26), no number at 100 %."""
    chosen = {"task": "causal-lm", "levels": "0.3, 0.6, 0.9, 0.95, 0.97, 1", **settings}
    return sealed(store, subject_from(Loud(), name="loud", data=_windows()), **chosen)
