"""What latents of an SAE do on a text: the SAE's place is read in one pass, and what flows there encoded. Part of the worker."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.live.question import Question
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place
    from analysis.models import Subject

RULE = "an activation that is not exactly zero"


@dataclass(frozen=True)
class Opened:
    """The SAE that was asked for last; one at a time is kept."""

    ref: str
    dictionary: Dictionary
    place: Place


class Latents:
    """The SAEs of a store, opened when they are asked for."""

    def __init__(self, subject: Subject, store: str) -> None:
        self._subject, self._store = subject, store
        self._opened: Opened | None = None

    def check(self, question: Question) -> None:
        """Open the SAE. Raises `UserError` for one that is not there, does not belong to this model, or has no such latent."""
        dictionary = self.open(question.sae).dictionary
        wrong = [one for one in question.neurons if one >= dictionary.d_sae]
        if wrong:
            raise UserError(f"the latent must be between 0 and {dictionary.d_sae - 1}, got {wrong[0]}; choose one in that range.")

    def units(self, question: Question, batch: Any, n_tokens: int) -> list[dict[str, Any]]:
        """One entry per latent, as of neurons: its activation at every token, None where the place did not see the token."""
        import torch

        from analysis.latents.places import reading

        opened, chosen = self.open(question.sae), list(question.neurons)
        kept: dict[int, list[float]] = {}

        def take(place: Place, values: Any, rows: Any) -> None:  # noqa: ARG001 - contract
            f = opened.dictionary.encode(values.float())[:, chosen].cpu()
            kept.update(zip(rows.tolist(), f.tolist(), strict=True))

        with torch.no_grad(), reading(self._subject.model, [opened.place], take, stop=True) as session:
            session.run(batch)
        return [
            self._unit(opened.place, latent, [kept[t][i] if t in kept else None for t in range(n_tokens)])
            for i, latent in enumerate(chosen)
        ]

    def _unit(self, place: Place, latent: int, values: list[float | None]) -> dict[str, Any]:
        return {
            "hook_name": place.hook_name, "layer": place.layer, "neuron": latent, "rule": RULE, "activations": values,
            "contributions": None, "active": [None if one is None else one != 0 for one in values],
        }  # fmt: skip

    def open(self, ref: str) -> Opened:
        """The SAE of that reference with its place, checked against this model."""
        if self._opened is None or self._opened.ref != ref:
            from analysis.given_sae import given_sae
            from analysis.latents.preflight import preflight
            from store import Store

            with closing(Store(self._store)) as store:
                dictionary = given_sae(store, ref, self._subject.device)
            self._opened = Opened(ref, dictionary, preflight(dictionary, self._subject).place)
        return self._opened
