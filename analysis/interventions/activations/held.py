"""A model whose activations are held: the observer of its passes, and what it counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import ActivationMethod, Rule, Seen, Setting
from analysis.interventions.spec import Applied, Cost, Held, Shares, check_level
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Frame, Site


@dataclass
class Tally:
    """Entries of one site, counted."""

    n: int = 0
    """Of the denominator."""
    kept: int = 0
    every: int = 0
    """All that passed."""
    tokens: int = 0


class HeldActivations(Held):
    """A model whose activations are held; also the observer of its passes."""

    def __init__(self, method: ActivationMethod, setting: Setting, rules: Callable[[float], Rule]) -> None:
        self._method, self._setting, self._rules = method, setting, rules
        self.factors = method.factors
        self.levels = (0.0, 1.0) if method.point else None
        self.facts = {"method": method.slug, "seed": method.seed, **setting.facts}
        self._level: float = 0.0
        self._rule: Rule | None = None
        self._frame: Frame | None = None
        self._examples, self._n_examples = 1, 0
        self._tallies: dict[str, Tally] = {}
        self._sites = [site for site in setting.sites if method.counts(site)]
        self._denominator = method.denominator.format(n=f"{len({s.group or s.name for s in self._sites}):,}")

    def at(self, level: float) -> Applied:
        """Set the level; what is removed is known when the model has run."""
        self._level = check_level(level)
        if self.levels is not None and level not in self.levels:
            raise UserError(f"a level of {self._method.slug} must be 0 or 1, got {level}; it has no others.")
        self._rule = None if level == 0.0 else self._rules(level)
        self._tallies, self._n_examples = {}, 0
        native, unit = (None, None) if self._rule is None else (self._rule.native_value, self._rule.native_unit)
        planned = None if self._rule is None else self._rule.planned
        guess = 0.0 if self._method.point else level
        return Applied(level, guess if planned is None else planned, self._denominator, native, unit)

    def measured_share(self) -> float | None:
        """Entries removed since the last `at`, of all the model made at the sites; None where nothing ran."""
        if self._level == 0.0 or not self._n:
            return None
        return 1.0 - self._kept_share

    def cost(self, level: float) -> Cost:
        """What was counted at this level; what is planned where nothing has run at it."""
        if level == 0.0:
            return Cost(level)
        known = level == self._level and self._n > 0
        planned = 1.0 if self._method.point else 1.0 - level
        kept = {site.name: self._share_of(site) if known else planned for site in self._sites}
        by_layer: dict[int, list[float]] = {}
        for site in self._sites:
            by_layer.setdefault(site.layer, []).append(kept[site.name])
        facts: dict[str, Any] = {
            "counted": known,
            "kept": self._kept_share if known else planned,
            "kept_by_layer": {str(layer): sum(shares) / len(shares) for layer, shares in sorted(by_layer.items())},
        }
        facts |= self._rule.facts() if known and self._rule is not None else {}
        return Cost(level, facts=facts, shares=self._shares(known, planned))

    def _shares(self, known: bool, planned: float) -> Shares:
        method, model, sites = self._method, self._setting.model, self._sites
        removed: dict[str, float] = {}
        seen: dict[str, list[float]] = {}
        for site in sites:
            tally = self._tallies.get(site.name, Tally())
            n, every, gone = (tally.n, tally.every, tally.n - tally.kept) if known else (1, 1, 1 - planned)
            for name, part in method.saved(model, site).items():
                removed[name] = removed.get(name, 0.0) + part * gone
                before = seen.get(name, [0.0, 0.0])
                seen[name] = [before[0] + n, before[1] + every]
        products, touched = ({name: _left(removed[name], of[i]) for name, of in seen.items()} for i in (1, 0))
        # Of experts only those that a token was sent to choose anything.
        tokens = max((tally.tokens for tally in self._tallies.values()), default=0)
        ran = {site.name: self._tallies.get(site.name, Tally()).tokens / tokens if known else 1.0 for site in sites}
        flops, read = (sum(of(model, site) * ran[site.name] for site in sites) for of in (method.overhead, method.overhead_bytes))
        own = sum(method.overhead_bytes(model, site) for site in sites)
        return Shares(
            products=products, touched=touched, static=method.static, overhead_flops=flops, rows=tokens / max(1, self._n_examples) or 1.0,
            overhead_bytes=own, overhead_touched=read / own if own else 1.0,
        )  # fmt: skip

    # -- as observer --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def passing(self, frame: Frame, given: Mapping[str, Any]) -> Iterator[None]:
        """One call of the model."""
        from analysis.capture.operators import tensors_in

        first = next(tensors_in(given), None)
        self._frame, self._examples = frame, len(first) if first is not None and first.ndim else 1
        self._n_examples += 0 if self._rule is None else self._examples
        try:
            with contextlib.nullcontext() if self._rule is None else self._rule.passing():
                yield
        finally:
            self._frame = None

    def values(self, site: Site, values: Tensor, rows: Tensor | None, *factors: Tensor | None) -> Tensor | None:
        """What the site goes on with; None: what it has. ``factors``: act(gate) and up where the method asks for them."""
        if self._rule is None or not len(values):
            return None
        assert self._frame is not None
        gate, up = factors or (None, None)
        changed = self._rule.change(Seen(site, values, rows, self._frame, gate, up, self._examples))
        tally = self._tallies.setdefault(site.name, Tally())
        tally.n += changed.kept.numel()
        tally.kept += int(changed.kept.count_nonzero())
        tally.every += values.numel()
        tally.tokens += len(values)
        return None if changed.values is values else changed.values.to(values.dtype)

    @property
    def _n(self) -> int:
        return sum(tally.n for tally in self._tallies.values())

    @property
    def _kept_share(self) -> float:
        worth = {site.name: self._method.worth(self._setting.model, site) for site in self._sites}
        n, kept = (sum(w * getattr(self._tallies.get(name, Tally()), of) for name, w in worth.items()) for of in ("n", "kept"))
        return kept / n

    def _share_of(self, site: Site) -> float:
        tally = self._tallies.get(site.name)
        return 1.0 if tally is None or not tally.n else tally.kept / tally.n


def _left(removed: float, of: float) -> float:
    return 1.0 - removed / of if of else 1.0
