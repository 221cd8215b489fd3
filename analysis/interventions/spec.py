"""What an intervention is: something that makes a live model sparser, by a level, and takes everything back on exit.

    with intervention.on(subject, calibration) as held:   # prepares once: scores, thresholds, a saved copy
        for level in levels:                               # in any order, as often as wanted
            applied = held.at(level)                       # the live model is now at that level
            ...                                            # run it
                                                           # on exit, also on error: every bit is back

level: share removed of a stated denominator, 0 to 1; 0 is the model as it was, bit for bit. What has no continuum (2 of 4) is a
point: it has level 0 and one more (`Held.levels`), and neither bisection nor a drop point.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from analysis.spec import Source, UserError

if TYPE_CHECKING:
    from analysis.interventions.calibration import MatrixInputs

Target = Literal["weights", "activations", "attention", "tokens", "structure"]
InterventionKind = Literal["curve", "patterns", "point"]
"""A continuum of levels; several patterns with nothing between them; one level beside the dense model."""
Need = Literal["inputs", "gram", "gradients", "fisher", "hessian", "values"]
"""Of the calibration split: sums over what enters each matrix, its second moments, gradients of the loss (mean, and squared by example);
blocks of the inverse Fisher matrix; Hessian times gradient; its batches themselves, for what flows inside the dense model."""


class RestoreError(Exception):
    """The model could not be put back as it was: a fault of the program; the model in memory is not to be used any further."""


class Calibration(Protocol):
    """What was measured on the calibration split, once, on the dense model."""

    def of(self, name: str, index: int) -> MatrixInputs | None:
        """Of matrix ``index`` (0, or the expert's number) of the parameter of that name; None where no input reached it."""
        ...

    @property
    def missing(self) -> Mapping[tuple[str, int], str]:
        """Why there is nothing, in a sentence, by name and index."""
        ...


@dataclass(frozen=True)
class MatrixCount:
    """The weights of one parameter of the scope."""

    name: str
    n: int
    n_zero: int
    """Zeros, measured in the live model, or planned (`Held.cost`); existing ones included."""
    n_already_zero: int
    """Zeros of the dense model."""

    @property
    def n_kept(self) -> int:
        """Weights that are not zero."""
        return self.n - self.n_zero


@dataclass(frozen=True)
class Applied:
    """A level as it was applied."""

    level: float
    achieved: float
    """Measured share removed of `denominator`, 0 to 1. Of weights: zeros / all, so never below the share that was zero before."""
    denominator: str
    """In words, e.g. ``84,934,656 weights of 48 tensors``."""
    native_value: float | None = None
    """The method's own knob at this level: a threshold, N of N:M, a number of heads; None where it has none, or one for each matrix."""
    native_unit: str | None = None
    counts: tuple[MatrixCount, ...] = ()
    """Per parameter; empty where the intervention is not on weights."""
    notes: tuple[str, ...] = ()
    """Sentences that belong beside the number: columns left over by groups of M, experts without data."""

    @property
    def n(self) -> int:
        """Weights in the scope."""
        return sum(count.n for count in self.counts)

    @property
    def n_already_zero(self) -> int:
        """Of those, zero in the dense model: existing sparsity, no prunability."""
        return sum(count.n_already_zero for count in self.counts)

    @property
    def added(self) -> float:
        """Share of the scope that this level made zero and that was not zero before; `achieved` where there are no counts."""
        return self.achieved - self.n_already_zero / self.n if self.n else self.achieved


@dataclass(frozen=True)
class Shares:
    """What is left of the model's work at a level, where it is not weights that went; 1 everywhere is the dense model.

    Measured, not assumed: counted while the model ran at that level, over real tokens, or known exactly from the structure.
    """

    products: Mapping[str, float] = field(default_factory=dict)
    """By parameter: share of its multiply-adds that is executed, mean over tokens; 1 for those not named."""
    touched: Mapping[str, float] = field(default_factory=dict)
    """By parameter: share of its bytes that one token reads; 1 for those not named. Of B tokens the union is taken, independent."""
    static: bool = False
    """Whether it is the same part for every token: then there is no union, and the rest need not be held."""
    pairs: float = 1.0
    """Share of query-key pairs computed, of those the dense model computes (prefill)."""
    keys_read: float = 1.0
    """Share of stored keys and values that one decode step at position n reads."""
    keys_held: float = 1.0
    """Share of keys and values that must be held at position n."""
    overhead_flops: float = 0.0
    """Of the selection itself, per token of prefill, where it does not grow with the length; of images, per row that it chooses for."""
    rows: float = 1.0
    """Such rows of one example that is not tokens: patches of an image, places of a map."""
    overhead_pairs: float = 0.0
    """Of the selection itself, where it grows with the length: share of the dense attention's FLOPs (all query-key products: a half)."""
    overhead_bytes: float = 0.0
    """Weights of the selection itself (predictors, turns of a basis): held, and read once for all tokens of a decode step."""
    overhead_touched: float = 1.0
    """Share of those bytes that one token reads (predictors of the experts it is sent to); of B tokens the union is taken."""
    overhead_keys: float = 0.0
    """Read by the selection itself, where it grows with the length: share of the dense keys' and values' bytes (all keys: a half)."""
    positions: float = 1.0
    """Share of token positions that products of the scope compute, mean over layers; pairs and keys are told apart from it."""


@dataclass(frozen=True)
class Cost:
    """What is left at a level, from which FLOPs and bytes follow."""

    level: float
    counts: tuple[MatrixCount, ...] = ()
    """Per parameter of the scope, as planned: the live model is not touched."""
    layout: str = "unstructured"
    """How the zeros lie: ``unstructured``, ``2:4`` (kept of), ``block 4x4``, ``rows``, ``columns``."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What other targets count: heads, keys, neurons kept."""
    shares: Shares | None = None
    """What is left of everything that is not counted in weights; None: all of it."""
    more: tuple[Shares, ...] = ()
    """Of further interventions at the same time; what is left of each is multiplied, as if they chose independently."""

    @property
    def n_kept(self) -> int:
        """Weights of the scope that are not zero."""
        return sum(count.n_kept for count in self.counts)

    def as_text(self) -> str:
        """As JSON, for what a stopped sweep goes on from."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Cost:
        """What `as_text` gave."""
        found = json.loads(text)
        found["counts"] = tuple(MatrixCount(**count) for count in found["counts"])
        found["more"] = tuple(Shares(**shares) for shares in found["more"])
        return cls(**{**found, "shares": None if found["shares"] is None else Shares(**found["shares"])})


class Held(ABC):
    """A live model held by an intervention, inside its ``with`` block."""

    facts: Mapping[str, Any]
    """As JSON: method, scope, structure, ratio, variant, seed, what was skipped and why."""
    levels: tuple[float, ...] | None = None
    """The only levels there are (points, patterns); None where any level from 0 to 1 can be asked for."""

    @abstractmethod
    def at(self, level: float) -> Applied:
        """Set the live model to a level, from whatever it was at."""

    @abstractmethod
    def cost(self, level: float) -> Cost:
        """What is left at a level; the live model is not touched."""

    def measured_share(self) -> float | None:
        """Share removed of the denominator since the last `at`, counted while the model ran; None where nothing ran, or `at` knew it."""
        return None


class Intervention(ABC):
    """One way of making a model sparser. Values, not state: what is held lives in `Held`."""

    @property
    @abstractmethod
    def slug(self) -> str:
        """Name in the store and on the command line; with its options, so that two of them never share one."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Shown to people."""

    target: ClassVar[Target]

    @property
    def kind(self) -> InterventionKind:
        """Which levels it has; `Held.levels` says which, of all but a curve."""
        return "curve"

    @property
    def needs(self) -> frozenset[Need]:
        """What `on` must be given as calibration; empty where it needs none."""
        return frozenset()

    @property
    def nested(self) -> bool:
        """Whether what is removed at a level stays removed at higher ones."""
        return True

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the definition comes from."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to be shown with its numbers: how it differs from what its source does, and what they hang on."""
        return ()

    @abstractmethod
    def on(self, subject: Any, calibration: Calibration | None = None) -> AbstractContextManager[Held]:
        """Hold the model of a subject (anything with a ``model``). One at a time on a model."""

    @contextmanager
    def apply(self, subject: Any, level: float, calibration: Calibration | None = None) -> Iterator[Applied]:
        """Hold the model at one level."""
        with self.on(subject, calibration) as held:
            yield held.at(level)


def one_draw(n: int) -> str:
    """The note of a method with random choices, of whose numbers a spread over ``n`` draws or more should be shown."""
    return f"One draw, from the seed: how much the numbers vary is seen only in further runs with other seeds, {n} draws or more."


def check_level(level: float) -> float:
    """A level, 0 to 1. Raises `UserError`."""
    if not 0.0 <= level <= 1.0:
        raise UserError(f"a level must be between 0 and 1, got {level!r}; give the share to remove.")
    return float(level)
