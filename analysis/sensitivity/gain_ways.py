"""Ways of making a model really smaller, each with the intervention whose cost and answer it stands for.

    for cut in way_of("ranks").cuts(subject, calibration, [0.5], answer):  cut.make()   # answers as cut.answer, costs cut.cost

Which units go changes no time, only how many: those are taken that leave every layer the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.spec import UnknownName

if TYPE_CHECKING:
    from torch import nn

    from analysis.interventions.spec import Cost


@dataclass(frozen=True)
class Cut:
    """One level of one way: what the ablated model answered and costs, and how the smaller one is made, once nothing is held."""

    level: float
    achieved: float
    cost: Cost
    answer: Any
    make: Callable[[], nn.Module]


Cuts = Callable[[Any, Any, list[float], Callable[[], Any]], list[Cut]]
"""From a subject, its calibration, levels and what asks the model, to what each level leaves; nothing is held any more."""


@dataclass(frozen=True)
class Way:
    """What is cut out of the tensors."""

    slug: str
    method: str
    """The intervention of the catalogue with the same cost."""
    words: str
    cuts: Cuts


def way_of(slug: str) -> Way:
    """The way of that name. Raises `UnknownName`."""
    for way in WAYS:
        if way.slug == slug:
            return way
    raise UnknownName(f"units must be of {', '.join(way.slug for way in WAYS)}, got {slug!r}; name some of them.")


def _units(of: str) -> Cuts:
    """Whole units: heads that share keys and values, the last neurons of every FFN, the last blocks."""

    def cuts(subject: Any, calibration: Any, levels: list[float], answer: Callable[[], Any]) -> list[Cut]:
        from analysis.capture.running import unwrapped
        from analysis.interventions.structure.base import HeldStructure
        from analysis.interventions.structure.heads import HeadPrefixes
        from analysis.interventions.structure.layers import EarlyExit
        from analysis.interventions.structure.neurons import Prefixes
        from analysis.interventions.structure.smaller import smaller

        method = {"heads": HeadPrefixes, "neurons": Prefixes, "blocks": EarlyExit}[of]()
        model, found = unwrapped(subject.model), []
        with method.on(subject, calibration) as held:
            assert isinstance(held, HeldStructure)
            plan = held.plan
            for level in _whole(plan, levels) if of == "heads" else levels:
                applied = held.at(level)
                if not held.gone.any() or held.gone.all():
                    continue
                gone = held.gone.copy()
                found.append(Cut(level, applied.achieved, held.cost(level), answer(), lambda gone=gone: smaller(model, plan, gone)))
        return found

    return cuts


def _whole(plan: Any, levels: list[float]) -> list[float]:
    """The nearest levels at which each layer loses equally many groups of heads that share keys, but not all."""
    groups = sum(part.together for part in plan.parts) // max(1, len(plan.spots))
    nearest = (min(max(round(level * groups), 1), groups - 1) for level in levels)
    return list(dict.fromkeys(n / groups for n in nearest if n > 0))


def _ranks(subject: Any, calibration: Any, levels: list[float], answer: Callable[[], Any]) -> list[Cut]:
    """Every matrix as two."""
    from analysis.capture.running import unwrapped
    from analysis.interventions.scope import weight_scope
    from analysis.interventions.structure.factored import factored
    from analysis.interventions.structure.rank import HeldRank, MatrixRank

    model, found = unwrapped(subject.model), []
    scope = weight_scope(model)
    with MatrixRank().on(subject, calibration) as held:
        assert isinstance(held, HeldRank)
        known = held.directions_of
        for level in levels:
            achieved = held.at(level).achieved
            make = lambda level=level: factored(model, scope, known, level)  # noqa: E731
            found.append(Cut(level, achieved, held.cost(level), answer(), make))
    return found


def _dimensions(subject: Any, calibration: Any, levels: list[float], answer: Callable[[], Any]) -> list[Cut]:
    """Blocks on fewer numbers a token."""
    from analysis.capture.running import unwrapped
    from analysis.interventions.structure.sliced_model import sliced
    from analysis.interventions.structure.slicing import HeldSlices, SlicedDimensions

    model, found = unwrapped(subject.model), []
    with SlicedDimensions().on(subject, calibration) as held:
        assert isinstance(held, HeldSlices)
        for level in levels:
            achieved = held.at(level).achieved
            make = lambda kept=held.kept: sliced(model, calibration.batches[0], held.stream, held.bases, kept)  # noqa: E731
            found.append(Cut(level, achieved, held.cost(level), answer(), make))
    return found


WAYS = (
    Way("heads", "heads", "attention heads, all that share their keys and values together", _units("heads")),
    Way("neurons", "ffn-neurons", "neurons of every FFN", _units("neurons")),
    Way("blocks", "blocks", "whole blocks", _units("blocks")),
    Way("ranks", "matrix-rank", "every matrix as two, where these are smaller", _ranks),
    Way("dimensions", "stream-dimensions", "dimensions of the stream within blocks; embedding and head at full width", _dimensions),
)
