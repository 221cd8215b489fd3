"""Real sealed runs of `essential_sparsity` on tiny models whose curves are known: learned, flat, exploding. For tests of pages.

`make_digits(store)` measures a classifier trained here in a second, `make_flat(store)` one that ignores its matrices, `make_loud(store)`
one whose perplexity passes 1e10 and whose loss is no number at the end.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from analysis.given_run import given_run
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.sensitivity.allocation import ALLOCATION, AllocationConfig
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from store import RunInfo, Store
from tests.once import run_once

V = 20


def sealed(store: Store, subject, progress=None, **settings) -> RunInfo:
    """A run with these settings, in a second or two."""
    config = EssentialSparsityConfig(**{"kl_positions": 16, **settings})
    return run_once(ESSENTIAL_SPARSITY, {"model": subject}, config, store, progress=progress)


def stop_after(units: int):
    """A progress callback that kills a run once it has finished so many units."""

    def stop(progress):
        if progress.what != "starting" and progress.done > units:
            raise KeyboardInterrupt

    return stop


def make_digits(store: Store, name: str = "digits", seed: int = 0, **settings) -> RunInfo:
    """A classifier of digits with more weights than it needs."""
    return sealed(store, digits(name=name, seed=seed), **{"eps": "0.05, 0.2, 0.5", **settings})


def digits(n: int = 800, batch: int = 100, name: str = "digits", seed: int = 0):
    """The classifier as a subject: the same weights each time."""
    state, x, y = trained_digits(seed)
    data = GivenBatches(list(x[:n].split(batch)), labels=y[:n])
    return subject_from(digits_classifier(state), name=name, data=data)


def digits_classifier(state=None, seed: int = 0) -> nn.Module:
    """Untrained, or with these weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if state is not None:
        model.load_state_dict(state)
    return model


@functools.cache
def all_digits():
    """Scikit-learn's, scaled to 1: pixels [n, 64] and classes [n]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.from_numpy(found.data.astype(np.float32) / 16), torch.from_numpy(found.target)


def learn(model: nn.Module, x, y, steps: int) -> nn.Module:
    """Train on all of the data at once, what asks for a gradient."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@functools.cache
def trained_digits(seed: int = 0):
    """Weights of the classifier, trained for a second; pixels, and classes as an array."""
    x, y = all_digits()
    return learn(digits_classifier(seed=seed), x, y, 120).state_dict(), x, y.numpy()


def make_matrices(store: Store, progress=None, **settings) -> RunInfo:
    """Every matrix of that classifier pruned alone."""
    chosen = {"levels": "0.3, 0.6, 0.9", "refine": 0, "proxies": "output", "eps": "0.2", **settings}
    return run_once(MATRIX_SENSITIVITY, {"model": digits()}, MatrixSensitivityConfig(**chosen), store, progress=progress)


def make_allocation(store: Store, grid: RunInfo, **settings) -> RunInfo:
    """The allocation from a grid of `make_matrices`, measured beside uniform and global."""
    chosen = {"levels": "0.3, 0.6", "others": "uniform, global", **settings}
    return run_once(ALLOCATION, {"model": digits(), "run": given_run(store, grid.id)}, AllocationConfig(**chosen), store)


class Ignores(nn.Module):
    """Gives logits that its matrices have no part in: nothing can be noticed."""

    def __init__(self, vocabulary: int = V) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.logits = nn.Parameter(torch.linspace(-1, 1, vocabulary))

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


class Worded(nn.Module):
    """Says the next token, surely; but for what comes after token 3, which hangs on the smallest of its weights that are not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(V, V, bias=False) for _ in range(2)])
        with torch.no_grad():
            self.layers[0].weight.copy_(8 * torch.eye(V).roll(1, 0))
            self.layers[0].weight[4, 3] = 4
            self.layers[1].weight.zero_()

    def forward(self, input_ids):
        return sum(layer(nn.functional.one_hot(input_ids, V).float()) for layer in self.layers)


FIRST_TO_GO = 0.97625
"""Share of the weights of `Worded` that are zero before, and that one."""


def make_words(store: Store, **settings) -> RunInfo:
    """A run whose windows are kept token by token; the tokens are letters. At `FIRST_TO_GO` only the letter e after a d gets worse."""
    letters = {i: chr(ord("a") + i) for i in range(V)}
    data = replace(_windows(), token_strings=letters)
    chosen = {"task": "causal-lm", "levels": f"0.5, {FIRST_TO_GO}", **settings}
    return sealed(store, subject_from(Worded(), name="worded", data=data), **chosen)
