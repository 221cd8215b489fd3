"""Shares from shapes alone: uniform+, ER and ERK (METHODS A3). The formulas are `stats.ratios.densities`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.interventions.ratios.snip import RANDOM_PRUNING
from analysis.interventions.weights.method import Matrix, Method, Ratio, SharesAt
from analysis.spec import Evidence, Source, UserError
from analysis.stats.ratios import Infeasible, densities


@dataclass(frozen=True)
class _ByShape(Ratio):
    evidence: ClassVar[Evidence] = "C"

    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:  # noqa: ARG002 - a ratio's signature
        """Nothing to prepare: shapes are known."""
        shapes = [matrix.shape for matrix in matrices]

        def shares(level: float) -> list[float]:
            try:
                return (1.0 - densities(shapes, 1.0 - level, self.slug)).tolist()
            except Infeasible as error:
                raise UserError(str(error)) from error

        return shares


@dataclass(frozen=True)
class UniformPlus(_ByShape):
    """The first convolution dense, the last matrix at least 20 % dense, the others equal."""

    slug: ClassVar[str] = "uniform+"
    title: ClassVar[str] = "Uniform+"
    sources: ClassVar[tuple[Source, ...]] = (RANDOM_PRUNING,)


@dataclass(frozen=True)
class ER(_ByShape):
    """Erdős–Rényi: density by (outputs + inputs) / (outputs x inputs)."""

    slug: ClassVar[str] = "er"
    title: ClassVar[str] = "ER"
    sources: ClassVar[tuple[Source, ...]] = (Source("Sparse evolutionary training", "Mocanu et al., 2018", "C"), RANDOM_PRUNING)


@dataclass(frozen=True)
class ERK(_ByShape):
    """Erdős–Rényi kernel: density by the sum of all axes over their product."""

    slug: ClassVar[str] = "erk"
    title: ClassVar[str] = "ERK"
    sources: ClassVar[tuple[Source, ...]] = (Source("Rigging the Lottery", "Evci et al., ICML 2020", "C"), RANDOM_PRUNING)
