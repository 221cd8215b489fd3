"""Texts that are one example each: with a class, or with a target text. Cut at the window's length, padded, never joined."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models.fingerprints import digest
from analysis.models.inputs.classes import class_ids
from analysis.models.inputs.reads import Reads
from analysis.models.loading import quiet
from analysis.models.pieces import pieces, reserved_ids
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.models.documents import Document

IGNORED = -100
"""In targets: a position without one, by torch's convention."""


@dataclass(eq=False)
class TextExamples:
    """Texts as rows of token ids, padded on the right."""

    name: str
    token_ids: np.ndarray = field(repr=False)
    """int64 [n, longest]."""
    lengths: np.ndarray = field(repr=False)
    """int64 [n]: tokens that are not padding."""
    special: np.ndarray = field(repr=False)
    """bool [n, longest]: tokens the tokenizer added or reserves, and padding."""
    documents: list[str] = field(repr=False)
    document: np.ndarray = field(repr=False)
    settings: dict[str, Any]
    labels: np.ndarray | None = field(default=None, repr=False)
    """int64 [n]: the class of each."""
    targets: np.ndarray | None = field(default=None, repr=False)
    """int64 [n, longest target]: what a decoder should say, `IGNORED` where padded."""
    token_strings: dict[int, str] = field(default_factory=dict, repr=False)
    decoder_start: int | None = None
    one_by_one: bool = False
    """Whether the model has no padding token, so that a batch may hold one text only."""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            kept = (self.token_ids, self.lengths, self.special, self.labels, self.targets)
            head = repr((sorted((k, v) for k, v in self.settings.items() if k != "data"), self.token_ids.shape)).encode()
            self.fingerprint = digest([head, *(np.ascontiguousarray(a).data for a in kept if a is not None and a.size)])

    @property
    def n_windows(self) -> int:
        """Number of texts."""
        return len(self.token_ids)

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and settings, as JSON."""
        counts = {"n_windows": self.n_windows, "n_documents": self.n_windows, "n_tokens": int(self.lengths.sum())}
        return {**self.settings, **counts}

    def parts(self, n_windows: int) -> list[slice]:
        """The texts in consecutive parts of ``n_windows``."""
        return [slice(i, min(i + n_windows, self.n_windows)) for i in range(0, self.n_windows, n_windows)]

    def batches(self, batch_size: int, device: str = "cpu", within: slice | None = None) -> Iterator[tuple[Any, slice]]:
        """Batches for the model, padded to the longest text in each; an encoder-decoder is given its target, shifted."""
        import torch

        within = within or slice(0, self.n_windows)
        size = 1 if self.one_by_one else batch_size
        for first in range(within.start, within.stop, size):
            part = slice(first, min(first + size, within.stop))
            longest = int(self.lengths[part].max())
            mask = np.arange(longest) < self.lengths[part, None]
            named = {"input_ids": self.token_ids[part, :longest], "attention_mask": mask.astype(np.int64)}
            if self.targets is not None and self.decoder_start is not None:
                targets = self.targets[part]
                named["decoder_input_ids"] = shifted(targets, self.decoder_start)
                named["decoder_attention_mask"] = (targets != IGNORED).astype(np.int64)
            yield {name: torch.from_numpy(np.ascontiguousarray(values)).to(device) for name, values in named.items()}, part

    def only(self, windows: np.ndarray) -> TextExamples:
        """The texts at these positions."""
        chosen = copy.copy(self)
        for name in ("token_ids", "lengths", "special", "document", "labels", "targets"):
            values = getattr(self, name)
            setattr(chosen, name, None if values is None else values[windows])
        chosen.fingerprint = digest([self.fingerprint.encode(), np.ascontiguousarray(windows).tobytes()])
        return chosen


def shifted(targets: np.ndarray, start: int, fill: int = 0) -> np.ndarray:
    """What the decoder reads to say ``targets`` [n, t]: the start token and all but the last target; ``fill`` where there is none."""
    moved = np.concatenate([np.full((len(targets), 1), start, dtype=np.int64), targets[:, :-1]], axis=1)
    return np.where(moved == IGNORED, fill, moved)


def text_examples(
    name: str, documents: Sequence[Document], tokenizer: Any, reads: Reads, *, n_tokens: int, window: int, seed: int, limit: int | None
) -> TextExamples:
    """A seeded sample of the documents, an example each, which counts as one window of tokens; longer texts are cut at ``window``."""
    if limit is not None and window > limit:
        raise UserError(f"the window must be at most the {limit} positions of this model, got {window}; set a shorter window.")
    wanted = max(1, ceil(n_tokens / window))
    order = np.random.default_rng(seed).permutation(len(documents))
    rows, targets, labels, used, cut, empty = [], [], [], [], 0, 0
    for index in order.tolist():
        document = documents[index]
        ids = _ids(tokenizer, document.read())
        if not ids:
            empty += 1
            continue
        label, target = document.label(), document.target()
        cut += len(ids) > window
        rows.append(_cut(ids, window, tokenizer))
        labels.append(label)
        targets.append(None if target is None else _cut(_ids(tokenizer, target), window, tokenizer))
        used.append(index)
        if len(rows) == wanted:
            break
    if not rows:
        raise UserError("the text must not be empty, got no token in any document; give some text.")
    _check_all(documents, used, labels, "label")
    _check_all(documents, used, targets, "target")
    places = np.argsort(used)
    put = lambda values: [values[i] for i in places]  # noqa: E731 - one word for a word
    ids, lengths = _padded(put(rows), reads.pad or 0)
    settings: dict[str, Any] = {"data": name, "n_tokens_wanted": n_tokens, "window": window, "seed": seed, "n_cut": cut, "n_empty": empty}
    settings["n_documents_total"] = len(documents)
    found, rule = (None, "") if labels[0] is None else class_ids(put(labels), reads, getattr(documents, "label_names", None))
    if rule:
        settings["labels"] = rule
    reserved = np.isin(ids, sorted(reserved_ids(tokenizer))) | (np.arange(ids.shape[1]) >= lengths[:, None])
    return TextExamples(
        name,
        ids,
        lengths,
        reserved,
        [documents[used[i]].name for i in places],
        np.arange(len(rows), dtype=np.int64),
        settings,
        found,
        None if targets[0] is None else _padded(put(targets), IGNORED)[0],
        pieces(tokenizer, np.unique(ids)),
        reads.decoder_start,
        reads.pad is None,
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    with quiet():
        return list(tokenizer(text, verbose=False)["input_ids"]) if text.strip() else []


def _cut(ids: list[int], window: int, tokenizer: Any) -> list[int]:
    """At most ``window`` ids; what the tokenizer put after the text stays at the end."""
    from analysis.models.pieces import added_tokens

    if len(ids) <= window:
        return ids
    after = added_tokens(tokenizer)[1].tolist()
    return ids[: window - len(after)] + after


def _check_all(documents: Sequence[Document], used: list[int], values: list[Any], what: str) -> None:
    """All documents or none must have it."""
    missing = next((i for i, value in zip(used, values) if value is None), None)
    if missing is not None and any(value is not None for value in values):
        raise UserError(f"all records or none must have a {what}, got {documents[missing].name} without one; add it or remove the record.")


def _padded(rows: list[list[int]], fill: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), max(1, int(lengths.max()))), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, lengths
