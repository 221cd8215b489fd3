"""What a method for pruning weights is: scores of one matrix, or a matrix pruned and updated. Pure: nothing live is touched.

1. A matrix is always [d_out, d_in] (y = x W^T), float32: experts come one by one, GPT-2's Conv1D turned round, kernels flattened.
2. `score`: the larger, the more it is worth keeping. Which weights then go is decided elsewhere (`selecting`, `structures`).
3. Methods that also change what they keep override `prune` instead and say ``updates = True``; their scope is each matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.spec import Need
from analysis.interventions.structures import UNSTRUCTURED, Structure
from analysis.spec import Evidence, Source, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs
    from analysis.interventions.selecting import ScopeGroup, Variant

SharesAt = Callable[[float], Sequence[float]]
"""From a level over the whole scope to the share removed of each matrix, in the order the matrices were given."""


@dataclass(frozen=True)
class Asked:
    """What of one matrix is to go, as a method that updates weights is asked for it."""

    level: float
    structure: Structure = UNSTRUCTURED
    seed: int = 0
    """This matrix' own."""
    variant: Variant = "text"
    """``code`` counts as the published code does, where that is known to differ from the text."""

    def pattern(self, method: Method) -> tuple[int, int] | None:
        """N of M at this level, or None for single weights. Raises `UserError` for tiles, rows and columns."""
        found = self.structure.pattern_at(self.level)
        if found is None and not self.structure.is_unstructured:
            raise UserError(f"{method.slug} must be unstructured or N of M, got {self.structure.slug}; choose another method for tiles.")
        return found


class Method(ABC):
    """A way of telling which weights of a matrix may go. Options are fields of a frozen dataclass."""

    slug: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    sources: ClassVar[tuple[Source, ...]] = ()
    evidence: ClassVar[Evidence]
    nested: ClassVar[bool] = True
    """Whether what goes at a level is gone at higher ones."""
    updates: ClassVar[bool] = False
    """Whether `prune` is to be called, and not `score`."""
    unit: ClassVar[str] = "score"
    """Of the scores, for the threshold shown with a level."""
    comparable: ClassVar[bool] = True
    """Whether scores of different matrices may be compared (scope global)."""
    by_row: ClassVar[bool] = False
    """Whether in the source the weights of each row compete among themselves (scope per_row)."""
    own_group: ClassVar[ScopeGroup] = "per_matrix"
    """Among which weights a method that updates them chooses, whatever the intervention says."""
    has_code_variant: ClassVar[bool] = False
    """Whether `prune` counts otherwise as ``code``; without updates the selection knows (`selecting.counts_otherwise`)."""
    cheap: ClassVar[bool] = False
    """Whether scores are made anew for each level rather than kept: for what costs no more than reading the weights."""

    @property
    def name(self) -> str:
        """Slug, with the options that are not as usual: ``dsnot(start=magnitude)``."""
        changed = []
        for option in fields(self) if is_dataclass(self) else ():
            value = getattr(self, option.name)
            usual = option.default if option.default is not MISSING else None
            if option.default_factory is not MISSING:
                usual = option.default_factory()
            if value != usual:
                changed.append(f"{option.name}={getattr(value, 'name', value)}")
        return f"{self.slug}({', '.join(changed)})" if changed else self.slug

    def score(self, w: Tensor, inputs: MatrixInputs | None, seed: int) -> Tensor:
        """Scores of ``w`` [d_out, d_in], of its shape, float32 on its device; larger stays. Finite or infinite, never NaN.

        ``inputs``: what was measured of this matrix, with everything in `needs`. ``seed``: this matrix' own.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no scores; call prune.")

    def prune(self, w: Tensor, inputs: MatrixInputs | None, asked: Asked) -> Tensor:
        """``w`` with the share asked for of its weights zero and the others changed, of its shape; ``w`` itself stays as it is."""
        raise NotImplementedError(f"{type(self).__name__} changes no weights; call score.")


@dataclass(frozen=True)
class Matrix:
    """One matrix of the scope, as methods and ratios see it: an expert, or a whole parameter."""

    name: str
    """Of the parameter; with ``[3]`` behind it for expert 3 of a stack."""
    shape: tuple[int, ...]
    """As stored, output first and with the kernel's axes: what ERK looks at."""
    layer: int | None
    dense: Callable[[], Tensor] = field(repr=False)
    """The dense weights, float32 [d_out, d_in]."""
    inputs: MatrixInputs | None = field(repr=False)
    seed: int
    role: str = ""
    """Path inside its block: the same for alike matrices of different layers."""

    @property
    def n(self) -> int:
        """Weights in it."""
        return prod(self.shape)

    @property
    def d_out(self) -> int:
        """Its outputs."""
        return self.shape[0]

    @property
    def d_in(self) -> int:
        """Its inputs; of a convolution, times the kernel."""
        return prod(self.shape[1:])


class Ratio(ABC):
    """A way of sharing the overall level out among the matrices; inside each, the method's scores decide."""

    slug: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    sources: ClassVar[tuple[Source, ...]] = ()
    evidence: ClassVar[Evidence]
    nested: ClassVar[bool] = True
    """Whether every matrix' share grows with the level."""

    @abstractmethod
    def prepare(self, matrices: Sequence[Matrix], method: Method) -> SharesAt:
        """Look at the matrices once; return the shares as a function of the level. Their mean weighted by `Matrix.n` is the level.

        The function raises `UserError` where a level cannot be had.
        """
