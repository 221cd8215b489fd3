"""Two interventions at once: one that runs through its levels while others stay at theirs, to see whether what they cost adds up.

All are held at level 0 first, so that each looks at the dense model when it makes its thresholds; then the others are set. Level 0 of
the whole is the others alone, not the dense model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from analysis.interventions.spec import Applied, Calibration, Cost, Held, Intervention, InterventionKind, Need, Shares, Target
from analysis.spec import Source


@dataclass(frozen=True)
class Combined(Intervention):
    """``first`` at every level, ``other`` at one."""

    first: Intervention
    other: Intervention
    at: float
    """Level of the other."""

    @property
    def target(self) -> Target:  # pyright: ignore[reportIncompatibleVariableOverride] - that of the first
        """See `Intervention`."""
        return self.first.target

    @property
    def slug(self) -> str:
        """See `Intervention`."""
        return f"{self.first.slug} + {self.other.slug}@{self.at:g}"

    @property
    def title(self) -> str:
        """See `Intervention`."""
        return f"{self.first.title}, with {self.other.title} at {self.at:g}"

    @property
    def kind(self) -> InterventionKind:
        """As the first."""
        return self.first.kind

    @property
    def needs(self) -> frozenset[Need]:
        """Of both."""
        return self.first.needs | self.other.needs

    @property
    def nested(self) -> bool:
        """As the first."""
        return self.first.nested

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of both."""
        return (*self.first.sources, *self.other.sources)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of both, each once."""
        return tuple(dict.fromkeys((*self.first.notes, *self.other.notes)))

    @contextmanager
    def on(self, subject: Any, calibration: Calibration | None = None) -> Iterator[HeldCombined]:
        """See `Intervention`. Refused with a sentence where both hold the same weights."""
        with ExitStack() as stack:
            held = [stack.enter_context(one.on(subject, calibration)) for one in (self.other, self.first)]
            for one in held:
                one.at(0.0)
            yield HeldCombined(held[1], held[0], self.at)


class HeldCombined(Held):
    """A model held by both."""

    def __init__(self, first: Held, other: Held, at: float) -> None:
        self.first, self.other, self._at = first, other, at
        self.levels = first.levels
        self.facts = {"first": dict(first.facts), "other": dict(other.facts), "other_level": at}

    def at(self, level: float) -> Applied:
        """The other is set anew, so that both count from here."""
        beside = self.other.at(self._at)
        found = self.first.at(level)
        note = f"beside {self._at:g} of {beside.denominator}"
        return Applied(level, found.achieved, found.denominator, found.native_value, found.native_unit, (), (*found.notes, note))

    def cost(self, level: float) -> Cost:
        """Of both: pruned weights of one, and what the shares of both leave."""
        one, other = self.first.cost(level), self.other.cost(self._at)
        counts, layout = (one.counts, one.layout) if one.counts else (other.counts, other.layout)
        return Cost(level, counts, layout, {}, one.shares or other.shares, () if one.shares is None else _given(other.shares))

    def measured_share(self) -> float | None:
        """Of the first."""
        return self.first.measured_share()


def _given(shares: Shares | None) -> tuple[Shares, ...]:
    return () if shares is None else (shares,)
