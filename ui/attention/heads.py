"""Heads by name: places of a run, the address of one head, its neighbours, and what is typed to jump to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.spec import UserError
from store import Filter, RunInfo
from ui import data
from ui.runs import HEADS as SLUG
from ui.runs import readable


@dataclass(frozen=True)
class Place:
    """One row of the run's `attention_layers`: a call with heads."""

    layer: int
    hook_name: str
    turn: int
    label: str
    """The layer's number, with the kind or the name of the place where a layer has several."""
    row: Mapping[str, Any]

    @property
    def n_heads(self) -> int:
        """How many heads it has."""
        return int(self.row["n_heads"])

    @property
    def key(self) -> tuple[int, str, int]:
        """What tells it from other places in the stored tables."""
        return self.layer, self.hook_name, self.turn

    @property
    def where(self) -> tuple[Filter, ...]:
        """The rows of this place in any of the run's tables."""
        return Filter("layer", "=", self.layer), Filter("hook_name", "=", self.hook_name), Filter("turn", "=", self.turn)

    @property
    def kind(self) -> str:
        """What its queries may see, in words."""
        return _kind(self.row)


@dataclass(frozen=True)
class Head:
    """One head of one place."""

    place: Place
    head: int

    @property
    def name(self) -> str:
        """``3:5``, with the name of the place where a layer has several."""
        return f"{self.place.label}:{self.head}"

    @property
    def where(self) -> tuple[Filter, ...]:
        """The rows of this head in any of the run's tables."""
        return (*self.place.where, Filter("head", "=", self.head))

    def query(self, run: RunInfo) -> dict[str, str]:
        """The address of its page."""
        found = {"run": run.id, "layer": str(self.place.layer), "hook": self.place.hook_name, "head": str(self.head)}
        return found | ({"turn": str(self.place.turn)} if self.place.turn else {})


def runs() -> dict[str, RunInfo]:
    """Sealed runs that hold heads, newest first; those that count for their question and that this version can read."""
    return {run.id: run for run in readable(SLUG) if run.rows.get("heads")}


def run_of(reference: str) -> RunInfo | None:
    """The run with heads of that id, whatever its age; None where there is none that this version can read."""
    found = data.chosen_run(reference)
    whole = found is not None and found.slug == SLUG and found.status == "sealed" and found.rows.get("head_distances") is not None
    return found if whole else None


def places_of(run: RunInfo) -> list[Place]:
    """The places of a run, in the order of layers."""
    rows = sorted(run.summaries.get("attention_layers", []), key=lambda row: (row["layer"], row["hook_name"], row["turn"]))
    return [Place(row["layer"], row["hook_name"], row["turn"], _label(row, rows), row) for row in rows]


def _label(row: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """The layer; where it has several places the kind of this one, or else its name and call."""
    here = [one for one in rows if one["layer"] == row["layer"]]
    if len(here) == 1:
        return str(row["layer"])
    if [_kind(one) for one in here].count(_kind(row)) == 1:
        return f"{row['layer']} {_kind(row)}"
    calls = [one["hook_name"] for one in here].count(row["hook_name"])
    return f"{row['layer']} {row['hook_name']}" + (f" call {row['turn']}" if calls > 1 else "")


def _kind(row: Mapping[str, Any]) -> str:
    """What its queries may see, in words."""
    if row["crosses"]:
        return "cross-attention"
    return "causal" if row["causal"] else "sees both ways"


def find(places: list[Place], layer: str, head: str, hook: str | None = None, turn: str = "0") -> Head:
    """The head that an address or a jump means. Raises `UserError` with a sentence where there is none."""
    if not (layer.isdecimal() and head.isdecimal()):
        raise UserError(f"a head must be given as layer:head, two whole numbers, got {f'{layer}:{head}'!r}; type for example 3:5.")
    here = [one for one in places if one.layer == int(layer) and hook in (None, one.hook_name) and turn == str(one.turn)]
    if not here:
        known = sorted({one.layer for one in places})
        span = f"one of {known[0]} to {known[-1]}" if known else "in a run that has heads"
        at = (f" with hook {hook!r}" if hook else "") + (f" and call {turn}" if turn != "0" else "")
        raise UserError(f"the layer must be {span}, got {layer}{at}; choose another.")
    if int(head) >= here[0].n_heads:
        raise UserError(f"a head of layer {layer} must be 0 to {here[0].n_heads - 1}, got {head}; choose another number.")
    return Head(here[0], int(head))


def jump(places: list[Place], typed: str, now: Place) -> Head:
    """What was typed into the jump box: ``3:5``, ``3.5``, ``L3H5``, or a head of the layer one is in."""
    numbers = re.findall(r"\d+", typed)
    if len(numbers) == 1:
        return find(places, str(now.layer), numbers[0], now.hook_name, str(now.turn))
    if len(numbers) != 2:
        raise UserError(f"a head must be typed as layer:head, got {typed!r}; type for example 3:5.")
    same = next((one for one in _family(places, now) if one.layer == int(numbers[0])), None)
    hook, turn = (None, "0") if same is None else (same.hook_name, str(same.turn))
    return find(places, numbers[0], numbers[1], hook, turn)


def step(places: list[Place], head: Head, by: int) -> Head:
    """The head ``by`` places on, across layers and around the ends."""
    all_heads = [Head(place, number) for place in places for number in range(place.n_heads)]
    return all_heads[(all_heads.index(head) + by) % len(all_heads)]


def in_layer(places: list[Place], head: Head, by: int) -> Head | None:
    """The head of that number in the same kind of place so many layers on; None where there is none."""
    family = _family(places, head.place)
    i = family.index(head.place) + by
    return Head(family[i], head.head) if 0 <= i < len(family) and head.head < family[i].n_heads else None


def _family(places: list[Place], now: Place) -> list[Place]:
    """Places whose names differ in numbers alone: the self-attention of a decoder, say, not its cross-attention."""
    return [one for one in places if _shape(one) == _shape(now)]


def _shape(place: Place) -> str:
    return re.sub(r"\d+", "#", place.hook_name)
