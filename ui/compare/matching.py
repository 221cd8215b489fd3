"""Which unit of one model is which of another: by place and number, and matrices by name. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.weights.checkpoint_diff_matching import BY_SHAPE, match

Frame = Any
"""A data frame: the stubs of pandas call a column and a selection both."""
BASE = "_base"
"""What columns of the first model end in."""


@dataclass(frozen=True)
class Matched:
    """Units that both have, a row each: what tells them apart, and every column of both, those of the first ending in ``_base``."""

    rows: Frame
    n_alone: int
    """Units of the second that the first does not have."""
    n_alone_base: int
    """Units of the first that the second does not have."""


def matched_places(places: Iterable[tuple[Any, ...]], base: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """From a place of the second model to that of the first. A place is its layer first, then its names.

    Equal places; and of what is left, those that are alone in their layer on both sides, whatever they are called.
    """
    ours, theirs = list(dict.fromkeys(places)), list(dict.fromkeys(base))
    found = {place: place for place in ours if place in set(theirs)}
    left, others = ([place for place in side if place not in found] for side in (ours, theirs))
    for place in left:
        here = [one for one in others if one[0] == place[0]]
        if len(here) == 1 and [one[0] for one in left].count(place[0]) == 1:
            found[place] = here[0]
    return found


def matched_units(rows: Frame, base: Frame, place: Sequence[str], unit: str) -> Matched:
    """Units with the same number in the same place; ``place`` names the columns that tell places apart, the layer first."""
    import numpy as np

    (codes, ours), (base_codes, theirs) = (_places(frame, list(place)) for frame in (rows, base))
    pairs = matched_places(ours, theirs)
    number = {one: i for i, one in enumerate(theirs)}
    to = np.array([number.get(pairs.get(one, ()), -1) for one in ours], np.int64)
    rows, base = rows.assign(_place=to[codes]), base.assign(_place=base_codes)
    found = rows.merge(base, on=["_place", unit], suffixes=("", BASE), how="inner", sort=False)
    return Matched(found.drop(columns="_place"), len(rows) - len(found), len(base) - len(found))


def _places(frame: Frame, place: list[str]) -> tuple[Any, list[Any]]:
    """The number of each row's place, and the places in order of their numbers; a million rows never become tuples."""
    numbers = frame.groupby(place, sort=False, dropna=False).ngroup().to_numpy()
    return numbers, list(frame[place].drop_duplicates().itertuples(index=False, name=None))


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    tied: tuple[str, ...]


def matched_tensors(rows: Frame, base: Frame) -> Matched:
    """Tensors of one name, or of one name behind a prefix, and one shape, as `checkpoint_diff` matches them; by shape alone none."""
    found = match(*(_tensors(frame) for frame in (rows, base)))
    named = [pair for pair in found.pairs if pair.how != BY_SHAPE]
    ours = rows.set_index("tensor", drop=False).loc[[pair.after.name for pair in named]].reset_index(drop=True)
    theirs = base.set_index("tensor", drop=False).loc[[pair.base.name for pair in named]].reset_index(drop=True)
    return Matched(ours.join(theirs.add_suffix(BASE)), len(rows) - len(named), len(base) - len(named))


def _tensors(frame: Frame) -> list[_Tensor]:
    columns = zip(frame["tensor"], frame["shape"], frame["tied"], strict=True)
    return [_Tensor(name, tuple(int(n) for n in shape), tuple(tied)) for name, shape, tied in columns]
