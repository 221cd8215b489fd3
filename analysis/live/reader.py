"""What the worker does with its model: open it, say what it is, and read a text with it. Loads torch, as the playground's modules do.

1. `open_reader` opens the subject, compares fingerprints, checks the memory, loads the weights and finds the sites of neurons.
2. `Reader.forward` cuts nothing: a text is read whole, with the special tokens that the tokenizer adds, or refused in a sentence.
3. Activations are observed as `neuron_activity` observes them, and "active" is decided by the very same rule.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.live.observers import Counts, Enough, Seen, share, spread
from analysis.live.places import USUAL_DATA
from analysis.live.playing import DRAWN
from analysis.live.question import LONGEST_TEXT, Question
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.capture import Site
    from analysis.live.player import Player
    from analysis.models import Subject

MOST_TOKENS = 1024
_LOOK_TOKENS, _LOOK_WINDOW = 32, 16
"""Text that the model is given when its sites are looked for."""

Progress = Callable[[str, float, float], Any]


class Cancelled(Exception):
    """The question is not wanted any more."""


def open_reader(model: str, device: str, wanted: Mapping[str, str], progress: Progress, store: str = "", data: str = USUAL_DATA) -> Reader:
    """The reader of that model; SAEs are those of runs in ``store``. ``data``: for models that read no text, what they read.

    Raises `UserError` where its files are not the wanted ones, or there is too little memory.
    """
    from analysis.live.limits import check_memory
    from analysis.models import open_subject

    check_memory(model, None)
    progress("loading libraries", 0, 0)
    import torch  # noqa: F401 - now, so that what is said is what is done

    progress("opening the model", 0, 0)
    n = _LOOK_TOKENS if data == USUAL_DATA else DRAWN * _LOOK_WINDOW
    subject = open_subject(model, data, device=device, n_tokens=n, window=_LOOK_WINDOW, progress=progress)
    check_fingerprints(subject, wanted)
    check_memory(model, subject)
    progress("loading weights", 0, 0)
    _ = subject.model
    progress("finding sites", 0, 0)
    return Reader(subject, store)


def check_fingerprints(subject: Subject, wanted: Mapping[str, str]) -> None:
    """Raise the sentence unless weights and tokenizer are those of the run that is looked at."""
    for what, fingerprint in wanted.items():
        found = subject.fingerprints.get(what, "none")
        if found != fingerprint:
            raise UserError(
                f"the {what} of {subject.label} must be those of the run (fingerprint {fingerprint[:12]}), got {found[:12]}: the "
                f"files have changed since; run the analysis again to compare like with like."
            )


class Reader:
    """A loaded model that reads texts."""

    def __init__(self, subject: Subject, store: str = "", most_tokens: int = MOST_TOKENS) -> None:
        from analysis.live.latents import Latents
        from analysis.models.loading import context_length
        from analysis.models.pieces import added_tokens, reserved_ids
        from analysis.neurons.observing import neuron_sites

        self.subject, self.latents = subject, Latents(subject, store)
        self.sites: dict[str, Site] = {site.hook_name: site for site in neuron_sites(subject)}
        limits = [subject.facts.get("context_length"), context_length(None, subject.tokenizer), most_tokens]
        self.most_tokens = min(n for n in limits if n is not None)
        none = np.empty(0, np.int64)
        self._prefix, self._suffix = (none, none) if subject.tokenizer is None else added_tokens(subject.tokenizer)
        self._reserved = sorted(reserved_ids(subject.tokenizer))
        self._rules: dict[tuple[str, float, float], Any] = {}
        self._once = self._run_once()

    def _run_once(self) -> set[str]:
        """Names of the sites that a whole pass has shown to run once: a pass may stop behind them. And the first pass is the slowest."""
        from analysis.capture import capture

        counts = Counts()
        batch, _ = next(iter(self.subject.data.batches(1, self.subject.device)))  # pyright: ignore[reportOptionalMemberAccess]
        with capture(self.subject.model, list(self.sites.values()), counts) as session:
            session.run(batch)
        return {name for name, n in counts.of.items() if n == 1}

    @cached_property
    def player(self) -> Player:
        """What answers the playground; made when it is first asked."""
        from analysis.live.player import Player

        return Player(self)

    def describe(self) -> dict[str, Any]:
        """What it is and what may be asked of it, as JSON."""
        return {
            "model": self.subject.name,
            "label": self.subject.label,
            "dtype": self.subject.dtype,
            "device": self.subject.device,
            "fingerprints": {k: v for k, v in self.subject.fingerprints.items() if k != "data"},
            "sites": [{"hook_name": s.hook_name, "layer": s.layer, "neurons": s.width} for s in self.sites.values()],
            "most_tokens": self.most_tokens,
            "most_characters": LONGEST_TEXT,
        }

    def forward(self, question: Question, check: Callable[[], None]) -> dict[str, Any]:
        """The answer as JSON. ``check`` is called before every module and raises where nobody waits any longer."""
        from analysis.capture import Frame, capture
        from analysis.models.pieces import pieces

        began = time.monotonic()
        sites = [] if question.sae else [self._site(name, question.neurons) for name in question.sites]
        check_fingerprints(self.subject, question.fingerprints)
        if question.sae:
            self.latents.check(question)
        ids, special = self.tokens(question.text)
        check()
        batch = self.batch_of(ids)
        if question.sae:
            with self.watched(check):
                units = self.latents.units(question, batch, len(ids))
        else:
            names = {site.name for site in sites}
            seen = Seen(question.neurons, sites if names <= self._once else None)
            with self.watched(check), capture(self.subject.model, sites, seen) as session, contextlib.suppress(Enough):
                session.run(batch, Frame.of(batch))
            units = [unit for site in sites for unit in self._units(site, question, seen, len(ids))]
        check()

        strings = pieces(self.subject.tokenizer, np.unique(ids))
        return {
            "tokens": [strings[i] for i in ids.tolist()],
            "ids": ids.tolist(),
            "special": special.tolist(),
            "units": units,
            "seconds": round(time.monotonic() - began, 4),
        }

    def _site(self, name: str, neurons: tuple[int, ...]) -> Site:
        site = self.sites.get(name)
        if site is None:
            names = list(self.sites)
            known = ", ".join(names) if len(names) < 5 else f"{names[0]} to {names[-1]}"
            where = f"the {len(names)} of {self.subject.label} ({known})"
            raise UserError(f"the site must be one of {where}, got {name[:100]!r}; choose one of them.")
        assert site.width is not None
        wrong = [n for n in neurons if n >= site.width]
        if wrong:
            raise UserError(f"the neuron must be between 0 and {site.width - 1} at {name}, got {wrong[0]}; choose one in that range.")
        return site

    def tokens(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids and which of them are special, as `analysis.models.text` makes windows."""
        from analysis.models.loading import quiet

        tokenizer: Any = self.subject.tokenizer
        if tokenizer is None:
            raise UserError(f"a text must go to a model that reads text, got {self.subject.label}, which does not; ask another.")
        with quiet():
            content = np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)
        ids = np.concatenate([self._prefix, content, self._suffix]).astype(np.int64)
        if not len(content):
            raise UserError(f"the text must have at least 1 token, got {text[:20]!r}, of which the tokenizer leaves none; give some words.")
        if len(ids) > self.most_tokens:
            raise UserError(
                f"the text must have at most {self.most_tokens:,} tokens, got {len(ids):,}; shorten it (nothing is cut off silently)."
            )
        special = np.isin(ids, self._reserved)
        special[: len(self._prefix)] = True
        special[len(ids) - len(self._suffix) :] = True
        return ids, special

    def batch_of(self, ids: np.ndarray) -> Any:
        """One window as the model takes it."""
        from analysis.models import TextWindows
        from analysis.models.text import model_inputs

        window = TextWindows.from_ids(ids[None], inputs=model_inputs(self.subject.task))
        return next(window.batches(1, self.subject.device))[0]

    @contextlib.contextmanager
    def watched(self, check: Callable[[], None]) -> Iterator[None]:
        """Ask ``check`` before each module, so that a question can be given up between layers."""
        from analysis.capture.running import hooked

        with hooked(module.register_forward_pre_hook(lambda *_: check()) for module in self.subject.model.modules()):
            yield

    def _units(self, site: Site, question: Question, seen: Seen, n_tokens: int) -> Iterator[dict[str, Any]]:
        from analysis.stats.activity import is_active

        rule = self.rule(site, question.active, question.magnitude)
        values, scale, where = seen.of(site)
        chosen = dataclasses.replace(rule, weight=rule.weight[list(question.neurons)])
        active = is_active(values, chosen, scale)
        for i, neuron in enumerate(question.neurons):
            contributions = None
            if rule.kind == "relative" and scale is not None:
                contributions = share(np.abs(values[:, i], dtype=np.float64) * chosen.weight[i], scale)
            yield {
                "hook_name": site.hook_name,
                "layer": site.layer,
                "neuron": neuron,
                "rule": rule.words,
                "activations": spread(values[:, i], where, n_tokens),
                "contributions": None if contributions is None else spread(contributions, where, n_tokens),
                "active": spread(active[:, i], where, n_tokens),
            }

    def rule(self, site: Site, active: float, magnitude: float) -> Any:
        """What active means at a site of the dense model; made once."""
        from analysis.neurons.observing import active_rule

        key = (site.hook_name, active, magnitude)
        if key not in self._rules:
            if len(self._rules) >= 2 * len(self.sites):
                self._rules.clear()
            self._rules[key] = active_rule(self.subject.model, site, active, magnitude)
        return self._rules[key]
