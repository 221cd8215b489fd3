"""Every intervention, in the order people meet them. This list is the table of contents.

An SAE's reconstruction is not among them: its splice adds FLOPs, so it lives on loss over L0 only (`sae_quality`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.interventions import activations, attention, structure, tokens
from analysis.interventions.entry import Entry
from analysis.interventions.weights.entries import ENTRIES as WEIGHTS
from analysis.spec import EVIDENCE_WORDS, UnknownName, UserError

INTERVENTIONS: tuple[Entry, ...] = (
    *WEIGHTS,
    *activations.METHODS,
    *attention.METHODS,
    *structure.METHODS,
    *tokens.METHODS,
)
DEFAULT, ALL = "default", "all"
HARDWARE = {
    "nothing": "nothing yet: single weights lie anywhere",
    "2 of 4": "sparse tensor cores (2 of every 4 kept)",
    "blocks": "block-sparse kernels",
    "gathers": "kernels that gather rows or keys; gains shrink with the batch",
    "smaller dense model": "any dense kernel: what is left is a smaller dense model",
}
"""What can turn each kind of sparsity into speed, in words."""


@dataclass(frozen=True)
class Chosen:
    """What a list of names stands for on one model."""

    entries: tuple[Entry, ...]
    refused: dict[str, str]
    """By slug: why it does not suit, in a sentence."""


def find_intervention(slug: str) -> Entry:
    """The intervention of that slug."""
    for entry in INTERVENTIONS:
        if entry.slug == slug:
            return entry
    raise UnknownName(f"interventions must be of {', '.join(entry.slug for entry in INTERVENTIONS)}, got {slug!r}; list --interventions.")


def choose(names: Iterable[str], causal: bool) -> Chosen:
    """From names, ``default`` (the usual ones) or ``all`` to entries in the catalogue's order, and what does not suit the model.

    ``causal``: whether its tokens see no later ones. Raises `UserError` where a name is unknown or none is left.
    """
    wanted: set[str] = set()
    for name in names:
        group = {DEFAULT: [one.slug for one in INTERVENTIONS if one.default], ALL: [one.slug for one in INTERVENTIONS]}
        wanted |= set(group.get(name) or [find_intervention(name).slug])
    found = [entry for entry in INTERVENTIONS if entry.slug in wanted]
    refused = {entry.slug: why for entry in found if (why := entry.unsuited(causal)) is not None}
    entries = tuple(entry for entry in found if entry.slug not in refused)
    if not entries:
        raise UserError(f"interventions must name at least one that suits the model, got none: {'; '.join(refused.values()) or 'no name'}")
    return Chosen(entries, refused)


def lines() -> str:
    """The catalogue, a line each."""
    return "\n".join(f"{entry.slug:30} {entry.target:12} {entry.runs_on:20} {entry.line}" for entry in INTERVENTIONS)


def describe(entry: Entry) -> str:
    """Everything about one intervention, as text."""
    made = entry.make(0)
    needs = ", ".join(sorted(made.needs)) or "nothing but the model"
    suits = {None: "any model it finds its places in", True: "models whose tokens see no later ones", False: "models whose tokens see all"}
    kinds = {"curve": "a curve of levels", "patterns": "patterns with nothing between them"}
    kind = kinds.get(made.kind, "a point: it has one level beside the dense model")
    given = "" if entry.target in ("weights", "structure") else ", of the same inputs"  # what comes in changes with what went before
    stays = f"; what is gone at a level stays gone at higher ones{given}" if made.nested else "; levels are not nested"
    nested = "" if made.kind == "point" else stays
    return "\n".join([
        f"{made.title} ({entry.slug}, on {entry.target}{'' if entry.default else '; not in the default set'})", entry.line, "", "Sources",
        *(f"  {s.title}. {s.reference} [{EVIDENCE_WORDS[s.evidence]}]" for s in entry.sources), "",
        f"Levels: {kind}{nested}",
        f"Needs of the calibration documents: {needs}",
        f"Can be used by: {HARDWARE[entry.runs_on]}",
        f"Suits: {suits[entry.needs_causal]}",
        *(f"Note: {note}" for note in made.notes),
    ])  # fmt: skip
