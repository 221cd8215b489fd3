"""One pass over two tensors, slice by slice: sums, rows and tiles; and the singular values of their difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from analysis.stats.threads import one_thread
from analysis.weights.blocks import BLOCK, READ, blocks
from analysis.weights.checkpoint_diff_adapters import Adapted
from analysis.weights.checkpoint_diff_matching import Pair

if TYPE_CHECKING:
    import torch

    from analysis.stats.comparing import PairSums
    from analysis.stats.spectrum import Spectrum


@dataclass
class Seen:
    """What a pass over two tensors has seen."""

    pair: Pair
    sums: PairSums
    rows: Any = None
    """Float64 [3, n_rows]: squared change, squared base, changed weights; None for vectors."""
    changed: Any = None
    new_zero: Any = None
    """`Tiles` of changed weights and of new zeros."""


def slices(pair: Pair, size: int = BLOCK) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(first row, model, base, their difference), float64 [rows of the first axis, all others], about ``size`` weights at a time."""
    start = 0
    if isinstance(pair.after, Adapted):
        left, right = pair.after.factors()
        for base in blocks(pair.base, size):
            change = left[start : start + len(base)] @ right
            yield start, base + change, base, change
            start += len(base)
        return
    for after, base in zip(blocks(pair.after, size), blocks(pair.base, size)):
        yield start, after, base, after - base
        start += len(base)


def look_at(pair: Pair, tiles: int) -> Seen:
    """One pass over both tensors. Memory: a read of each, and three numbers a row."""
    import torch

    from analysis.stats.comparing import PairSums, Tiles

    shape = pair.base.shape
    seen = Seen(pair, PairSums())
    if len(shape) > 1:
        seen.rows = torch.zeros(3, shape[0], dtype=torch.float64)
        seen.changed, seen.new_zero = (Tiles((shape[0], prod(shape[1:])), tiles) for _ in range(2))
    with one_thread():
        for start, after, base, change in slices(pair):
            seen.sums.update(after, base, change)
            if seen.rows is not None:
                _note_rows(seen, start, after, base, change)
    return seen


def _note_rows(seen: Seen, start: int, after: torch.Tensor, base: torch.Tensor, change: torch.Tensor) -> None:
    import torch

    from analysis.stats.comparing import fits, usable

    if not (fits(after) and fits(base)):  # what does not count is as if it were zero in both
        finite = usable(after) & usable(base)
        after, base, change = (torch.where(finite, values, 0.0) for values in (after, base, change))
    inside = slice(start, start + len(base))
    changed = change != 0
    seen.rows[0, inside] = torch.linalg.vecdot(change, change)
    seen.rows[1, inside] = torch.linalg.vecdot(base, base)
    seen.rows[2, inside] = changed.sum(1).double()
    seen.changed.update(start, changed.numpy())
    seen.new_zero.update(start, ((after == 0) & changed & (base != 0)).numpy())


def spectra(pair: Pair, limit: int, n_values: int, seed: int) -> tuple[list[Spectrum], str]:
    """Singular values of the difference, one spectrum per matrix of a stack, and how they were computed.

    Where all are wanted, from the Gram matrix of the shorter side, ten times as fast as an SVD: what it loses, values below 1e-7 of
    the largest, is nothing to ranks that weigh by size.
    """
    import torch

    from analysis.models.tensors import as_matrix
    from analysis.stats.spectrum import choose, gram, gram_of_slices, singular_values, spectrum_of_gram

    if isinstance(pair.after, Adapted):  # the product's values are those of the two small triangles
        left, right = pair.after.factors()
        small = torch.linalg.qr(left).R @ torch.linalg.qr(right.T).R.T
        return [singular_values(small)], "factors"
    _, n_out, n_in = pair.base.matrix_shape
    tall = len(pair.base.shape) == 2 and pair.base.shape[0] >= pair.base.shape[1]
    all_values = choose((n_out, n_in), limit) != "randomised"
    if tall and all_values:  # without a copy of the difference
        products = gram_of_slices((change for _, _, _, change in slices(pair, READ)), pair.base.shape[1])
        return [spectrum_of_gram(products, pair.base.shape)], "gram"
    wide = "float64" in (pair.after.dtype, pair.base.dtype)
    difference = torch.empty(pair.base.shape, dtype=torch.float64 if wide else torch.float32)
    for start, _, _, change in slices(pair, READ):
        difference[start : start + len(change)] = change.reshape(-1, *pair.base.shape[1:])
    matrices = [one for one in as_matrix(difference, pair.base) if one.any()]
    if all_values:
        return [spectrum_of_gram(gram(one), (n_out, n_in)) for one in matrices], "gram"
    return [singular_values(one, limit=limit, largest=n_values, seed=seed) for one in matrices], "randomised"
