"""What is compared: models, or single runs of them, from the address and the two pickers; and which runs answer a question for all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from analysis import find_analysis
from figures.words import shorten, visible
from store import RunInfo
from ui import data
from ui.compare.comparable import comparable
from ui.library import Entry, library
from ui.links import run_title
from ui.words import moment

FIRST, OTHERS = "a", "b"
"""Names in the address: the one that others are compared with, and those others."""
_FIRST, _OTHERS = "first_side", "other_sides"
MOST = 6
"""Models side by side at most: more columns are not read."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Side:
    """One model of a comparison, or one run of it."""

    ref: str
    """What the address calls it."""
    entry: Entry
    name: str
    """Told apart from the others (foreign text)."""
    pinned: RunInfo | None = None
    """The run that the address names; other questions are answered by the model's other runs."""
    letter: str = ""

    @property
    def heading(self) -> str:
        """For columns and legends: ``A · dense`` (foreign text)."""
        return f"{self.letter} · {shorten(visible(self.entry.name), 22)}"

    def runs(self, slug: str) -> list[RunInfo]:
        """Its runs that can answer, newest first; a pinned one is the only one."""
        if self.pinned is not None and self.pinned.slug == slug:
            return [self.pinned]
        version = find_analysis(slug).version
        return [run for run in self.entry.runs if run.slug == slug and run.status == "sealed" and run.current and run.version == version]

    def outdated(self, slug: str) -> bool:
        """Whether only another version of the analysis has answered."""
        return not self.runs(slug) and any(run.slug == slug and run.status == "sealed" for run in self.entry.runs)


def known_models() -> dict[str, Side]:
    """Every model with a sealed run that counts, by what addresses call it; the last used first."""
    entries = [entry for entry in library(data.runs(), data.store().models()) if entry.newest]
    return {ref_of(entry): Side(ref_of(entry), entry, name) for entry, name in zip(entries, _names(entries), strict=True)}


def known_sides() -> dict[str, Side]:
    """Every model, then every run of a model that has several of one question."""
    found = known_models()
    for entry, name in [(side.entry, side.name) for side in found.values()]:
        slugs = [run.slug for run in entry.runs if run.status == "sealed" and run.current]
        several = [run for run in entry.runs if run.status == "sealed" and run.current and slugs.count(run.slug) > 1]
        found |= {run.id: _of_run(run, entry, name) for run in several}
    return found


def _of_run(run: RunInfo, entry: Entry, name: str) -> Side:
    words = (name, run_title(run), run.data, moment(run.started))
    return Side(run.id, entry, " · ".join(filter(None, words)), run)


def ref_of(entry: Entry) -> str:
    """What addresses call a model: a hash of its name and its weights, the same in every store."""
    prints = (entry.runs[0].provenance.get("fingerprints") or {}).get("model", {}) if entry.runs else {}
    return hashlib.blake2b(f"{entry.name}\0{prints.get('weights', '')}".encode(), digest_size=5).hexdigest()


def _names(entries: Sequence[Entry]) -> list[str]:
    """Their names; of models with one name the labels, and else what addresses call them."""
    names = [entry.name for entry in entries]
    for more in (lambda entry: entry.label, ref_of):
        told = list(names)
        names = [name if told.count(name) == 1 else f"{name} · {more(entry)}" for name, entry in zip(told, entries, strict=True)]
    return [visible(name) for name in names]


def asked_side(reference: str, known: Mapping[str, Side]) -> Side | None:
    """What an address means: a model, a run, or a model by its name or path; None where there is no such thing here."""
    if reference in known:
        return known[reference]
    models = [side for side in known.values() if side.pinned is None]
    named = next((side for side in models if reference in (side.entry.name, side.entry.ref)), None)
    found = data.chosen_run(reference) if reference and named is None else None
    if found is None or found.status != "sealed":
        return named
    home = next((side for side in models if found.id in {run.id for run in side.entry.runs}), None)
    return None if home is None else _of_run(found, home.entry, home.name)


def chosen_sides(known: dict[str, Side]) -> list[Side]:
    """The two pickers. The address always names what they show, so that a link stays with it."""
    asked = [st.query_params.get(FIRST, ""), *st.query_params.get(OTHERS, "").split(",")]
    named = [asked_side(one, known) for one in asked]
    known |= {side.ref: side for side in named if side is not None}
    refs = list(known)
    first = named[0].ref if named[0] is not None else refs[_first_of(refs, named[1:])]
    label = {ref: known[ref].name for ref in refs}
    left, right = st.columns([2, 3])
    chosen = left.selectbox("First", refs, refs.index(first), format_func=lambda ref: label[ref], key=_FIRST, on_change=_changed)
    rest = [ref for ref in refs if ref != chosen]
    others = list(dict.fromkeys(side.ref for side in named[1:] if side is not None and side.ref != chosen))
    picked = right.multiselect(
        "Compared with it", rest, others or _usual(known, chosen), format_func=lambda ref: label[ref], key=_OTHERS, on_change=_changed,
        max_selections=MOST - 1, placeholder="another model, or another run",
    )  # fmt: skip
    _address(chosen, picked)
    return [replace(known[ref], letter=letter) for ref, letter in zip([chosen, *picked], LETTERS, strict=False)]


def _usual(known: Mapping[str, Side], chosen: str) -> list[str]:
    """Where the address names no other: the model last used that is not the first's."""
    models = [ref for ref, side in known.items() if ref != chosen and side.pinned is None]
    return sorted(models, key=lambda ref: known[ref].entry is known[chosen].entry)[:1]


def asked_names(known: Mapping[str, Side]) -> list[str]:
    """What the address names and this store does not have (foreign text)."""
    asked = [st.query_params.get(FIRST, ""), *st.query_params.get(OTHERS, "").split(",")]
    return [one for one in asked if one and asked_side(one, known) is None]


def closer_side(sides: Sequence[Side]) -> str:
    """The letter of the model that is looked at closer; asked for only where there are several."""
    letters = {side.letter: side for side in sides[1:]}
    first = next(iter(letters))
    if len(letters) == 1:
        return first
    chosen = st.segmented_control("Looked at closer", list(letters), default=first, required=True, key="closer", bind="query-params")
    return chosen if chosen in letters else first


def _first_of(refs: Sequence[str], others: Iterable[Side | None]) -> int:
    """Where the address names none: the second newest model, so that the newest is what it is compared with; never one of the others."""
    taken = {side.ref for side in others if side is not None}
    free = [place for place, ref in enumerate(refs) if ref not in taken]
    return free[min(1, len(free) - 1)] if not taken and free else free[0] if free else 0


def _changed() -> None:
    _address(st.session_state[_FIRST], [ref for ref in st.session_state[_OTHERS] if ref != st.session_state[_FIRST]])


def _address(first: str, others: Sequence[str]) -> None:
    for name, text in ((FIRST, first), (OTHERS, ",".join(others))):
        if st.query_params.get(name, "") != text:
            st.query_params[name] = text


def compare_query(first: str, *others: str) -> dict[str, str]:
    """The address of a comparison: what `asked_side` understands."""
    return {FIRST: first, OTHERS: ",".join(others)}


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The runs of one question, one per model that has any; and what speaks against comparing each with the first."""

    slug: str
    runs: Mapping[str, RunInfo]
    """By letter."""
    reasons: Mapping[str, list[str]]
    """By letter of another than the first, where both have a run."""
    missing: tuple[Side, ...]


def answers(sides: Sequence[Side], slug: str) -> Answers:
    """Of the first model the run with the fewest reasons against comparing it with the others; of each other its nearest. Newest win."""
    first, *others = sides
    having = {side.letter: side.runs(slug) for side in sides}
    there = [side for side in others if having[side.letter]]
    missing = tuple(side for side in sides if not having[side.letter])
    if not having[first.letter]:
        return Answers(slug, {side.letter: having[side.letter][0] for side in there}, {}, missing)
    best: tuple[int, RunInfo, dict[str, tuple[RunInfo, list[str]]]] | None = None
    for run in having[first.letter]:
        found = {side.letter: _nearest(run, having[side.letter]) for side in there}
        cost = sum(len(reasons) for _, reasons in found.values())
        if best is None or cost < best[0]:
            best = cost, run, found
    assert best is not None
    chosen = {first.letter: best[1]} | {letter: run for letter, (run, _) in best[2].items()}
    return Answers(slug, chosen, {letter: reasons for letter, (_, reasons) in best[2].items()}, missing)


def _nearest(run: RunInfo, others: Sequence[RunInfo]) -> tuple[RunInfo, list[str]]:
    told = [(other, comparable(run, other)) for other in others]
    return min(told, key=lambda pair: len(pair[1]))
