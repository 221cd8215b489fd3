"""What a report of a model holds, before it is a page or a file: the newest run of each question, and what has not been asked.

Made from sealed runs alone, in the order of the registry: the same runs give the same report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import analysis
from analysis.headlines import headlines
from analysis.spec import Analysis, Headline, UserError
from figures.spec import FigureError, FigureSpec, NothingToDraw
from store import RunInfo, Store, StoreError


@dataclass(frozen=True)
class Answer:
    """One question that has been answered."""

    analysis: Analysis
    run: RunInfo
    n_further: int
    """Other runs of the same question that count, too, on other data or with other settings: not in this report."""

    @property
    def headlines(self) -> tuple[Headline, ...]:
        """The numbers of the model's card."""
        return headlines(self.run)


@dataclass(frozen=True)
class Report:
    """One model."""

    name: str
    label: str
    facts: Mapping[str, Any]
    """What is known of it: parameters, layers, architecture."""
    weights: str
    """Fingerprint of its weights."""
    answers: tuple[Answer, ...]
    """In the order of the registry."""
    outdated: tuple[Analysis, ...]
    """Questions that only another version of their analysis has answered."""
    unasked: tuple[Analysis, ...]


def weights_of(run: RunInfo) -> str:
    """Fingerprint of the weights of the model that was asked about."""
    return str(((run.provenance.get("fingerprints") or {}).get("model") or {}).get("weights") or "")


def runs_of(store: Store, model: str) -> list[RunInfo]:
    """The sealed runs that count of one model, newest first: by its name, its file or path, or the beginning of its weights' fingerprint.

    Raises `UserError` where the store has none, or several models of that name.
    """
    every = [run for run in store.runs() if run.status == "sealed" and run.current]
    found = [run for run in every if _is(run, model)]
    if not found:
        known = ", ".join(dict.fromkeys(run.model for run in every)) or "none yet"
        raise UserError(f"a report must be of a model with a sealed run, got {model!r}; the models of this store are {known}.")
    prints = dict.fromkeys(weights_of(run) for run in found)
    if len(prints) > 1:
        told = ", ".join(one[:12] or "an unknown fingerprint" for one in prints)
        raise UserError(
            f"a report must be of one model, got {model!r}, which {len(prints)} with other weights are called; name one of {told}."
        )
    return found


def _is(run: RunInfo, model: str) -> bool:
    by_name = model in (run.model, str(run.provenance.get("model_source")))
    return by_name or (len(model) >= 6 and weights_of(run).startswith(model))


def gather(runs: Sequence[RunInfo]) -> Report:
    """The report of the model that these sealed runs, newest first, are of. Raises `UserError` where there are none."""
    if not runs:
        raise UserError("a report must be of at least one sealed run, got none; measure the model first.")
    counting = [run for run in runs if run.status == "sealed" and run.current]
    answers, outdated, unasked = [], [], []
    for one in analysis.ANALYSES:
        of_it = [run for run in counting if run.slug == one.slug]
        today = [run for run in of_it if run.version == one.version]
        if today:
            answers.append(Answer(one, today[0], len(today) - 1))
        elif of_it:
            outdated.append(one)
        else:
            unasked.append(one)
    # A series of checkpoints is asked other questions than a checkpoint; what it is shows in what has been answered.
    takes = {answer.analysis.takes for answer in answers} | {one.takes for one in outdated}
    unasked = [one for one in unasked if not takes or one.takes in takes]
    record = runs[0].provenance
    return Report(
        name=runs[0].model,
        label=str(record.get("model_label") or runs[0].model),
        facts=record.get("model_facts") or {},
        weights=weights_of(runs[0]),
        answers=tuple(answers),
        outdated=tuple(outdated),
        unasked=tuple(unasked),
    )


@dataclass(frozen=True)
class Shown:
    """The main figure of an answer: the first declared one that has something to show."""

    slug: str
    spec: FigureSpec | None
    """None where there is none, and then `why` says so."""
    why: str
    """Empty, or why there is no figure."""


def shown_figure(store: Store, answer: Answer) -> Shown:
    """The first declared figure that applies; where one cannot be drawn, the sentence that says so."""
    from analysis.drawing import draw

    why = "this analysis declares no figure"
    for figure in answer.analysis.figures:
        try:
            spec, _ = draw(store, answer.run, figure.slug)
        except NothingToDraw as error:
            why = str(error)
            continue
        except (UserError, StoreError, FigureError) as error:
            return Shown(figure.slug, None, f"its figure cannot be drawn: {error}")
        return Shown(figure.slug, spec, "")
    return Shown("", None, why)
