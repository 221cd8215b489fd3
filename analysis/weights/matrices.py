"""A stored tensor as matrices [outputs, inputs], handed over in slices of rows wherever that saves memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from analysis.stats.spectrum import Spectrum


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

    def n_nonfinite(self) -> int:
        """NaN or infinite entries."""
        return sum(int((~part.isfinite()).sum()) for part in self.slices())

    def spectrum(self, limit: int, largest: int, seed: int) -> Spectrum:
        """`singular_values`; of a tall matrix from its slices, so that it is never whole in memory."""
        from analysis.stats.spectrum import choose, gram_of_slices, singular_values, spectrum_of_gram

        if choose(self.shape, limit) == "gram" and self.shape[0] >= self.shape[1]:
            return spectrum_of_gram(gram_of_slices(self.slices(), self.shape[1]), self.shape)
        return singular_values(self.whole(), limit=limit, largest=largest, seed=seed)


def matrices_of(tensor: Any) -> Iterator[Matrix]:
    """The matrices of a tensor (`TensorInfo`) with two or more axes.

    One that is stored as [outputs, inputs] is read in slices from its file; others are read whole, and a stack once for all of its.
    """
    from analysis.stats.spectrum import rows_per_slice

    n, n_out, n_in = tensor.matrix_shape
    rows = rows_per_slice(n_in)
    if n == 1 and len(tensor.shape) == 2 and tensor.input_axis != 0:
        yield Matrix(0, (n_out, n_in), lambda: tensor.read_slices(rows), tensor.read)
        return
    stack = tensor.matrices()
    for index, matrix in enumerate(stack):
        yield Matrix(index, (n_out, n_in), lambda m=matrix: iter(m.split(rows)), lambda m=matrix: m)
