"""What the worker does with its model: open it, say what it is, and read a text with it. The only module here that loads torch.

1. `open_reader` opens the subject, compares fingerprints, checks the memory, loads the weights and finds the sites of neurons.
2. `Reader.forward` cuts nothing: a text is read whole, with the special tokens that the tokenizer adds, or refused in a sentence.
3. Activations are observed as `neuron_activity` observes them, and "active" is decided by the very same rule.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.live.question import LONGEST_TEXT, Question
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Site
    from analysis.models import Subject

MOST_TOKENS = 1024
_LOOK_TOKENS, _LOOK_WINDOW = 32, 16
"""Text that the model is given when its sites are looked for."""

Progress = Callable[[str, float, float], Any]


class Cancelled(Exception):
    """The question is not wanted any more."""


class _Enough(Exception):
    """Everything that was asked has been seen: what comes behind it in the model need not run."""


def open_reader(model: str, device: str, wanted: Mapping[str, str], progress: Progress) -> Reader:
    """The reader of that model. Raises `UserError` where its files are not the wanted ones, or there is too little memory."""
    from analysis.live.limits import check_memory
    from analysis.models import open_subject

    check_memory(model, None)
    progress("loading libraries", 0, 0)
    import torch  # noqa: F401 - now, so that what is said is what is done

    progress("opening the model", 0, 0)
    subject = open_subject(model, "python-docs", device=device, n_tokens=_LOOK_TOKENS, window=_LOOK_WINDOW, progress=progress)
    check_fingerprints(subject, wanted)
    check_memory(model, subject)
    progress("loading weights", 0, 0)
    _ = subject.model
    progress("finding sites", 0, 0)
    return Reader(subject)


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

    def __init__(self, subject: Subject) -> None:
        from analysis.models.loading import context_length
        from analysis.models.pieces import added_tokens, reserved_ids
        from analysis.neurons.observing import neuron_sites

        self.subject = subject
        self.sites: dict[str, Site] = {site.hook_name: site for site in neuron_sites(subject)}
        limits = [subject.facts.get("context_length"), context_length(None, subject.tokenizer), MOST_TOKENS]
        self.most_tokens = min(n for n in limits if n is not None)
        self._prefix, self._suffix = added_tokens(subject.tokenizer)
        self._reserved = sorted(reserved_ids(subject.tokenizer))
        self._rules: dict[tuple[str, float, float], Any] = {}
        self._once = self._run_once()

    def _run_once(self) -> set[str]:
        """Names of the sites that a whole pass has shown to run once: a pass may stop behind them. And the first pass is the slowest."""
        from analysis.capture import capture

        counts = _Counts()
        batch, _ = next(iter(self.subject.data.batches(1, self.subject.device)))  # pyright: ignore[reportOptionalMemberAccess]
        with capture(self.subject.model, list(self.sites.values()), counts) as session:
            session.run(batch)
        return {name for name, n in counts.of.items() if n == 1}

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

        began = time.monotonic()
        sites = [self._site(name, question.neurons) for name in question.sites]
        check_fingerprints(self.subject, question.fingerprints)
        ids, special = self._tokens(question.text)
        check()
        names = {site.name for site in sites}
        seen = _Seen(question.neurons, sites if names <= self._once else None)
        with self._watched(check), capture(self.subject.model, sites, seen) as session, contextlib.suppress(_Enough):
            batch = self._batch(ids)
            session.run(batch, Frame.of(batch))
        check()
        units = [unit for site in sites for unit in self._units(site, question, seen, len(ids))]
        from analysis.models.pieces import pieces

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

    def _tokens(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids and which of them are special, as `analysis.models.text` makes windows."""
        from analysis.models.loading import quiet

        tokenizer: Any = self.subject.tokenizer
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

    def _batch(self, ids: np.ndarray) -> Any:
        from analysis.models import TextWindows
        from analysis.models.text import model_inputs

        window = TextWindows.from_ids(ids[None], inputs=model_inputs(self.subject.task))
        return next(window.batches(1, self.subject.device))[0]

    @contextlib.contextmanager
    def _watched(self, check: Callable[[], None]) -> Iterator[None]:
        """Ask ``check`` before each module, so that a question can be given up between layers."""
        hooks = [module.register_forward_pre_hook(lambda *_: check()) for module in self.subject.model.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _units(self, site: Site, question: Question, seen: _Seen, n_tokens: int) -> Iterator[dict[str, Any]]:
        from analysis.stats.activity import is_active

        rule = self._rule(site, question.active, question.magnitude)
        values, scale, where = seen.of(site)
        chosen = dataclasses.replace(rule, weight=rule.weight[list(question.neurons)])
        active = is_active(values, chosen, scale)
        for i, neuron in enumerate(question.neurons):
            contributions = None
            if rule.kind == "relative" and scale is not None:
                contributions = _share(np.abs(values[:, i], dtype=np.float64) * chosen.weight[i], scale)
            yield {
                "hook_name": site.hook_name,
                "layer": site.layer,
                "neuron": neuron,
                "rule": rule.words,
                "activations": _spread(values[:, i], where, n_tokens),
                "contributions": None if contributions is None else _spread(contributions, where, n_tokens),
                "active": _spread(active[:, i], where, n_tokens),
            }

    def _rule(self, site: Site, active: float, magnitude: float) -> Any:
        from analysis.neurons.observing import active_rule

        key = (site.hook_name, active, magnitude)
        if key not in self._rules:
            if len(self._rules) >= 2 * len(self.sites):
                self._rules.clear()
            self._rules[key] = active_rule(self.subject.model, site, active, magnitude)
        return self._rules[key]


@dataclass
class _Counts:
    """An observer that counts how often each site runs."""

    of: dict[str, int] = field(default_factory=dict)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:  # noqa: ARG002 - contract
        """Once more."""
        self.of[site.name] = self.of.get(site.name, 0) + 1


@dataclass
class _Seen:
    """The observer: keeps the asked neurons' values and the norm of the FFN's output at every token."""

    neurons: tuple[int, ...]
    until: list[Site] | None
    """Sites after which the pass may stop; None to run all of it."""
    _values: dict[str, np.ndarray] = field(default_factory=dict)
    _scale: dict[str, np.ndarray] = field(default_factory=dict)
    _rows: dict[str, np.ndarray] = field(default_factory=dict)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """What flows there."""
        if site.name in self._values:
            raise UserError(
                f"{site.hook_name} runs more than once in a forward pass (shared layers), which cannot be told apart; ask another."
            )
        # An integer index copies: nothing of the pass is kept.
        self._values[site.name] = values[:, list(self.neurons)].float().cpu().numpy()
        if rows is not None:
            self._rows[site.name] = rows.cpu().numpy()
        if not site.product:
            self._stop()

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:  # noqa: ARG002 - contract
        """What the FFN writes. In float32, as `neuron_activity` does."""
        self._scale[site.name] = output.float().norm(dim=1).cpu().numpy()
        self._stop()

    def _stop(self) -> None:
        """Raise once every awaited site has been seen, with its output where that is looked at."""
        if self.until is not None and all(s.name in (self._scale if s.product else self._values) for s in self.until):
            raise _Enough

    def of(self, site: Site) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Values [rows, neurons], output norms [rows] and the tokens the rows belong to (None: all, in order)."""
        if site.name not in self._values:  # an expert that no token of this text was sent to
            return np.zeros((0, len(self.neurons)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        return self._values[site.name], self._scale.get(site.name), self._rows.get(site.name)


def _share(written: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """|a| ||w_out|| / ||FFN(x)||; NaN, which becomes null, where the FFN writes nothing."""
    return np.divide(written, whole, out=np.full(len(written), np.nan), where=whole > 0, dtype=np.float64)


def _spread(values: np.ndarray, where: np.ndarray | None, n_tokens: int) -> list[Any]:
    """One entry per token: null where the site did not see the token or the value is not finite."""
    plain = [v if isinstance(v, bool) or np.isfinite(v) else None for v in values.tolist()]
    if where is None:
        return plain
    spread: list[Any] = [None] * n_tokens
    for place, value in zip(where.tolist(), plain):
        spread[place] = value
    return spread
