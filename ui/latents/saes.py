"""SAEs by name: which runs speak of one, what each is called, the address of one latent, and what is typed to jump to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.given_sae import SAE
from analysis.latents.sae_files import listed_fingerprint
from analysis.spec import UserError
from figures.words import visible
from store import Filter, RunInfo
from ui import data
from ui.runs import readable, weights_of
from ui.words import moment

TRAIN, QUALITY, EXAMPLES, ATTRIBUTION = "sae_train", "sae_quality", "latent_examples", "latent_attribution"
_PLACES: Mapping[str, str] = {TRAIN: "train", QUALITY: "quality", EXAMPLES: "examples", ATTRIBUTION: "attribution"}
"""Which part of a `Sae` the runs of an analysis are."""


@dataclass(frozen=True)
class Sae:
    """One SAE and the newest run of each analysis that speaks of it: the same weights of the SAE in the same model."""

    fingerprint: str
    """Of its files; empty where that is not known."""
    train: RunInfo | None = None
    quality: RunInfo | None = None
    examples: RunInfo | None = None
    attribution: RunInfo | None = None

    @property
    def runs(self) -> tuple[RunInfo, ...]:
        """Those that are there, the most telling first."""
        return tuple(one for one in (self.train, self.examples, self.quality, self.attribution) if one is not None)

    @property
    def run(self) -> RunInfo:
        """The run by which it is addressed."""
        return self.runs[0]

    @property
    def told(self) -> RunInfo | None:
        """The run with a row per latent."""
        return self.examples or self.quality

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of it: the training's, then what later runs found."""
        found: dict[str, Any] = {}
        for one in reversed(self.runs):
            found |= one.provenance.get("facts") or {}
        return found | dict(self.row or {})

    @property
    def row(self) -> Mapping[str, Any] | None:
        """What its training says of it in one row; None where it was not trained here."""
        rows = self.train.summaries.get("saes") if self.train else None
        return rows[0] if rows else None

    @property
    def hook_name(self) -> str:
        """Where it reads (foreign text)."""
        return str(self.facts.get("hook_name") or "an unknown place")

    @property
    def layer(self) -> int | None:
        """Layer of that place."""
        found = self.facts.get("layer")
        return int(found) if found is not None else None

    @property
    def n_latents(self) -> int:
        """How many latents it has."""
        return int(self.facts.get("n_latents") or 0)

    @property
    def architecture(self) -> str:
        """By sae-lens' name; empty where no run recorded it."""
        if self.row is not None:
            return str(self.row["architecture"])
        found = re.fullmatch(r".* \((\w+)\)", str(self.facts.get("sae") or ""))
        return found[1] if found else ""

    @property
    def name(self) -> str:
        """Model, place, size, data and age in a line, for lists (text, no Markdown)."""
        size = f"{self.n_latents:,} latents"
        parts = (self.run.model, self.hook_name, f"{self.architecture} {size}".strip(), self.run.data, moment(self.run.started))
        return visible(" · ".join(filter(None, parts)))

    @property
    def reference(self) -> str:
        """What ``--with sae=`` takes for it; empty where only somebody who has its files can say."""
        return self.train.id if self.train else ""


def saes() -> dict[str, Sae]:
    """Every SAE of the store by the id of the run that addresses it, the newest first."""
    together: dict[tuple[str, str], Sae] = {}
    for slug in _PLACES:
        for run in _readable(slug):
            key = (print_of(run) or run.id, weights_of(run))
            known = together.setdefault(key, Sae(print_of(run)))
            if getattr(known, _PLACES[slug]) is None:
                together[key] = replace(known, **{_PLACES[slug]: run})
    newest = sorted(together.values(), key=lambda one: max(run.started for run in one.runs), reverse=True)
    return {one.run.id: one for one in newest}


def _readable(slug: str) -> Iterable[RunInfo]:
    from analysis.spec import UnknownName

    try:
        return readable(slug)
    except UnknownName:  # an analysis of a later version of the program
        return ()


def print_of(run: RunInfo) -> str:
    """The fingerprint of the SAE that a run trained or was given; empty where it has none."""
    if run.slug == TRAIN:
        return listed_fingerprint(run.provenance.get("files") or (), SAE)
    return str(((run.provenance.get("fingerprints") or {}).get(SAE) or {}).get(SAE) or "")


def sae_of(reference: str, known: Mapping[str, Sae]) -> Sae | None:
    """The SAE of which a run speaks, with that very run where a newer one would stand; None where there is no such run."""
    if reference in known:
        return known[reference]
    run = data.chosen_run(reference)
    if run is None or run.slug not in _PLACES or run.status != "sealed":
        return None
    fits = (one for one in known.values() if print_of(run) and (one.fingerprint, weights_of(one.run)) == (print_of(run), weights_of(run)))
    return replace(next(fits, Sae(print_of(run))), **{_PLACES[run.slug]: run})


# ---------------------------------------------------------------------------------------------------------------------


def query(sae: Sae, latent: int) -> dict[str, str]:
    """The address of a latent's page."""
    return {"run": sae.run.id, "latent": str(latent)}


def where(latent: int) -> tuple[Filter, ...]:
    """The rows of a latent in any table."""
    return (Filter("latent", "=", latent),)


def find(sae: Sae, latent: str) -> int:
    """The latent that an address or a jump means. Raises `UserError` with a sentence where there is none."""
    typed = latent.strip().removeprefix("#").replace(",", "")
    if not (typed.isascii() and typed.isdecimal()):
        raise UserError(f"a latent must be given by its number, got {latent!r}; type for example 17.")
    if int(typed) >= sae.n_latents:
        raise UserError(f"a latent of this SAE must be 0 to {sae.n_latents - 1}, got {typed}; type another number.")
    return int(typed)
