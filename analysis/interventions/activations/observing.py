"""What flows inside the dense model on the calibration split, taken down once for all methods that ask the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.sketch import Magnitudes
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Frame, Site
    from analysis.interventions.activations.base import Seen, Setting

Look = Callable[["Seen"], None]


class _Looker:
    def __init__(self, look: Look, factors: bool) -> None:
        self._look, self.factors = look, factors
        self.frame: Frame | None = None
        self.examples = 1

    def values(self, site: Site, values: Tensor, rows: Tensor | None, *factors: Tensor | None) -> None:
        """Show one site."""
        from analysis.interventions.activations.base import Seen

        assert self.frame is not None
        if len(values):
            gate, up = factors or (None, None)
            self._look(Seen(site, values, rows, self.frame, gate, up, self.examples))


def observe(setting: Setting, look: Look, *, factors: bool = False) -> None:
    """Run the dense model over the calibration split and show every site's rows of real tokens; ``factors``: act(gate) and up too."""
    from analysis.capture import Frame, capture
    from analysis.interventions.reading import examples_in

    looker = _Looker(look, factors)
    with capture(setting.model, setting.sites, looker) as session:
        for batch in setting.batches:
            looker.frame, looker.examples = Frame.of(batch), examples_in(batch)
            session.run(batch, looker.frame)


def magnitudes(setting: Setting) -> dict[str, Magnitudes]:
    """|x| of what each site hands on, by site name; what several matrices read is counted for each."""

    def made() -> dict[str, Magnitudes]:
        found = {site.name: Magnitudes() for site in setting.sites}
        observe(setting, lambda seen: found[seen.site.name].add(seen.values))
        return found

    return setting.once(("magnitudes", _names(setting.sites)), made)


class Units:
    """What one pass tells of an FFN's inner activations."""

    def __init__(self) -> None:
        self.values, self.gates = Magnitudes(), Magnitudes()
        self.n = 0
        self.up_total: Any = 0.0
        """float64 [width]: sum of |up| over tokens."""

    def add(self, seen: Seen) -> None:
        """Take one pass in; act(gate) and up where it shows them."""
        self.values.add(seen.values)
        self.n += len(seen.values)
        if seen.gate is not None and seen.up is not None:
            self.gates.add(seen.gate)
            self.up_total = self.up_total + seen.up.abs().double().sum(0)


def units(setting: Setting) -> dict[str, Units]:
    """Of FFNs, by site name: one pass for all methods that look at ``a``, the gate or up."""

    def made() -> dict[str, Units]:
        found = {site.name: Units() for site in setting.sites}
        observe(setting, lambda seen: found[seen.site.name].add(seen), factors=True)
        return found

    return setting.once(("units", _names(setting.sites)), made)


def gate_magnitudes(setting: Setting) -> dict[str, Magnitudes]:
    """|act(gate)| at each site. Raises `UserError` where a pass went by without showing it."""
    found = units(setting)
    hidden = [name for name, one in found.items() if one.n and not one.gates.n]
    if hidden:
        raise UserError(NO_GATE.format(hidden[0]))
    return {name: one.gates for name, one in found.items()}


NO_GATE = "the gate of {} must be a product act(gate) * up to be told apart, got another form; use ffn-threshold."


def factor(site: Any, found: Tensor | None) -> Tensor:
    """act(gate) or up of a gated unit. Raises `UserError` where the pass did not show it."""
    if found is None:
        raise UserError(NO_GATE.format(site.name))
    return found


def _names(sites: Sequence[Site]) -> tuple[str, ...]:
    return tuple(site.name for site in sites)


def sampled_rows(setting: Setting, n: int) -> dict[str, Tensor]:
    """About ``n`` rows [n, width] of what each site hands on, float32, evenly from every batch; none of a site that no row reached."""

    def made() -> dict[str, Tensor]:
        import torch

        each = -(-n // len(setting.batches))
        found: dict[str, list[Tensor]] = {}

        def look(seen: Seen) -> None:
            values = seen.values
            at = torch.linspace(0, len(values) - 1, min(each, len(values)), device=values.device).round().long()
            found.setdefault(seen.site.name, []).append(values[at].float())

        observe(setting, look)
        return {name: torch.cat(parts) for name, parts in found.items()}

    return setting.once(("rows", n, _names(setting.sites)), made)
