"""A question to a live model, checked; and its answer as pages get it. Plain values, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.spec import UserError

LONGEST_TEXT = 200_000
"""Characters that are looked at; more cannot have few enough tokens."""
LONGEST_REFERENCE = 4096
MOST_SITES, MOST_NEURONS = 64, 256


@dataclass(frozen=True)
class Question:
    """Which values of which neurons on which text. Every neuron is read at every site."""

    text: str
    sites: tuple[str, ...]
    neurons: tuple[int, ...]
    active: float = 0.01
    """Threshold of the relative contribution, as in `neuron_activity`."""
    magnitude: float = 0.0625
    """Threshold of |a| at sites without an FFN output, as in `neuron_activity`."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the weights and the tokenizer that the answer must come from."""
    sae: str = ""
    """Of which SAE ``neurons`` are latents, as for ``--with sae=``; empty: they are neurons. The SAE knows its place, not ``sites``."""
    interventions: tuple[Any, ...] = ()
    """Must be empty: the playground intervenes (`playing`)."""

    def as_json(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "text": self.text,
            "sites": list(self.sites),
            "neurons": list(self.neurons),
            "active": self.active,
            "magnitude": self.magnitude,
            "fingerprints": dict(self.fingerprints),
            "sae": self.sae,
            "interventions": list(self.interventions),
        }

    @classmethod
    def from_json(cls, asked: Mapping[str, Any]) -> Question:
        """The question that arrived. Raises `UserError` with a sentence for anything it must not be."""
        interventions = asked.get("interventions", [])
        if interventions != []:
            n = len(interventions) if isinstance(interventions, Sequence) else 1
            raise UserError(
                f"interventions must be empty, got {n}: units are read of the model as it is; ask the playground, or leave them out."
            )
        return cls(
            text=text_in(asked.get("text")),
            sites=tuple(_list(asked, "sites", str, MOST_SITES)),
            neurons=tuple(_list(asked, "neurons", int, MOST_NEURONS)),
            active=number_in(asked, "active", 0.01, 1e-9, 1.0),
            magnitude=number_in(asked, "magnitude", 0.0625, 0.0, 1e6),
            fingerprints=prints_in(asked),
            sae=_reference(asked.get("sae", "")),
        )


def prints_in(asked: Mapping[str, Any]) -> dict[str, str]:
    """The fingerprints of a request. Raises `UserError`."""
    prints = asked.get("fingerprints", {})
    if not isinstance(prints, dict) or not all(isinstance(v, str) for v in prints.values()):
        raise UserError("fingerprints must be an object of texts, got something else; leave them out to ask any model.")
    return prints


def text_in(text: Any, most: int = LONGEST_TEXT) -> str:
    """The text of a request. Raises `UserError`."""
    if not isinstance(text, str):
        raise UserError(f"the text must be text, got {type(text).__name__}; give some words.")
    if not text.strip():
        raise UserError("the text must not be empty, got nothing but blanks; give some words.")
    if len(text) > most:
        raise UserError(f"the text must be at most {most:,} characters, got {len(text):,}; shorten it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text must be valid Unicode, got half a surrogate pair at character {error.start:,}; remove that character."
        ) from error
    return text


def _reference(sae: Any) -> str:
    if not isinstance(sae, str) or len(sae) > LONGEST_REFERENCE:
        got = f"{len(sae):,}" if isinstance(sae, str) else type(sae).__name__
        raise UserError(f"the SAE must be named in at most {LONGEST_REFERENCE:,} characters, got {got}; leave it out to ask neurons.")
    return sae


def _list(asked: Mapping[str, Any], name: str, kind: type, most: int) -> list[Any]:
    given = asked.get(name)
    if not isinstance(given, list) or not 1 <= len(given) <= most:
        got = f"{len(given)}" if isinstance(given, list) else type(given).__name__
        raise UserError(f"{name} must be a list of 1 to {most} entries, got {got}; name what to read.")
    for one in given:
        if not isinstance(one, kind) or isinstance(one, bool) or (isinstance(one, int) and not 0 <= one < 2**31):
            words = "names of sites" if kind is str else "whole numbers from 0"
            raise UserError(f"{name} must be {words}, got {one!r}; correct that entry.")
    return list(dict.fromkeys(given))


def number_in(asked: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number of a request. Raises `UserError`."""
    given = asked.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise UserError(f"{name} must be between {low:g} and {high:g}, got {given!r}; leave it out for {default:g}.")
    return float(given)


@dataclass(frozen=True)
class Unit:
    """What one neuron did on the text. Lists have an entry per token: None where the site did not see it (experts) or it is not finite."""

    hook_name: str
    layer: int
    neuron: int
    rule: str
    """What active means, in words."""
    activations: list[float | None]
    contributions: list[float | None] | None
    """|a| ||w_out|| / ||FFN(x)|| at each token; None where no FFN output is at hand."""
    active: list[bool | None]

    @property
    def n_seen(self) -> int:
        """Tokens that the site saw, special ones and position 0 among them, as `neuron_activity` counts."""
        return sum(one is not None for one in self.active)

    @property
    def n_active(self) -> int:
        """Tokens it was active on."""
        return sum(one is True for one in self.active)

    @property
    def density(self) -> float | None:
        """n_active / n_seen; None where the site saw no token."""
        return self.n_active / self.n_seen if self.n_seen else None

    @property
    def peak(self) -> int | None:
        """The token with the largest activation (not magnitude), the first of equals; None where there is no value."""
        known = [i for i, a in enumerate(self.activations) if a is not None]
        return max(known, key=lambda i: (self.activations[i], -i), default=None)

    @property
    def max(self) -> float | None:
        """The largest activation in the text; None where there is no value."""
        return None if self.peak is None else self.activations[self.peak]


@dataclass(frozen=True)
class Answer:
    """The text as the model saw it, and what the asked neurons did on it."""

    tokens: list[str]
    """Exact pieces of text; bytes that are no character alone as ``\\xe2``."""
    ids: list[int]
    special: list[bool]
    """Tokens that the tokenizer added or reserves."""
    units: list[Unit]
    seconds: float
    """Time the worker spent on it."""

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Answer:
        """The answer that arrived."""
        units = [Unit(**unit) for unit in given["units"]]
        return cls(given["tokens"], given["ids"], given["special"], units, given["seconds"])
