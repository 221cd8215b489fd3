"""TEAL's greedy allocation: within each block, sparsity goes where the block's output suffers least.

1. One dense pass over the first batch of the calibration split takes down what each block is given and what it answers.
2. From 0, again and again: add STEP of the block's weights to one matrix' removed share, the one whose extra error per weight is least.
   Error: |block's output - dense output|_F over real tokens, of the block run by itself. Until every matrix is at 1.
3. A level is a place on this path, the same in every block; between two steps shares are interpolated.

The source takes the last quarter of each sequence and a mean of norms over the token axis; steps here are coarser. METHODS B6.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.capture import Frame, capture
from analysis.capture.naming import block_of
from analysis.capture.operators import tensors_in
from analysis.capture.running import hooked, observable, run
from analysis.interventions.activations.base import Setting, last_matrix
from analysis.interventions.activations.sketch import Magnitudes
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

STEP = 0.05
"""Of a block's weights."""
ROUNDING = 1e-9
"""Of shares that are sums of steps."""
TOLERANCE = 1e-3
"""By which a block run by itself may differ from its run inside the model, relative."""


@dataclass(frozen=True)
class Path:
    """The shares of one block's matrices, step by step."""

    removed: tuple[float, ...]
    """Share of the block's weights, rising from 0 to 1."""
    shares: Mapping[str, tuple[float, ...]]
    """By site."""

    def at(self, level: float) -> dict[str, float]:
        """By site, at a share of the block's weights."""
        import numpy as np

        return {name: float(np.interp(level, self.removed, shares)) for name, shares in self.shares.items()}


class _Trial:
    """Observer of one block: zeroes what is at or below thresholds."""

    def __init__(self) -> None:
        self.thresholds: dict[str, float] = {}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Tensor | None:
        """None where the site has no threshold yet."""
        del rows
        t = self.thresholds.get(site.name)
        return None if t is None else values.masked_fill(values.float().abs() <= t, 0)


@dataclass
class _Given:
    args: Any
    kwargs: Any
    output: Tensor


def greedy_paths(setting: Setting, sketches: Mapping[str, Magnitudes]) -> list[Path]:
    """Step 2 for every block."""
    blocks: dict[str, list[Site]] = {}
    for site in setting.sites:
        blocks.setdefault(block_of(setting.model, site.module)[1], []).append(site)
    batch = _without_cache(setting.model, setting.batches[0])
    given = _given(setting.model, batch, list(blocks))
    return [_path(setting.model, path, sites, given[path], Frame.of(batch), sketches) for path, sites in blocks.items()]


def _without_cache(model: nn.Module, batch: Any) -> Any:
    """A cache would grow with every run of a block."""
    takes = isinstance(batch, Mapping) and "use_cache" in inspect.signature(model.forward).parameters
    return {**batch, "use_cache": False} if takes else batch


def _given(model: nn.Module, batch: Any, paths: Sequence[str]) -> dict[str, _Given]:
    """Step 1."""
    found: dict[str, _Given] = {}

    def taking(path: str) -> Any:
        def left(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            found[path] = _Given(args, kwargs, next(tensors_in(output)).detach().clone())

        return left

    handles = [model.get_submodule(path).register_forward_hook(taking(path), with_kwargs=True) for path in paths]
    with hooked(handles), observable(model):
        run(model, batch)
    return found


def _path(model: nn.Module, path: str, sites: Sequence[Site], given: _Given, frame: Frame, sketches: Mapping[str, Magnitudes]) -> Path:
    trial = _Trial()
    with capture(model, sites, trial) as session:

        def error(shares: Mapping[str, float]) -> float:
            trial.thresholds = {name: sketches[name].threshold(share) for name, share in shares.items() if share > 0}
            with observable(model), session.watching(frame):
                output = next(tensors_in(model.get_submodule(path)(*given.args, **given.kwargs)))
            return _distance(output, given.output, frame)

        size = _distance(given.output * 0, given.output, frame)
        alone = error({})
        if alone > TOLERANCE * size:
            raise IncompatibleSubject(
                f"block {path} must give by itself what it gives in the model, got a relative error of {alone / size:.2g}; use teal."
            )
        weights = {site.name: last_matrix(model, site).numel() for site in sites}
        total = sum(weights.values())
        return grown({name: n / total for name, n in weights.items()}, error)


def grown(weights: Mapping[str, float], error: Any) -> Path:
    """Step 2 for one block: ``weights`` by site sum to 1, ``error(shares)`` is what is to stay low."""
    shares = dict.fromkeys(weights, 0.0)
    removed, now = [0.0], 0.0
    course = {name: [0.0] for name in weights}
    while open_ones := [name for name, share in shares.items() if share < 1]:
        tried = {}
        for name in open_ones:
            left, step = 1 - shares[name], STEP / weights[name]
            more = step if step < left - ROUNDING else left
            found = error({**shares, name: shares[name] + more})
            tried[name] = ((found - now) / (more * weights[name]), found, more)
        best = min(tried, key=lambda name: tried[name][0])
        _, now, more = tried[best]
        shares[best] = 1.0 if more == 1 - shares[best] else shares[best] + more
        removed.append(removed[-1] + more * weights[best])
        for name, share in shares.items():
            course[name].append(share)
    return Path((*removed[:-1], 1.0), {name: tuple(found) for name, found in course.items()})


def _distance(one: Tensor, other: Tensor, frame: Frame) -> float:
    difference = (one - other).float()
    if frame.mask is not None and frame.mask.shape == difference.shape[:2]:
        difference = difference[frame.mask.to(difference.device)]
    return float(difference.norm())
