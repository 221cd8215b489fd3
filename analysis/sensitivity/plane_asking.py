"""From what people type to interventions on one model: names, single levels, and combinations of two.

default                        the usual set                     all              every one
heads, ffn-topk                curves over the levels            heads@0.25       that level only
ffn-topk + heads@0.25          ffn-topk at every level while heads stay at 0.25
ffn-topk + heads               the same at every level of heads: a grid
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.interventions.entry import RUNS_ON
from analysis.interventions.levels import ADAPTIVE, numbers
from analysis.sensitivity.choices import words
from analysis.sensitivity.plane_rows import Placed
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.combined import Combined
    from analysis.interventions.entry import Entry


def asked_for(text: str, levels: str, seed: int, causal: bool) -> tuple[tuple[Placed, ...], dict[str, str]]:
    """What is named, plain names in the catalogue's order, then combinations as given; and by slug why some do not suit.

    Raises `UserError` for what cannot be read, and where nothing is left.
    """
    from analysis.interventions.catalogue import choose, find_intervention

    parts = words(text)
    pairs = [part for part in parts if "+" in part]
    singles = [_term(part) for part in parts if "+" not in part]
    chosen = choose([name for name, _ in singles], causal) if singles else None
    entries = () if chosen is None else chosen.entries
    refused = {} if chosen is None else dict(chosen.refused)
    placed = [Placed(entry, entry.make(seed), seed, _levels_of(entry.slug, singles)) for entry in entries]
    placed += [Placed(entry := find_intervention(slug), entry.make(seed), seed) for slug in refused]
    for pair in pairs:
        placed += _combined(pair, levels, seed, causal, refused)
    if not placed:
        raise UserError(f"interventions must name at least one, got {text!r}; list --interventions prints the names.")
    if len({one.entry.slug for one in placed}) < len(placed):
        raise UserError(f"interventions must name each combination once, got {text!r}; leave out what is there twice.")
    return tuple(placed), refused


def configuration(config: Mapping[str, Any], picked: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Settings, as `run --config` takes them, that measure just these points: each a ``method`` of the tables and a level."""
    terms = []
    for method, level in picked:
        first, beside, other = method.partition(" + ")
        terms.append(f"{first}@{level:g}{beside}{other}")
    return {**config, "interventions": ", ".join(terms)}


def _term(text: str) -> tuple[str, float | None]:
    """``name`` or ``name@level``."""
    name, at, level = (part.strip() for part in text.partition("@"))
    if at and name in ("default", "all"):
        raise UserError(f"a single level must be of one intervention, got {text!r}; set the levels instead.")
    return name, numbers(level, f"the level of {name}", 0.0, 1.0)[0] if at else None


def _levels_of(slug: str, singles: Sequence[tuple[str, float | None]]) -> tuple[float, ...] | None:
    """Its own levels, where it was named with some and nowhere without."""
    own = [level for name, level in singles if name == slug]
    fixed = [level for level in own if level is not None]
    return tuple(sorted(set(fixed))) if own and len(fixed) == len(own) else None


def _combined(text: str, levels: str, seed: int, causal: bool, refused: dict[str, str]) -> list[Placed]:
    from analysis.interventions.catalogue import find_intervention

    terms = [_term(part) for part in text.split("+")]
    if len(terms) != 2:  # noqa: PLR2004 - a combination is of two
        raise UserError(f"a combination must be of two interventions, got {text!r}; write for example ffn-topk + heads@0.25.")
    (name, level), (beside, at) = terms
    if at is None and levels.strip() == ADAPTIVE:
        raise UserError(f"the second of {text!r} must have a level where levels are adaptive; write for example {beside}@0.25.")
    grid = numbers(levels, "levels", 0.0, 1.0) if at is None else [at]
    one, other = find_intervention(name), find_intervention(beside)
    found = []
    for share in (share for share in grid if share > 0):
        entry = combination(one, other, share)
        why = one.unsuited(causal) or other.unsuited(causal)
        if why is not None:
            refused[entry.slug] = why
        found.append(Placed(entry, entry.make(seed), seed, None if level is None else (level,), (one.slug, other.slug)))
    return found


def combination(one: Entry, other: Entry, at: float) -> Entry:
    """A line of its own: runs on what the less usable of both does."""
    runs_on = RUNS_ON[min(RUNS_ON.index(one.runs_on), RUNS_ON.index(other.runs_on))]
    line = f"{one.line} Beside it, at {at:g}: {other.line}"
    slug = f"{one.slug} + {other.slug}@{at:g}"
    return replace(one, slug=slug, line=line, runs_on=runs_on, make=partial(_make, one, other, at), sources=(*one.sources, *other.sources))


def _make(one: Entry, other: Entry, at: float, seed: int) -> Combined:
    from analysis.interventions.combined import Combined

    return Combined(one.make(seed), other.make(seed), at)
