"""What interventions on activations share: places are held by hooks, entries removed token by token, and counted while the model runs.

1. `on` finds the sites (what FFNs hand to their last matrix, unless a method says otherwise) by running the model once.
2. `ActivationMethod.prepare` makes thresholds from the calibration split; what it returns gives the rule of a level.
3. At every pass the rule says what each site goes on with, and which entries are kept. Rows of padding are neither changed nor counted.
   At level 0 nothing is touched: the model's own operators run on its own tensors.
4. Removed is what is zero afterwards: entries that a ReLU made zero count, since whatever skips the one skips the other.
   A level is planned; what was achieved is known once the model has run (`Held.measured_share`).
5. What a removed entry saves is named by the method: columns of the last matrix always, rows of gate and up only where the choice does
   not need what they compute. Of B tokens `cost` takes the union.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from analysis.interventions.named import Named
from analysis.interventions.spec import Held, InterventionKind
from analysis.models.placement import weight_values
from analysis.spec import IncompatibleSubject, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Frame, Site
    from analysis.interventions.entry import RunsOn

Role = Literal["gate", "up", "down"]
"""Matrices of an FFN: whose output is activated, what it is multiplied by (the same as gate where there is one only), the last."""


@dataclass(frozen=True)
class Seen:
    """What flows past a site in one pass."""

    site: Site
    values: Tensor
    """[n, width], real tokens only; not to be written to."""
    rows: Tensor | None
    """[n]: each one's index in the flattened [batch, positions]; None: all, in order."""
    frame: Frame
    gate: Tensor | None = None
    """act(gate) [n, width] of gated units, where the method asks for it."""
    up: Tensor | None = None
    examples: int = 1
    """Of the batch."""


class Changed(NamedTuple):
    """What a site goes on with."""

    values: Tensor
    """[n, width]."""
    kept: Tensor
    """bool [n, width]: entries that are computed; of fewer rows where the denominator leaves some out, which are computed in full."""


def masked(values: Tensor, keep: Tensor) -> Changed:
    """Zeros where ``keep`` [n, width] is False; what was zero before counts as removed."""
    return Changed(values.masked_fill(~keep, 0), keep & (values != 0))


class Rule(ABC):
    """A method at one level."""

    native_value: float | None = None
    native_unit: str | None = None
    planned: float | None = None
    """Share it removes, where that is known before anything runs."""

    def facts(self) -> Mapping[str, Any]:
        """What it found while the model ran, as JSON."""
        return {}

    def passing(self) -> contextlib.AbstractContextManager[Any]:
        """A block that one pass runs in."""
        return contextlib.nullcontext()

    @abstractmethod
    def change(self, seen: Seen) -> Changed:
        """What one site goes on with; the very same tensor where nothing changes."""


@dataclass
class Setting:
    """What a method is prepared on."""

    model: nn.Module
    sites: Sequence[Site]
    calibration: Any
    example: Any
    """A batch the model can be run on."""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def batches(self) -> Sequence[Any]:
        """The calibration split. Raises `UserError` where there is none."""
        batches = getattr(self.calibration, "batches", ())
        if not batches:
            raise UserError("the calibration must hold its batches for this method, got none; calibrate with the need 'values'.")
        return batches

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made of the calibration before, by this method or another; else made now, on the dense model."""
        kept = self.calibration.derived
        return kept[key] if key in kept else kept.setdefault(key, make())


@dataclass(frozen=True)
class ActivationMethod(Named):
    """Base of the methods."""

    target = "activations"
    skips: ClassVar[tuple[Role, ...]] = ("down",)
    """Matrices whose rows or columns a removed entry saves."""
    factors: ClassVar[bool] = False
    """Whether act(gate) and up are handed over."""
    kinds: ClassVar[tuple[str, ...]] = ("ffn",)
    point: ClassVar[bool] = False
    static: ClassVar[bool] = False
    """Whether the same entries are removed of every token."""
    runs_on: ClassVar[RunsOn] = "gathers"
    needs_causal: ClassVar[bool | None] = None
    denominator: ClassVar[str] = "inner activations of {n} FFNs, real tokens"

    @property
    def kind(self) -> InterventionKind:
        """Points have one level beside 0."""
        return "point" if self.point else "curve"

    def sites(self, model: nn.Module, example: Any) -> list[Site]:
        """Where it acts. Raises `IncompatibleSubject` where there is no such place."""
        from analysis.capture import find_sites

        found = [site for site in find_sites(model, example) if site.kind in self.kinds and site.role == "input" and self.suits(site)]
        if not found:
            raise IncompatibleSubject(f"{self.name} must be given a model with {self.wanted}, got none; choose another intervention.")
        return found

    wanted: ClassVar[str] = "an FFN whose inner activation can be found"

    def suits(self, site: Site) -> bool:
        """Whether it acts there."""
        del site
        return True

    def counts(self, site: Site) -> bool:
        """Whether entries of this site are removed; others are only looked at."""
        del site
        return True

    def saved(self, model: nn.Module, site: Site) -> Mapping[str, float]:
        """By parameter: share of it that is saved where all entries of the site are removed."""
        del model
        gate, up = (site.producers or ("", ""))[0], (site.producers or ("", ""))[-1]
        of: dict[str, str] = {"gate": gate, "up": up, "down": site.weight or ""}
        halves = {gate} if site.gated and gate == up else set()
        found: dict[str, float] = {}
        for role in dict.fromkeys(self.skips) if site.gated else dict.fromkeys("down" if r == "down" else "up" for r in self.skips):
            if name := of[role]:
                found[name] = found.get(name, 0.0) + (0.5 if name in halves else 1.0)
        return found

    def worth(self, model: nn.Module, site: Site) -> float:
        """How much an entry of this site counts in the denominator."""
        del model, site
        return 1.0

    def overhead(self, model: nn.Module, site: Site) -> float:
        """FLOPs of the choice per token, those of the places it acts on: a comparison an entry."""
        del model
        return float(site.width or 0)

    def overhead_bytes(self, model: nn.Module, site: Site) -> float:
        """Weights that the choice has of its own."""
        del model, site
        return 0.0

    @abstractmethod
    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """From the calibration to the rule of every level above 0."""

    @contextmanager
    def on(self, subject: Any, calibration: Any = None) -> Iterator[Held]:
        """Hold the model."""
        from analysis.capture.calling import observing_calls
        from analysis.capture.running import unwrapped
        from analysis.interventions.activations.held import HeldActivations

        model = unwrapped(subject.model)
        example = example_of(subject, calibration)
        setting = Setting(model, self.sites(model, example), calibration, example)
        held = HeldActivations(self, setting, self.prepare(setting))
        with observing_calls(model, setting.sites, held, held.passing):
            yield held


def example_of(subject: Any, calibration: Any) -> Any:
    """A batch to find sites on: the first of the calibration split, else two tiny examples made without data."""
    batches = getattr(calibration, "batches", ())
    return batches[0] if batches else subject.probe_batch()


def last_matrix(model: nn.Module, site: Site) -> Tensor:
    """The matrix [d_out, width] that reads the site's values."""
    matrix = weight_values(model, site.weight or "")
    matrix = matrix[site.expert] if site.expert is not None and matrix.ndim == 3 else matrix  # noqa: PLR2004 - a stack of matrices
    return matrix.T if site.transposed else matrix
