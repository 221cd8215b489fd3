"""Shares that reach a level at the least predicted loss, from the measured curve of each matrix alone. Ours; `stats.allocating`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.spec import Evidence, Source, UserError

if TYPE_CHECKING:
    from analysis.stats.allocating import Curve


@dataclass(frozen=True)
class Allocated(Ratio):
    """Greedy over the lower hulls of measured curves; a stack of experts shares one level. What has no curve stays dense."""

    curves: Mapping[str, Curve] = field(repr=False, compare=False)
    """By parameter: corners of its hull, from (0, 0) on."""
    run: str
    """Whose measurements they are."""

    slug: ClassVar[str] = "allocated"
    title: ClassVar[str] = "allocated by measured sensitivity"
    sources: ClassVar[tuple[Source, ...]] = (Source("Allocation by measured sensitivity", "greedy over lower convex hulls", "O"),)
    evidence: ClassVar[Evidence] = "O"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002 - a ratio's signature
        """Hulls are known; a level is one pass over their pieces."""
        import numpy as np

        from analysis.stats.allocating import allocate

        dense = (np.array([0.0]), np.array([0.0]))
        curves = [self.curves.get(_parameter(matrix.name), dense) for matrix in matrices]
        stacks = [_parameter(matrix.name) for matrix in matrices]
        names = list(dict.fromkeys(stacks))
        sizes = [sum(m.n for m, name in zip(matrices, stacks) if name == one) for one in names]
        whole = [curves[stacks.index(name)] for name in names]

        def shares(level: float) -> list[float]:
            try:
                found, _ = allocate(whole, sizes, level)
            except ValueError as error:
                raise UserError(str(error)) from error
            of = dict(zip(names, found.tolist()))
            return [min(1.0, of[name]) for name in stacks]

        return shares


def _parameter(name: str) -> str:
    """Of a matrix' name: without the number of the expert."""
    return name.rpartition("[")[0] if name.endswith("]") else name
