"""What interventions on structure share: units in an order fitted once, the first of them gone at a level, and what they would save.

1. `plan` finds the units (heads, neurons, sublayers, blocks) by running the model once; `scores` says what each is worth, from the
   calibration split. The least worth go first, equal ones in the order of the model: level s removes floor(s n) of n units, nested.
2. A unit that is gone gives zero (or its mean) in every pass, by hooks: columns of what a matrix reads, what a sublayer adds to the
   stream; a block gives back what it was given. Nothing is written into weights; at level 0 no tensor is touched.
3. `Part`: what could be left out of the tensors once some units are gone. Exact, from the structure, the same for every token.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from analysis.interventions.activations.base import Setting, example_of
from analysis.interventions.spec import Applied, Cost, Held, Shares, check_level
from analysis.interventions.structure.named import NamedMethod
from analysis.interventions.structures import removed_of
from analysis.spec import IncompatibleSubject, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site


@dataclass(frozen=True)
class Spot:
    """Where some units are: equal parts of what flows past a site, side by side, or one whole block."""

    first: int
    """Number of its first unit."""
    n: int
    label: str
    """Of the layer, for people: the block's or module's path."""
    site: Site | None = None
    block: str | None = None


@dataclass(frozen=True)
class Part:
    """What is saved once units are gone: in proportion to how many, or only when all of them are."""

    first: int
    n: int
    saves: Mapping[str, float]
    """By parameter: share of it that goes with all these units."""
    together: bool = False
    """Only once all are gone: keys and values that several heads share."""
    pairs: float = 0.0
    """Share of the model's query-key products that goes with them."""
    keys: float = 0.0
    """Share of its stored keys and values."""


@dataclass(frozen=True)
class Plan:
    """The units of a model."""

    spots: tuple[Spot, ...]
    parts: tuple[Part, ...]
    noun: str
    """Plural, e.g. ``heads``."""

    @property
    def n(self) -> int:
        """Units; one may be at several spots."""
        return max((spot.first + spot.n for spot in self.spots), default=0)

    @property
    def denominator(self) -> str:
        """What a share is a share of."""
        return f"{self.n:,} {self.noun} of {len(self.spots)} layers" if self.n > len(self.spots) else f"{self.n:,} {self.noun}"


@dataclass(frozen=True)
class StructureMethod(NamedMethod):
    """Base of the methods that take units away."""

    factor: ClassVar[float] = 0.0
    """What a unit that is gone is multiplied by."""

    @abstractmethod
    def plan(self, model: nn.Module, example: Any) -> Plan:
        """The units. Raises `IncompatibleSubject` where there are none."""

    @abstractmethod
    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """What each unit is worth [units]; the lowest go first. Measured on the dense model."""

    def fills(self, setting: Setting) -> Mapping[str, Tensor]:
        """By site name: what stands in for the entries that are gone [width]; empty: zero."""
        del setting
        return {}

    @contextmanager
    def on(self, subject: Any, calibration: Any = None) -> Iterator[Held]:
        """Hold the model."""
        from analysis.capture.running import unwrapped

        model = unwrapped(subject.model)
        example = example_of(subject, calibration)
        plan = self.plan(model, example)
        setting = Setting(model, [spot.site for spot in plan.spots if spot.site is not None], calibration, example)
        held = HeldStructure(self, plan, self.scores(setting, plan), self.fills(setting), _in_scope(model), setting.facts)
        with ablated(model, plan, held):
            yield held


class Ablation:
    """Which units are gone, and what their places go on with; also the observer of the model's passes."""

    def __init__(self, plan: Plan, fills: Mapping[str, Tensor] | None = None, factor: float = 0.0) -> None:
        self.plan, self.gone = plan, np.zeros(plan.n, bool)
        self._fills, self._factor = fills or {}, factor
        self._spots = {spot.site.name: spot for spot in plan.spots if spot.site is not None}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Tensor | None:
        """What the site goes on with; None: what it has."""
        import torch

        del rows
        spot = self._spots[site.name]
        gone = self.gone[spot.first : spot.first + spot.n]
        if not gone.any() or not len(values):
            return None
        mask = torch.from_numpy(np.repeat(gone, values.shape[-1] // spot.n)).to(values.device)
        fill = self._fills.get(site.name)
        return torch.where(mask, values * self._factor if fill is None else fill.to(values), values)

    def is_gone(self, spot: Spot) -> bool:
        """Whether a block is."""
        return bool(self.gone[spot.first])


@contextmanager
def ablated(model: nn.Module, plan: Plan, ablation: Ablation) -> Iterator[None]:
    """While inside, every call of the model goes without the units that are gone; on exit, also on error, it is as before."""
    from analysis.capture.calling import observing_calls

    with contextlib.ExitStack() as stack:
        for spot in plan.spots:
            if spot.block is not None:
                handle = model.get_submodule(spot.block).register_forward_hook(_identity(ablation, spot), with_kwargs=True)
                stack.callback(handle.remove)
        sites = [spot.site for spot in plan.spots if spot.site is not None]
        if sites:
            stack.enter_context(observing_calls(model, sites, ablation))
        yield


def _identity(ablation: Ablation, spot: Spot) -> Any:
    """The hook of a block: what it was given in place of what it made, whatever else it returns."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
        del module
        if not ablation.is_gone(spot):
            return None
        given = stream_of(args, kwargs)
        return given if not isinstance(output, tuple) else (given, *output[1:])

    return hook


def stream_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a block is given: its first argument."""
    return args[0] if args else next(iter(kwargs.values()), None)


class HeldStructure(Held, Ablation):
    """A model whose structure is held."""

    def __init__(
        self, method: StructureMethod, plan: Plan, scores: np.ndarray, fills: Mapping[str, Tensor], scope: frozenset[str],
        facts: Mapping[str, Any],
    ) -> None:  # fmt: skip
        Ablation.__init__(self, plan, fills, method.factor)
        if scores.shape != (plan.n,) or not np.isfinite(scores).all():
            raise UserError(
                f"the scores of {method.name} must be finite, one for each of {plan.n} units, got others; give other documents."
            )
        self._method, self._scope = method, scope
        self.order = np.argsort(scores, kind="stable")
        """Units, the first to go first."""
        self.levels = None
        first = [self._label(unit) for unit in self.order[:8].tolist()]
        self.facts = {"method": method.slug, "units": plan.n, "seed": method.seed, "first_to_go": first, **facts}

    def at(self, level: float) -> Applied:
        """Set the level: exactly floor(level n) of n units are gone."""
        n = removed_of(self.plan.n, check_level(level))
        self.gone[:] = False
        self.gone[self.order[:n]] = True
        return Applied(level, n / self.plan.n, self.plan.denominator, float(n), f"{self.plan.noun} removed")

    def cost(self, level: float) -> Cost:
        """What is left of a model whose tensors go without these units."""
        if level == 0.0:
            return Cost(level)
        n = removed_of(self.plan.n, check_level(level))
        gone = np.zeros(self.plan.n, bool)
        gone[self.order[:n]] = True
        by_layer: dict[str, int] = {}
        for spot in self.plan.spots:
            by_layer[spot.label] = by_layer.get(spot.label, 0) + int((~gone[spot.first : spot.first + spot.n]).sum())
        return Cost(level, facts={"units": self.plan.n, "removed": n, "kept_by_layer": by_layer}, shares=self._shares(gone))

    def _shares(self, gone: np.ndarray) -> Shares:
        removed: dict[str, float] = {}
        pairs = keys = 0.0
        for part in self.plan.parts:
            share = float(gone[part.first : part.first + part.n].mean())
            share = float(share == 1.0) if part.together else share
            pairs, keys = pairs + share * part.pairs, keys + share * part.keys
            for name, saved in part.saves.items():
                if name in self._scope:
                    removed[name] = removed.get(name, 0.0) + share * saved
        left = {name: min(1.0, max(0.0, 1.0 - share)) for name, share in removed.items()}
        held = max(0.0, 1.0 - keys)
        return Shares(products=left, touched=dict(left), static=True, pairs=max(0.0, 1.0 - pairs), keys_read=held, keys_held=held)

    def _label(self, unit: int) -> str:
        spot = next(spot for spot in self.plan.spots if spot.first <= unit < spot.first + spot.n)
        return spot.label if spot.n == 1 else f"{spot.label} {unit - spot.first}"


def _in_scope(model: nn.Module) -> frozenset[str]:
    from analysis.interventions.scope import weight_scope

    return frozenset(member.name for member in weight_scope(model).members)


def task_of(setting: Setting, name: str) -> Any:
    """What the model was asked on the calibration split. Raises `IncompatibleSubject` where there are no answers to lose."""
    task = getattr(setting.calibration, "task", None)
    if task is None:
        raise IncompatibleSubject(f"{name} must be given a task with answers, got none; give data with answers, or choose another order.")
    return task


class Orderless:
    """For methods whose order is where the units lie: the last ones go first."""

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Place within its layer, the last one lowest; of equal places in the order of layers."""
        del setting
        return np.concatenate([-np.arange(spot.n, dtype=np.float64) / spot.n for spot in plan.spots])
