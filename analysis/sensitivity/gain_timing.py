"""How long a dense and a smaller model take, taking turns in one process, so that a busy machine slows both alike.

Prefill: one pass over one example. Decode: one token at a time behind a prompt, each model with keys and values of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Timed = Callable[[], None]
STEPS = 8
"""Tokens decoded in each turn."""
DRAWS = 1000


@dataclass(frozen=True)
class Turns:
    """Seconds of one pass or of one token [turns], of both models."""

    dense: np.ndarray
    smaller: np.ndarray

    @property
    def ratio(self) -> float:
        """Time of the smaller over that of the dense model: median of the turns' own ratios."""
        return float(np.median(self.smaller / self.dense))

    def interval(self, seed: int) -> tuple[float, float] | None:
        """95 % of the medians of redrawn turns; None of one turn. It knows this session only: other hours, other machines differ more."""
        ratios = self.smaller / self.dense
        if len(ratios) == 1:
            return None
        drawn = np.random.default_rng(seed).choice(ratios, (DRAWS, len(ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
        return float(low), float(high)


def turns(dense: Timed, smaller: Timed, repeats: int, per_turn: int = 1, clock: Callable[[], float] = time.perf_counter) -> Turns:
    """Each model once unmeasured, then by turns, the first one changing; ``per_turn``: what one call does so many times."""
    seconds = np.zeros((2, repeats))
    for step in range(-1, repeats):
        pairs = [(0, dense), (1, smaller)]
        for i, timed in pairs if step % 2 else reversed(pairs):
            began = clock()
            timed()
            if step >= 0:
                seconds[i, step] = (clock() - began) / per_turn
    return Turns(*seconds)


def prefill(model: nn.Module, batch: Any) -> Timed:
    """One pass."""
    import torch

    from analysis.capture.running import run

    def once() -> None:
        with torch.no_grad():
            run(model, batch)
        _wait(model)

    return once


def decode(model: nn.Module, batch: Any) -> Timed:
    """`STEPS` tokens, one by one, from where the last call ended; the first call runs the prompt. Which tokens changes no time."""
    import torch

    last = batch["input_ids"][:, -1:]
    kept: dict[str, Any] = {}

    def some() -> None:
        with torch.no_grad():
            if not kept:
                kept["cache"] = model(**batch, use_cache=True).past_key_values
            for _ in range(STEPS):
                kept["cache"] = model(input_ids=last, past_key_values=kept["cache"], use_cache=True).past_key_values
        _wait(model)

    return some


def _wait(model: nn.Module) -> None:
    """Until the device has done what it was given."""
    import torch

    device = next(model.parameters()).device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
