"""From DATA to `Data`, in the form that a subject's model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models import loading
from analysis.models.batches import Data
from analysis.models.documents import open_documents
from analysis.models.inputs.arrays import open_arrays, sampled
from analysis.models.inputs.examples import Examples, choose
from analysis.models.inputs.naming import DataName, data_name
from analysis.models.inputs.reads import PIXELS, TOKENS, Reads
from analysis.models.text import TextWindows, model_inputs, text_windows
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.models.opening import Progress
    from analysis.models.subject import Subject


def load_data(subject: Subject, data: str, *, n_tokens: int, window: int, seed: int, progress: Progress | None = None) -> Data:
    """The inputs that DATA names: ``n_tokens`` of text in windows, or as many examples as that would be windows."""
    named = data_name(data)
    sizes: dict[str, int] = {"n_tokens": n_tokens, "window": window, "seed": seed}
    if named.kind in ("text", "jsonl", "dataset"):
        return _records(subject, data, named, sizes, progress)
    if named.kind == "arrays":
        return _arrays(subject, named, **sizes)
    if subject.reads.name == TOKENS:
        raise UserError(f"the data must be text or token ids for {subject.label}, got {named.words} in {data}; give text with --data.")
    from analysis.models.inputs.images import digits, image_folder

    if named.kind == "digits":
        return digits(subject.reads, **sizes, dtype=subject.dtype)
    return image_folder(named.path, subject.reads, **sizes, dtype=subject.dtype)


def _records(subject: Subject, data: str, named: DataName, sizes: dict[str, int], progress: Progress | None) -> Data:
    """Text and records: windows for language models, one example a record where it has a class or a target."""
    from analysis.models.inputs.images import image_records
    from analysis.models.inputs.labelled import text_examples
    from analysis.models.inputs.records import Records

    reads = subject.reads
    if reads.name == PIXELS:
        records = open_documents(data)[1] if named.kind == "dataset" else None
        if not isinstance(records, Records) or not records.has_images:
            raise UserError(f"the data must be images for {subject.label}, got {named.words} in {data}; give a folder of images or digits.")
        return image_records(named.path.name, records, reads, **sizes, dtype=subject.dtype)
    tokenizer = subject.tokenizer
    if tokenizer is None:
        raise UserError(
            f"a model must come with a tokenizer to read text, got {subject.source} without tokenizer files; "
            "add them (tokenizer.json), or ask a question that reads weights only."
        )
    stated = subject.facts.get("context_length")
    own = loading.context_length(None, tokenizer)
    limit = min([n for n in (stated, own) if n is not None], default=None)
    if named.kind != "text":
        name, documents = open_documents(data)
        first = documents[0]
        if (reads.n_classes and first.label() is not None) or (subject.task == loading.SEQ2SEQ and first.target() is not None):
            return text_examples(name, documents, tokenizer, reads, **sizes, limit=limit)
    return text_windows(data, tokenizer, **sizes, limit=limit, task=subject.task, progress=progress)


def _arrays(subject: Subject, named: DataName, *, n_tokens: int, window: int, seed: int) -> Data:
    arrays, reads = open_arrays(named), subject.reads
    chosen = choose(arrays.x.shape[0], n_tokens, window, seed)
    x = sampled(arrays.x, chosen, named.path)
    y = None if arrays.y is None else sampled(arrays.y, chosen, named.path)
    if y is not None and y.dtype != np.int64:
        raise UserError(f"the labels in {named.path} must be whole numbers, got fractions; give the class of each example.")
    names = [f"row {i}" for i in chosen]
    facts = {"data": named.path.name, "n_examples_total": arrays.x.shape[0], "seed": seed}
    if reads.name == TOKENS:
        return _token_rows(subject, named, x, y, names, facts)
    values, how = _fitted(x, reads, named)
    return Examples(
        named.path.name,
        lambda positions: values[positions],
        names,
        labels=y,
        argument=reads.name,
        dtype=subject.dtype,
        facts=facts | {"shape": how} | ({} if y is None else {"labels": "whole numbers in the data"}),
        contents=[str(values.dtype).encode(), np.ascontiguousarray(values).tobytes()],
    )


def _token_rows(subject: Subject, named: DataName, ids: np.ndarray, labels: Any, names: list[str], facts: dict[str, Any]) -> TextWindows:
    """Rows of token ids as windows, a document each."""
    if ids.dtype != np.int64 or ids.ndim != 2 or ids.shape[1] < 2:
        raise UserError(
            f"the inputs in {named.path} must be token ids [examples, tokens], got {ids.dtype} {ids.shape}; give whole numbers in rows."
        )
    most = subject.reads.vocabulary
    if ids.min() < 0 or (most is not None and ids.max() >= most):
        raise UserError(
            f"the token ids in {named.path} must be from 0 to {(most or 0) - 1} for {subject.label}, got {ids.min()} to {ids.max()}; "
            "tokenise the text with this model's tokenizer."
        )
    limit = subject.facts.get("context_length")
    if limit is not None and ids.shape[1] > limit:
        raise UserError(f"the window must be at most the {limit} positions of this model, got rows of {ids.shape[1]}; give shorter rows.")
    inputs = model_inputs(subject.task)
    windows = TextWindows.from_ids(ids, name=named.path.name, inputs=inputs, labels=labels, settings=facts)
    windows.documents = names
    return windows


def _fitted(x: np.ndarray, reads: Reads, named: DataName) -> tuple[np.ndarray, str]:
    """Rows in the shape the model reads, and what was done; never resized."""
    shape = reads.shape
    words = " x ".join(map(str, x.shape[1:])) or "a number"
    if reads.name == PIXELS and shape is not None:
        channels = shape[0]
        if x.ndim == 3 and channels == 1:
            x = x[:, None]
        if x.ndim != 4 or x.shape[1] != channels:
            raise UserError(
                f"the inputs in {named.path} must be images [examples, {channels}, height, width] for this model, got {x.shape}; "
                "put the channels second."
            )
        return x.astype(np.float32), f"{words}, values as they are"
    if shape is not None and len(shape) == 1 and x.ndim > 2 and x.shape[-1] != shape[0] and int(np.prod(x.shape[1:])) == shape[0]:
        return x.reshape(len(x), -1).astype(np.float32), f"{words}, flattened, values as they are"
    if shape is not None and len(shape) == 3 and x.ndim == 3:
        x = x[:, None]
    # Whole numbers go to a module that begins with an embedding as they are; to every other one as fractions.
    return (x if shape is None else x.astype(np.float32)), f"{words}, values as they are"
