"""Which task a model and its data call for; and the sentence where the one asked for cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models.loading import CAUSAL, MASKED, SEQ2SEQ
from analysis.spec import IncompatibleSubject, UnknownName
from analysis.tasks.objectives import CausalLM, Classification, Divergence, MaskedLM, OwnLoss, Seq2Seq
from analysis.tasks.splits import ALL, split_windows
from analysis.tasks.task import OWN, Objective, Task

if TYPE_CHECKING:
    from analysis.models import Subject

AUTO = "auto"
TASKS = (AUTO, "causal-lm", "masked-lm", "seq2seq", "classification", "divergence", OWN)


def choose_task(subject: Subject, task: str = AUTO, *, split: str = ALL, seed: int = 0) -> Task:
    """The task on one split of the subject's data. The model is not loaded.

    ``auto``: the loss that came with the model, where one did; else the language modelling that the model's head is for, where the data
    are tokens; classification where the model is a classifier, or a plain module, and the data have labels; else divergence from the
    dense model's own outputs. Raises `IncompatibleSubject` where the task asked for cannot be, `UserError` where there are too few
    documents for a split.
    """
    if task not in TASKS:
        raise UnknownName(f"the task must be one of {', '.join(TASKS)}, got {task!r}; name one of them.")
    data = subject.data
    if data is None:
        raise IncompatibleSubject(f"{subject.label} has no inputs, and a task needs some; give data with --data.")
    objective = _automatic(subject, seed) if task == AUTO else _MAKERS[task](subject, seed)
    examples = split_windows(data, split, seed)
    chosen = data if split == ALL else data.only(examples)
    facts: dict[str, Any] = {
        "task": objective.name,
        "unit": objective.unit,
        "loss": objective.words,
        "split": split,
        "split_seed": seed,
        "n_examples": len(examples),
        "n_documents": len(np.unique(chosen.document)),
    }
    if chosen.special is not None:
        facts["n_special_tokens"] = int(chosen.special.sum())
    return Task(objective, chosen, examples, split, seed, subject.device, facts, subject.reads.vocabulary)


def possible_tasks(subject: Subject) -> tuple[str, ...]:
    """Which tasks the subject can do on its data; divergence is always among them."""
    found = []
    for name, make in _MAKERS.items():
        try:
            make(subject, 0)
        except IncompatibleSubject:
            continue
        found.append(name)
    return tuple(found)


def _automatic(subject: Subject, seed: int) -> Objective:
    if subject.loss is not None:
        return OwnLoss(subject.loss)
    if subject.data is not None and subject.data.token_ids is not None:
        if subject.task == CAUSAL:
            return CausalLM()
        if subject.task == MASKED and _mask_token(subject) is not None:
            return _masked(subject, seed)
        if subject.task == SEQ2SEQ and subject.reads.decoder_start is not None:
            return _seq2seq(subject, seed)
    if why_no_classes(subject) is None:
        return Classification()
    return _divergence(subject, seed)


def _refused(subject: Subject, task: str, why: str) -> IncompatibleSubject:
    return IncompatibleSubject(
        f"the task must be one that {subject.label} can do on its data, got {task}: {why}; "
        "leave the task to be chosen, or set task=divergence."
    )


def _own(subject: Subject, _seed: int) -> Objective:
    if subject.loss is None:
        raise _refused(subject, OWN, "it came without a loss, which a --factory may bring")
    return OwnLoss(subject.loss)


def _causal(subject: Subject, _seed: int) -> Objective:
    _check_tokens(subject, "causal-lm", CAUSAL)
    return CausalLM()


def _masked(subject: Subject, seed: int) -> Objective:
    _check_tokens(subject, "masked-lm", MASKED)
    mask = _mask_token(subject)
    if mask is None:
        raise _refused(subject, "masked-lm", "its tokenizer has no mask token")
    return MaskedLM(mask, seed)


def _seq2seq(subject: Subject, _seed: int) -> Objective:
    _check_tokens(subject, "seq2seq", SEQ2SEQ)
    start = subject.reads.decoder_start
    if start is None:
        raise _refused(subject, "seq2seq", "its config names no token that the decoder starts with")
    return Seq2Seq(start, subject.reads.pad or 0)


def _classification(subject: Subject, _seed: int) -> Objective:
    why = why_no_classes(subject)
    if why is not None:
        raise _refused(subject, "classification", why)
    return Classification()


def _divergence(subject: Subject, _seed: int) -> Objective:
    logits = subject.task in (CAUSAL, MASKED, SEQ2SEQ) or bool(subject.reads.n_classes)
    tokens = subject.data is not None and subject.data.token_ids is not None and not subject.reads.n_classes
    return Divergence.of(logits, tokens)


_MAKERS: Mapping[str, Callable[[Any, int], Objective]] = {
    OWN: _own,
    "causal-lm": _causal,
    "masked-lm": _masked,
    "seq2seq": _seq2seq,
    "classification": _classification,
    "divergence": _divergence,
}


def _check_tokens(subject: Subject, task: str, head: str) -> None:
    if subject.data is None or subject.data.token_ids is None:
        raise _refused(subject, task, "its data are not text")
    if subject.task != head and not (subject.reads.plain and subject.task is None):
        raise _refused(subject, task, f"its head is for another task ({subject.task or 'none that is known'})")


def _mask_token(subject: Subject) -> int | None:
    return getattr(subject.tokenizer, "mask_token_id", None)


def why_no_classes(subject: Subject) -> str | None:
    """None where the model tells classes apart and the data give them, else why not."""
    reads, labels = subject.reads, None if subject.data is None else subject.data.labels
    if not reads.plain and reads.n_classes is None:
        return "its head tells no classes apart"
    if reads.several:
        return "its examples may have several classes at once"
    if reads.n_classes is not None and reads.n_classes < 2:
        return "its head gives one number, not classes"
    if labels is None:
        rule = "" if subject.data is None else str(subject.data.facts.get("labels", ""))
        return rule or "its data have no labels"
    if labels.min() < 0 or (reads.n_classes is not None and labels.max() >= reads.n_classes):
        return f"labels must be from 0 to {(reads.n_classes or 1) - 1} and are {labels.min()} to {labels.max()}"
    return None
