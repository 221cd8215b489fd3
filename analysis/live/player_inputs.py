"""What one question of the playground is about: a text, token by token, or one row of the live model's own data. Part of the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.live.playing import JOB_TOKENS, Play
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.live.reader import Reader

LANGUAGE = ("causal-lm", "masked-lm", "seq2seq-lm")


@dataclass(frozen=True)
class Given:
    """An input as the model takes it."""

    batch: Any
    names: tuple[str, ...]
    """Of its positions: the tokens of a text, the one name of a row."""
    ids: np.ndarray
    special: np.ndarray
    score: Callable[[Any], list[float | None]]
    """From the model's output the loss of each position in nats, None where none is scored; empty where there is no loss."""
    speaks: bool
    """Whether the model's answer are logits: over tokens, or over classes."""
    is_text: bool = True

    def answer(self, output: Any) -> Tensor:
        """[positions, vocabulary, classes or width]."""
        from analysis.tasks.objectives import answer_of

        found = answer_of(output)[0].detach()
        return found if self.is_text else found.reshape(1, -1)


def given(reader: Reader, play: Play, most: int) -> Given:
    """What is asked about. Raises `UserError` for a text that is too long, a row that is not there, or the one in place of the other."""
    return _text(reader, play, most) if play.row is None else _row(reader, play.row)


def _text(reader: Reader, play: Play, most: int) -> Given:
    subject = reader.subject
    if subject.tokenizer is None:
        raise UserError(f"a prompt must go to a model that reads text, got {subject.label}, which does not; choose a row of its data.")
    ids, special = reader.tokens(play.text)
    causal = subject.task == "causal-lm"
    most = min(most, reader.most_tokens - (play.new if causal else 0))
    if len(ids) > most:
        raise UserError(
            f"the prompt must have at most {most:,} tokens here, got {len(ids):,}; shorten it, or start a job of "
            f"prompt_effect, which reads up to {JOB_TOKENS:,} where the model does."
        )
    from analysis.models.pieces import pieces

    named = pieces(subject.tokenizer, np.unique(ids))
    names = tuple(named[i] for i in ids.tolist())
    return Given(reader.batch_of(ids), names, ids, special, _surprise(subject, ids, special), subject.task in LANGUAGE)


def _surprise(subject: Any, ids: np.ndarray, special: np.ndarray) -> Callable[[Any], list[float | None]]:
    """Of each token given those before it; of causal models only."""

    def score(output: Any) -> list[float | None]:
        from analysis.models import TextWindows
        from analysis.tasks import choose_task

        if subject.task != "causal-lm":
            return []
        task = choose_task(replace(subject, data=TextWindows.from_ids(ids[None], special=special[None])), "causal-lm")
        loss, _, counts = (values[0].cpu() for values in task.objective.score(output, next(task.batches(1))))
        return [None, *(float(v) if c else None for v, c in zip(loss[:-1].tolist(), counts[:-1].tolist(), strict=True))]

    return score


def _row(reader: Reader, row: int) -> Given:
    subject, data = reader.subject, reader.subject.data
    assert data is not None, "a reader has data"
    if data.token_ids is not None:
        raise UserError(f"a row must be one of data that are not text, got {data.name}; type a prompt.")
    if row >= data.n_windows:
        raise UserError(f"the row must be from 0 to {data.n_windows - 1} of those drawn from {data.name}, got {row}; choose one of them.")
    from analysis.tasks import choose_task, why_no_classes

    alone = replace(subject, data=data.only(np.array([row])))
    task = choose_task(alone)
    batch = next(iter(task.batches(1)))

    def score(output: Any) -> list[float | None]:
        if task.is_divergence:
            return []
        loss, _, counts = task.objective.score(output, batch)
        return [float(loss[0, 0]) if bool(counts[0, 0]) else None]

    label = None if data.labels is None else int(data.labels[row])
    name = data.documents[int(data.document[row])]
    names = (name if label is None else f"{name} ({class_names(subject, [label])[label]})",)
    speaks = bool(subject.reads.n_classes) or why_no_classes(alone) is None
    return Given(batch.inputs, names, np.array([row]), np.zeros(1, bool), score, speaks, is_text=False)


def class_names(subject: Any, classes: list[int]) -> dict[int, str]:
    """What classes are called, as the model's config has it; ``class 3`` where it has no names."""
    named: dict[int, str] = {}
    for name, i in subject.reads.classes.items():
        named.setdefault(i, name)
    return {i: named.get(i, f"class {i}") for i in classes}


def names_of(subject: Any, ids: list[int], *, is_text: bool) -> dict[int, str]:
    """Tokens or classes by id; ids the tokenizer does not know (rows that only round up a matrix) are written ``<id>``."""
    if not is_text:
        return class_names(subject, ids)
    from analysis.models.pieces import pieces

    known = len(subject.tokenizer)
    return {i: f"<{i}>" for i in ids} | pieces(subject.tokenizer, [i for i in ids if i < known])
