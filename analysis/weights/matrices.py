"""A stored tensor as matrices [outputs, inputs], handed over in slices of rows wherever that saves memory.

Types too narrow to compute in are widened. A matrix whose numbers are so large or small that their squares would leave a float is handed
over in another unit, a power of two, which no relative measure sees: `Matrix.in_range`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import frexp, inf, isfinite, ldexp
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from analysis.stats.spectrum import Spectrum

SAFE = 40
"""Largest magnitudes between 2^-40 and 2^40 are left as they are: squares of their sums fit float32, in which parts are fitted."""
MOST = 1000
"""Largest exponent of a unit: 2^1024 is no float."""


@dataclass(frozen=True)
class Matrix:
    """One matrix of a tensor."""

    index: int
    """Which one, from 0."""
    shape: tuple[int, int]
    slices: Callable[[], Iterator[torch.Tensor]]
    """Its rows in order, some at a time [r, i]; may be asked for again."""
    whole: Callable[[], torch.Tensor]
    """All of it [o, i]."""
    unit: float = 1.0
    """What an entry of 1 stands for: singular values times this are those of the weights as stored."""

    def n_nonfinite(self) -> int:
        """NaN or infinite entries."""
        return sum(int((~part.isfinite()).sum()) for part in self.slices())

    def largest(self) -> float:
        """Largest |w|; infinite where an entry is NaN or infinite."""
        bounds = [float(bound) for part in self.slices() for bound in part.aminmax()]
        return max(abs(bound) for bound in bounds) if all(isfinite(bound) for bound in bounds) else inf

    def in_range(self, largest: float) -> Matrix:
        """The same matrix in a unit near its ``largest`` magnitude, where that is far from 1; else as it is."""
        unit = unit_near(largest)
        if unit == 1:
            return self

        def turned(part: torch.Tensor) -> torch.Tensor:
            return (part.double() / unit).to(part.dtype)

        return replace(self, slices=lambda: map(turned, self.slices()), whole=lambda: turned(self.whole()), unit=unit)

    def spectrum(self, limit: int, largest: int, seed: int) -> Spectrum:
        """`singular_values`; of a tall matrix from its slices, so that it is never whole in memory."""
        from analysis.stats.spectrum import choose, gram_of_slices, singular_values, spectrum_of_gram

        if choose(self.shape, limit) == "gram" and self.shape[0] >= self.shape[1]:
            return spectrum_of_gram(gram_of_slices(self.slices(), self.shape[1]), self.shape)
        return singular_values(self.whole(), limit=limit, largest=largest, seed=seed)


def unit_near(largest: float) -> float:
    """The power of two near a largest magnitude that is far from 1; else 1."""
    exponent = frexp(largest)[1]
    return 1.0 if not largest or abs(exponent) <= SAFE else ldexp(1.0, max(-MOST, min(MOST, exponent)))


def matrices_of(tensor: Any) -> Iterator[Matrix]:
    """The matrices of a tensor (`TensorInfo`) with two or more axes.

    One that is stored as [outputs, inputs] is read in slices from its file; others are read whole, and a stack once for all of its.
    """
    from analysis.stats.spectrum import rows_per_slice

    n, n_out, n_in = tensor.matrix_shape
    rows = rows_per_slice(n_in)
    if n == 1 and len(tensor.shape) == 2 and tensor.input_axis != 0:
        yield Matrix(0, (n_out, n_in), lambda: map(_wide, tensor.read_slices(rows)), lambda: _wide(tensor.read()))
        return
    stack = _wide(tensor.matrices())
    for index, matrix in enumerate(stack):
        yield Matrix(index, (n_out, n_in), lambda m=matrix: iter(m.split(rows)), lambda m=matrix: m)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """8-bit floats as float32: torch computes nothing in them."""
    return values.float() if values.element_size() == 1 else values
