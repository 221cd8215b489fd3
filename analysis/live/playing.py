"""A question of the playground, checked: a prompt, what is taken away from the model, and what is looked at. Plain values, no torch.

    Play("The cat sat", steps=(Step("ffn-topk", 0.5),), without=(UnitRef("head", 3, 1),), new=8)

It travels as a ``forward`` with a ``play`` inside (`desk`), and is answered by `player`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from analysis.live.question import LONGEST_REFERENCE, number_in, prints_in, text_in
from analysis.spec import UserError

UnitKind = Literal["neuron", "head", "latent"]
FIRST_TEXT = "The capital of France is Paris, and the capital of Germany is"
"""What stands in an empty page."""
KINDS: tuple[UnitKind, ...] = get_args(UnitKind)
MOST_CHARACTERS = 2000
"""Of a prompt: it stands in the address of the page."""
MOST_TOKENS = 256
JOB_TOKENS = 2048
"""Of a prompt of `prompt_effect`, the same question as a job, with what is written behind it: attention is held layer by layer."""
MOST_STEPS, MOST_UNITS = 2, 8
MOST_NEW = 32
"""Tokens that a text is continued by: the whole text is read anew for each."""
DRAWN = 64
"""Rows of data that a live model of a model that reads no text is opened with."""
HOTTEST = 2.0
LENS_TOKENS = 64
"""Of a prompt the last so many go through the logit lens."""
TOP = 10
_UNIT = re.compile(r"(neuron|head)\s+(\d{1,9})\s*[:.]\s*(\d{1,9})|(latent)\s+(\S+?)\s*:\s*(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class UnitRef:
    """A neuron or head by layer and number, or a latent of an SAE."""

    kind: UnitKind
    layer: int
    """0 for latents: an SAE knows its place."""
    index: int
    sae: str = ""
    """Of which SAE the latent is, as for ``--with sae=``."""

    def __str__(self) -> str:
        return f"latent {self.sae}:{self.index}" if self.kind == "latent" else f"{self.kind} {self.layer}:{self.index}"

    @classmethod
    def of_text(cls, text: str) -> UnitRef:
        """From ``neuron 5:17``, ``head 3:1`` or ``latent RUN:12``. Raises `UserError`."""
        found = _UNIT.fullmatch(text.strip())
        if found is None:
            raise UserError(f"a unit must be written as neuron 5:17, head 3:1 or latent RUN:12, got {text.strip()[:60]!r}; correct it.")
        if found[4]:
            return cls("latent", 0, int(found[6]), found[5])
        return cls("head" if found[1].lower() == "head" else "neuron", int(found[2]), int(found[3]))

    def as_json(self) -> dict[str, Any]:
        """As it is sent."""
        return {"kind": self.kind, "layer": self.layer, "index": self.index, "sae": self.sae}

    @classmethod
    def from_json(cls, given: Any) -> UnitRef:
        """The unit that arrived. Raises `UserError`."""
        if not isinstance(given, Mapping) or given.get("kind") not in KINDS:
            raise UserError(f"a unit must be a neuron, head or latent, got {str(given)[:60]!r}; name its kind.")
        sae = given.get("sae", "")
        if not isinstance(sae, str) or len(sae) > LONGEST_REFERENCE or bool(sae) != (given["kind"] == "latent"):
            raise UserError(f"a latent, and nothing else, must name its SAE, got {str(sae)[:60]!r}; write latent RUN:12.")
        return cls(given["kind"], whole_in(given, "layer", 0, 0, 10**6), whole_in(given, "index", 0, 0, 2**31 - 1), sae)


def units_of(text: str) -> tuple[UnitRef, ...]:
    """Units with commas between, as people type them; each once."""
    return tuple(dict.fromkeys(UnitRef.of_text(part) for part in text.replace(";", ",").split(",") if part.strip()))


@dataclass(frozen=True)
class Step:
    """An intervention at a level."""

    slug: str
    level: float

    @classmethod
    def from_json(cls, given: Any) -> Step:
        """The step that arrived; only of those that the playground offers."""
        if not isinstance(given, Mapping):
            raise UserError(f"an intervention must be an object with slug and level, got {type(given).__name__}; send one.")
        from analysis.live.offered import offered

        slug = str(given.get("slug", ""))[:100]
        offer = offered(slug)
        if offer.not_here:
            raise UserError(f"an intervention must be one that the playground runs, got {slug}: {offer.not_here}; choose another.")
        return cls(slug, number_in(given, "level", 0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Play:
    """What is asked of a model."""

    text: str
    """Empty where a row is asked about."""
    steps: tuple[Step, ...] = ()
    """Interventions, all at once."""
    without: tuple[UnitRef, ...] = ()
    """Units that give zero; a latent has what it adds taken away."""
    colour: UnitRef | None = None
    """What tokens are coloured by."""
    new: int = 0
    """By how many tokens the text is continued."""
    temperature: float = 0.0
    """0: the most probable token each time."""
    seed: int = 0
    lens: bool = True
    row: int | None = None
    """Of the live model's own data, which are not text: images, rows of numbers."""
    active: float = 0.01
    magnitude: float = 0.0625
    fingerprints: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def changes(self) -> bool:
        """Whether there is a second model beside the dense one."""
        return bool(self.steps or self.without)

    def as_json(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "text": self.text,
            "steps": [{"slug": step.slug, "level": step.level} for step in self.steps],
            "without": [unit.as_json() for unit in self.without],
            "colour": None if self.colour is None else self.colour.as_json(),
            "new": self.new,
            "temperature": self.temperature,
            "seed": self.seed,
            "lens": self.lens,
            "row": self.row,
            "active": self.active,
            "magnitude": self.magnitude,
            "fingerprints": dict(self.fingerprints),
        }

    @classmethod
    def from_json(cls, asked: Any) -> Play:
        """The question that arrived. Raises `UserError` with a sentence for anything it must not be."""
        if not isinstance(asked, Mapping):
            raise UserError(f"a question of the playground must be an object, got {type(asked).__name__}; send one with a text.")
        row = None if asked.get("row") is None else whole_in(asked, "row", 0, 0, 2**31 - 1)
        text = text_in(asked.get("text"), MOST_CHARACTERS) if row is None else ""
        steps = tuple(Step.from_json(one) for one in _list(asked, "steps", MOST_STEPS))
        if len({step.slug for step in steps}) < len(steps):
            raise UserError(f"interventions must differ, got {steps[0].slug} twice; set one level.")
        colour = asked.get("colour")
        return cls(
            text=text,
            steps=steps,
            without=tuple(UnitRef.from_json(one) for one in _list(asked, "without", MOST_UNITS)),
            colour=None if colour is None else UnitRef.from_json(colour),
            new=whole_in(asked, "new", 0, 0, MOST_NEW),
            temperature=number_in(asked, "temperature", 0.0, 0.0, HOTTEST),
            seed=whole_in(asked, "seed", 0, 0, 2**31 - 1),
            lens=bool(asked.get("lens", True)),
            row=row,
            active=number_in(asked, "active", 0.01, 1e-9, 1.0),
            magnitude=number_in(asked, "magnitude", 0.0625, 0.0, 1e6),
            fingerprints=prints_in(asked),
        )


def _list(asked: Mapping[str, Any], name: str, most: int) -> list[Any]:
    given = asked.get(name, [])
    if not isinstance(given, list) or len(given) > most:
        got = f"{len(given)}" if isinstance(given, list) else type(given).__name__
        raise UserError(f"{name} must be a list of at most {most} entries, got {got}; leave some out.")
    return given


def whole_in(asked: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number of a request."""
    given = asked.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise UserError(f"{name} must be a whole number from {low} to {high:,}, got {given!r}; leave it out for {default}.")
    return given
