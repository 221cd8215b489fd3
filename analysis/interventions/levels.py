"""Which level is measured next: a fixed list, or a coarse grid with bisection where the curve leaves its tolerances.

1. Coarse: 0, 0.1, ..., 0.9, upwards, and no further once the loss has collapsed.
2. Where even 0.9 is within the largest tolerance: 0.95, 0.98, 0.99.
3. Around each tolerance that noise allows to be resolved, the bracket of the curve is halved until it is narrow, then twice that for
   both ends of its band, since the interval of a drop point is read off where they cross.

The choice depends on what has been measured only, so a stopped sweep goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.spec import UserError
from analysis.stats.paired import resolved

ADAPTIVE = "adaptive"
COARSE = tuple(round(0.1 * i, 1) for i in range(10))
BEYOND = (0.95, 0.98, 0.99)
COLLAPSED = 3.0
"""Nats (or the relative error) above the dense loss: nothing is learned beyond."""
_FINEST = 0.001
_DIGITS = 6


@dataclass(frozen=True)
class Estimate:
    """An increase over the dense model at one level, with its 95 % interval over documents. Infinite where the loss is."""

    value: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Levels:
    """How levels are chosen."""

    tolerances: tuple[float, ...]
    """In the unit of the increase, ascending."""
    fixed: tuple[float, ...] | None = None
    """All of them, ascending; None for adaptive ones."""
    resolution: float = 0.0125
    """Widest bracket around a crossing."""
    collapsed: float = COLLAPSED
    stops: bool = False
    """Whether fixed levels end, too, once the loss has collapsed; adaptive ones always do."""
    highest: float = 1.0
    """Of adaptive levels: none above, since shares per matrix cannot reach them."""

    @classmethod
    def of(
        cls, text: str, tolerances: Sequence[float], resolution: float = 0.0125, collapsed: float = COLLAPSED, stops: bool = False
    ) -> Levels:
        """From ``adaptive`` or a list as in ``0, 0.3, 0.5``; level 0 is always among them."""
        fixed = None if text.strip() == ADAPTIVE else tuple(sorted({0.0, *numbers(text, "levels", 0.0, 1.0)}))
        return cls(tuple(sorted(tolerances)), fixed, resolution, collapsed, stops)

    def next(self, curve: Mapping[float, Estimate]) -> float | None:
        """The level to measure next, given those measured; None where there is none left."""
        return next(self.ahead(curve), None)

    def ahead(self, curve: Mapping[float, Estimate]) -> Iterator[float]:
        """The level to measure next, then those that will be wanted after it, as far as can be told; some may not be in the end."""
        if self.fixed is not None:
            if not (self.stops and any(one.value > self.collapsed for one in curve.values())):
                yield from (level for level in self.fixed if level not in curve)
            return
        for level in (*COARSE, *BEYOND):
            below = [curve[one].value for one in curve if one < level]
            if level > self.highest or any(value > self.collapsed for value in below):
                break
            if level in BEYOND and any(value > self.tolerances[-1] for value in below):
                break
            if level not in curve:
                yield level
        yield from self._bisection(curve)

    def expected(self, curve: Mapping[float, Estimate]) -> int:
        """About how many levels there will be in all: for the progress bar."""
        if self.fixed is not None:
            return len(self.fixed)
        return max(len(COARSE) + 4, len(curve) + 1)

    def _bisection(self, curve: Mapping[float, Estimate]) -> Iterator[float]:
        levels = sorted(curve)
        found: set[float] = set()
        for widest, end in ((self.resolution, "value"), (2 * self.resolution, "high"), (2 * self.resolution, "low")):
            for eps in self.tolerances:
                bracket = _bracket(levels, [getattr(curve[level], end) for level in levels], eps)
                if bracket is None or not _worth(curve[bracket[0]], curve[bracket[1]], eps):
                    continue
                # A drop point close to 0 is bracketed to a quarter of itself, or it would be nothing but interpolation.
                if bracket[1] - bracket[0] <= min(widest, max(_FINEST, 0.25 * bracket[1])) + 1e-9:
                    continue
                middle = round((bracket[0] + bracket[1]) / 2, _DIGITS)
                if middle not in found:
                    found.add(middle)
                    yield middle


def _worth(below: Estimate, above: Estimate, eps: float) -> bool:
    """Whether the noise at the crossing, linear between the levels around it, leaves anything to resolve."""
    error = below.standard_error
    if math.isfinite(above.value) and math.isfinite(above.standard_error) and above.value > below.value:
        share = min(1.0, max(0.0, (eps - below.value) / (above.value - below.value)))
        error += share * (above.standard_error - error)
    return resolved(error, eps) or math.isinf(error)  # infinite: one document only, whose noise nobody knows


def _bracket(levels: Sequence[float], values: Sequence[float], eps: float) -> tuple[float, float] | None:
    """The neighbouring levels between which the curve first leaves the tolerance; None where it does not, or from the first one on."""
    for i, value in enumerate(values):
        if value > eps:
            return None if i == 0 else (levels[i - 1], levels[i])
    return None


def numbers(text: str, what: str, low: float, high: float) -> list[float]:
    """A list of numbers as people type it, each between the bounds; `UserError` in a sentence otherwise."""
    try:
        found = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"{what} must be numbers with commas between, got {text!r}; write for example 0.1, 0.5.") from error
    if not found or not all(low <= one <= high for one in found):
        raise UserError(f"{what} must be at least one number between {low:g} and {high:g}, got {text!r}; write for example 0.1, 0.5.")
    return found
