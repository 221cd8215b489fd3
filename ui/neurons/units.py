"""Neurons by name: sites of a run, the address of one neuron, its neighbours, and what is typed to jump to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.spec import UserError
from store import Filter, RunInfo
from ui import data
from ui.runs import NEURONS


@dataclass(frozen=True)
class Site:
    """One row of the run's `layers`: a place with neurons."""

    layer: int
    hook_name: str
    label: str
    """The layer's number, with the name of the place where a layer has several."""
    row: Mapping[str, Any]

    @property
    def n_neurons(self) -> int:
        """How many neurons it has."""
        return int(self.row["n_neurons"])


@dataclass(frozen=True)
class Unit:
    """One neuron of one site."""

    site: Site
    neuron: int

    @property
    def name(self) -> str:
        """``3:1021``, with the name of the place where a layer has several."""
        return f"{self.site.label}:{self.neuron}"

    @property
    def where(self) -> tuple[Filter, ...]:
        """The rows of this neuron in any of the run's tables."""
        return (*site_filters(self.site), Filter("neuron", "=", self.neuron))

    def query(self, run: RunInfo) -> dict[str, str]:
        """The address of its page."""
        return {"run": run.id, "layer": str(self.site.layer), "hook": self.site.hook_name, "neuron": str(self.neuron)}


def site_filters(site: Site) -> tuple[Filter, ...]:
    """The rows of one site."""
    return Filter("layer", "=", site.layer), Filter("hook_name", "=", site.hook_name)


def runs() -> list[RunInfo]:
    """Sealed runs that hold neurons, newest first; those that count for their question."""
    return data.current_runs(NEURONS)


def sites(run: RunInfo) -> list[Site]:
    """The sites of a run that have neurons, in the order of the forward pass."""
    rows = [row for row in run.summaries.get("layers", []) if row["n_neurons"]]
    layers = [row["layer"] for row in rows]
    return [
        Site(
            row["layer"],
            row["hook_name"],
            str(row["layer"]) if layers.count(row["layer"]) == 1 else f"{row['layer']} {row['hook_name']}",
            row,
        )
        for row in rows
    ]


def find(places: list[Site], layer: str, neuron: str, hook: str | None = None) -> Unit:
    """The neuron an address or a jump means. Raises `UserError` with a sentence where there is none."""
    if not places:
        raise UserError("this run must hold neurons to show one, got no site with any; choose another run.")
    if not (layer.isdigit() and neuron.isdigit()):
        raise UserError(f"a neuron must be given as layer:neuron, two whole numbers, got {f'{layer}:{neuron}'!r}; type for example 3:1021.")
    here = [site for site in places if site.layer == int(layer) and hook in (None, site.hook_name)]
    if not here:
        known = sorted({site.layer for site in places})
        raise UserError(
            f"the layer must be one of {known[0]} to {known[-1]}, got {layer}{f' with hook {hook!r}' if hook else ''}; choose another."
        )
    if int(neuron) >= here[0].n_neurons:
        raise UserError(f"a neuron of layer {layer} must be 0 to {here[0].n_neurons - 1}, got {neuron}; type another number.")
    return Unit(here[0], int(neuron))


def jump(places: list[Site], typed: str, now: Site) -> Unit:
    """What was typed into the jump box: ``3:1021``, ``3.1021``, ``L3N1021``, or a neuron of the layer one is in."""
    numbers = re.findall(r"\d+", typed)
    if len(numbers) == 1:
        return find(places, str(now.layer), numbers[0], now.hook_name)
    if len(numbers) != 2:
        raise UserError(f"a neuron must be typed as layer:neuron, got {typed!r}; type for example 3:1021.")
    return find(places, *numbers)


def step(places: list[Site], unit: Unit, by: int) -> Unit:
    """The neuron ``by`` places on, across layers and around the ends."""
    before = 0
    for site in places:
        if (site.layer, site.hook_name) == (unit.site.layer, unit.site.hook_name):
            break
        before += site.n_neurons
    place = (before + unit.neuron + by) % sum(site.n_neurons for site in places)
    for site in places:
        if place < site.n_neurons:
            return Unit(site, place)
        place -= site.n_neurons
    raise AssertionError("a place within the sum lies in one of the sites")
