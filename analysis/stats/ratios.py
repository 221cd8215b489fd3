"""How many weights each layer keeps at one overall density (METHODS A2, A3; LAMP: A6).

- `densities`: from shapes alone: uniform, uniform+, ER, ERK.
- `magnitude_kept`: from magnitudes: global, global with a floor per layer, LAMP; `Magnitudes` is a layer's |w|, counted.

density = kept / all weights of the layers given, 0 to 1; sparsity is one minus it. Exactly floor(n (1 - density)) weights
go; ties go from the first layer on (lowest flat index). What is zero already goes first and cannot be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

SHAPE_METHODS = ("uniform", "uniform+", "er", "erk")
MAGNITUDE_METHODS = ("global", "global_floor", "lamp")
LAST_LAYER = 0.2
"""Least density of the last fully connected layer under uniform+."""
FLOOR_PERCENT = 0.05
"""Least weights per layer under global_floor, in per cent of all weights: the default of the authors' command line."""


class Infeasible(ValueError):
    """No densities have this overall density and keep the method's promises; the text says why."""


def n_removed(n: int, density: float) -> int:
    """floor(n (1 - density)): how many of n weights go. Rounding of the difference is made up for, so that 0.9 of 10 is 1."""
    _check_density(density)
    return min(n, floor(n * (1.0 - density) + 1e-9 + n * 4e-16))


# ---------------------------------------------------------------------------------------------------------------------
# From shapes


def densities(
    shapes: Sequence[Sequence[int]], density: float, method: str, *, sizes: ArrayLike | None = None, power: float = 1.0
) -> Floats:
    """Density of each layer, [layers], 0 to 1; the mean weighted by size is `density`.

    shapes: [out, in, kernel...] of each layer, two axes or more. method: one of `SHAPE_METHODS`. sizes: weights per layer
    where they are not the product of the shape (a stack of E expert matrices is its one matrix, E times). power: exponent
    of the ERK ratio. Raises `Infeasible` for uniform+ where the first convolution alone exceeds what may be kept.
    Source: Liu et al., ICLR 2022 (official code); ER: Mocanu 2018; ERK: Evci 2020.
    """
    _check_density(density)
    shapes = [tuple(shape) for shape in shapes]
    n = _sizes(shapes, sizes)
    if method == "uniform":
        return np.full(len(shapes), density)
    if method == "uniform+":
        return _uniform_plus(shapes, n, density)
    if method not in SHAPE_METHODS:
        raise ValueError(f"method must be one of {', '.join(SHAPE_METHODS)}, got {method!r}; magnitudes are needed for the others.")
    raw = [(s[0] + s[1]) / (s[0] * s[1]) if method == "er" else sum(s) / prod(s) for s in shapes]
    return erdos_renyi(np.asarray(raw) ** (power if method == "erk" else 1.0), n, density)[0]


def erdos_renyi(raw: Floats, sizes: Counts, density: float) -> tuple[Floats, float]:
    """Densities min(1, e raw) with overall density `density`, and the factor e (0 where all layers are dense).

    raw [layers] > 0, sizes [layers] -> ([layers], e). While the largest e raw exceeds 1, all layers that attain it are
    made dense and e is found anew: what they cannot take is shared by the others.
    """
    dense = np.zeros(len(raw), bool)
    factor = 0.0
    while not dense.all():
        budget = float((sizes[~dense] * density).sum() - (sizes[dense] * (1.0 - density)).sum())
        factor = budget / float((raw[~dense] * sizes[~dense]).sum())
        largest = raw[~dense].max()
        if factor * largest <= 1.0:
            return np.where(dense, 1.0, factor * raw), factor
        dense |= raw == largest
    return np.ones(len(raw)), 0.0


def _uniform_plus(shapes: Sequence[tuple[int, ...]], n: Counts, density: float) -> Floats:
    """First convolution (three axes or more) dense, last matrix (two axes) at least `LAST_LAYER` dense, the rest equal."""
    fixed: dict[int, float] = {}
    convolutions = [i for i, shape in enumerate(shapes) if len(shape) > 2]
    matrices = [i for i, shape in enumerate(shapes) if len(shape) == 2]
    if convolutions:
        fixed[convolutions[0]] = 1.0
    if matrices and _rest(n, fixed, density) < LAST_LAYER:
        fixed[matrices[-1]] = LAST_LAYER
    rest = _rest(n, fixed, density)
    if not -1e-12 <= rest <= 1.0 + 1e-12:
        least = sum(n[i] * value for i, value in fixed.items()) / n.sum()
        raise Infeasible(f"density must be at least {least:.4g} for uniform+ on these layers, got {density:g}; give a larger one.")
    return np.array([fixed.get(i, float(np.clip(rest, 0.0, 1.0))) for i in range(len(shapes))])


def _rest(n: Counts, fixed: dict[int, float], density: float) -> float:
    """The density of the layers that are not fixed; the wanted one where all of them are and it is met, else out of range."""
    left = float(n.sum() * density - sum(n[i] * value for i, value in fixed.items()))
    free = float(n.sum() - sum(n[i] for i in fixed))
    if free:
        return left / free
    return density if abs(left) < 1e-9 * n.sum() else -1.0


# ---------------------------------------------------------------------------------------------------------------------
# From magnitudes


@dataclass(frozen=True)
class Magnitudes:
    """The magnitudes of a layer, counted: values [k] ascending and at least 0, counts [k] at least 1."""

    values: Floats
    counts: Counts

    @classmethod
    def of(cls, weights: ArrayLike) -> Magnitudes:
        """Every distinct |w| of an array of any shape."""
        values, counts = np.unique(np.abs(np.asarray(weights, np.float64)), return_counts=True)
        return cls(values, counts.astype(np.int64))

    @property
    def n(self) -> int:
        """Weights in the layer."""
        return int(self.counts.sum())

    @property
    def n_zero(self) -> int:
        """Exact zeros among them."""
        return int(self.counts[self.values == 0].sum())


def magnitude_kept(layers: Sequence[Magnitudes], density: float, method: str, *, floor_percent: float = FLOOR_PERCENT) -> Counts:
    """Weights each layer keeps, [layers], at one overall density. method: one of `MAGNITUDE_METHODS`.

    Where more weights are zero already than are to go, just the zeros go: a sparsity below the present one is never made.
    Raises `Infeasible` for global_floor where the floors alone exceed what may be kept.
    """
    n = np.array([layer.n for layer in layers], np.int64)
    zeros = np.array([layer.n_zero for layer in layers], np.int64)
    remove = max(n_removed(int(n.sum()), density), int(zeros.sum()))
    if method == "lamp":
        return n - zeros - _lamp_removed(layers, remove - int(zeros.sum()))
    if method not in MAGNITUDE_METHODS:
        raise ValueError(f"method must be one of {', '.join(MAGNITUDE_METHODS)}, got {method!r}; the others need shapes only.")
    kept = n - _smallest(layers, remove)
    if method == "global":
        return kept
    least = floor_weights(int(n.sum()), floor_percent)
    sparsities = with_floor(n, 1.0 - kept / n, remove / int(n.sum()), least)
    return np.array([size - floor(size * s + 1e-6) for size, s in zip(n.tolist(), sparsities.tolist())], np.int64)


def _smallest(layers: Sequence[Magnitudes], remove: int) -> Counts:
    """How many of the `remove` smallest magnitudes lie in each layer; ties go from the first layer on."""
    owner = np.repeat(np.arange(len(layers)), [len(layer.values) for layer in layers])
    values, counts = (np.concatenate([getattr(layer, name) for layer in layers]) for name in ("values", "counts"))
    order = np.argsort(values, kind="stable")
    owner, counts = owner[order], counts[order]
    before = np.cumsum(counts) - counts
    gone = np.clip(remove - before, 0, counts)
    return np.bincount(owner, gone, minlength=len(layers)).astype(np.int64)


def floor_weights(n: int, percent: float) -> int:
    """int(n percent / 100): the least weights a layer keeps under global_floor (Gupta et al. 2022, official code)."""
    return int(n * percent / 100)


def is_collapsed(kept: ArrayLike, sizes: ArrayLike) -> NDArray[np.bool_]:
    """Whether a layer of at least one weight keeps none, [layers]: nothing gets through it any more."""
    return (np.asarray(kept) == 0) & (np.asarray(sizes) > 0)


def with_floor(sizes: ArrayLike, sparsities: ArrayLike, target: float, least: int) -> Floats:
    """Sparsities [layers] lifted so that each layer keeps `least` weights, or all of them where it has fewer.

    sizes [layers]; sparsities [layers] of a global mask; target: the overall sparsity to end with. All are scaled to the
    target, those that leave too little are set to their largest, and the others are scaled up until the target is met again
    (the fixed point of the authors' loop, which scales all in each pass). Kept counts are not yet whole numbers.
    Raises `Infeasible` where it cannot be. A layer of exactly `least` weights stays whole (the authors' code leaves it out).
    Source: Gupta et al. 2022 (arXiv 2209.14624), `prune_withMT.py`; METHODS A2.
    """
    n, s = np.asarray(sizes, np.float64), np.array(sparsities, np.float64)
    wanted, cap = target * float(n.sum()), np.maximum(0.0, 1.0 - least / n)
    reachable = float((n * cap)[s > 0].sum())
    if wanted > reachable + 1e-9 * n.sum():
        raise Infeasible(
            f"the overall sparsity must be at most {reachable / n.sum():.6g} where each layer keeps {least:,} weights, got {target:.6g}; "
            "give a larger density or a smaller floor."
        )
    s = np.where(n < least, 0.0, s)
    full = np.zeros(len(n), bool)
    while not full.all() and (mass := float((n * s)[~full].sum())) > 0:
        s[~full] *= (wanted - float((n * s)[full].sum())) / mass
        over = ~full & (s > cap)
        s = np.minimum(s, cap)
        full |= over
        if not over.any():
            break
    return s


def lamp_scores(weights: ArrayLike) -> Floats:
    """LAMP score of every weight, same shape, 0 to 1: w^2 over the sum of squares of all weights at least as large.

    Sorted ascending with ties in flat order: score_u = w_u^2 / sum_{v >= u} w_v^2; the largest scores 1, so that no layer
    collapses; zeros score 0, also where all are. Source: Lee et al., ICLR 2021 (arXiv 2010.07611); METHODS A6.
    """
    array = np.asarray(weights, np.float64)
    largest = np.abs(array).max(initial=0.0)
    squares = (array.ravel() / (largest or 1.0)) ** 2
    order = np.argsort(squares, kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares[order], rest, out=np.zeros_like(rest), where=rest > 0)
    return scores.reshape(array.shape)


def _lamp_removed(layers: Sequence[Magnitudes], remove: int) -> Counts:
    """How many of the `remove` smallest LAMP scores of non-zero weights lie in each layer; ties go from the first layer on.

    The j-th copy of a magnitude m has the score 1 / (r - j), r = (squares from m on) / m^2: reciprocals fall by one from
    copy to copy, and by more from one magnitude to the next. So the number of reciprocals above x in a layer is a binary
    search, and x is bisected.
    """
    ladders = [_reciprocals(layer) for layer in layers]
    if remove <= 0:
        return np.zeros(len(layers), np.int64)
    low, high = 0.0, 2.0 + 2.0 * max(-float(first[0]) for first, _, _ in ladders if len(first))
    while low < (middle := (low + high) / 2) < high:
        if sum(_above(ladder, middle) for ladder in ladders) >= remove:
            low = middle
        else:
            high = middle
    gone = np.array([_above(ladder, high) for ladder in ladders], np.int64)
    ties = np.array([_above(ladder, low) for ladder in ladders], np.int64) - gone
    left = remove - int(gone.sum())
    return gone + np.clip(left - (np.cumsum(ties) - ties), 0, ties)


Ladder = tuple[Floats, Counts, Counts]


def _reciprocals(layer: Magnitudes) -> Ladder:
    """Of each non-zero magnitude, ascending: minus 1 / score of its first copy (ascending), its count, the counts before it."""
    values, counts = layer.values[layer.values > 0], layer.counts[layer.values > 0]
    squares = np.maximum((values / (values[-1] if len(values) else 1.0)) ** 2, 1e-300)
    rest = np.cumsum((squares * counts)[::-1])[::-1]
    return -rest / squares, counts, np.cumsum(counts) - counts


def _above(ladder: Ladder, x: float) -> int:
    """Reciprocals of at least x in a layer."""
    first, counts, before = ladder
    groups = int(np.searchsorted(first, -x, side="right"))
    if not groups:
        return 0
    last = groups - 1
    return int(before[last]) + min(int(counts[last]), floor(-float(first[last]) - x) + 1)


# ---------------------------------------------------------------------------------------------------------------------


def distance(realised: ArrayLike, reference: ArrayLike, sizes: ArrayLike) -> float:
    """sum n |rho - rho_ref| / sum n: how far the densities of a model are from a reference, 0 to 1 (METHODS A3)."""
    n = np.asarray(sizes, np.float64)
    return float((n * np.abs(np.asarray(realised) - np.asarray(reference))).sum() / n.sum())


def _sizes(shapes: Sequence[tuple[int, ...]], sizes: ArrayLike | None) -> Counts:
    if not shapes or any(len(shape) < 2 or prod(shape) == 0 for shape in shapes):
        raise ValueError(f"shapes must have two axes or more and at least one weight each, got {shapes}; leave the others out.")
    n = np.array([prod(shape) for shape in shapes] if sizes is None else sizes, np.int64)
    if n.shape != (len(shapes),) or (n < 1).any():
        raise ValueError(f"sizes must be {len(shapes)} counts of at least 1, got {n.tolist()}; give one per layer.")
    return n


def _check_density(density: float) -> None:
    if not 0.0 <= density <= 1.0:
        raise ValueError(f"density must be between 0 and 1, got {density!r}; give the share of weights to keep.")
