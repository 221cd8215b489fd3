"""Where text comes from: Python's own documentation, a text file, a folder of them, or records (JSONL, a saved dataset)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.models.places import cannot_read
from analysis.spec import UserError

PYTHON_DOCS = "python-docs"
_SEPARATOR = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One document: its name, and its text when asked for, so that a large folder is read only as far as needed."""

    name: str
    read: Callable[[], str]
    label: Callable[[], str | int | None] = lambda: None
    """Its class, where the data give one."""
    target: Callable[[], str | None] = lambda: None
    """What a sequence-to-sequence model should make of it, where the data give that."""


def open_documents(data: str) -> tuple[str, Sequence[Document]]:
    """Name of the collection and its documents, in a fixed order.

    ``python-docs`` is the standard library's documentation topics, sorted by key; a file is one document, or several
    separated by lines that hold only ``<|endoftext|>``; in a folder each ``.txt`` file below it is one; of records
    (`inputs.records`) each is one.
    """
    if data == PYTHON_DOCS:
        from pydoc_data.topics import topics

        return PYTHON_DOCS, [Document(key, lambda text=topics[key]: text) for key in sorted(topics)]
    from analysis.models.inputs.naming import data_name
    from analysis.models.inputs.records import open_records

    named = data_name(data)
    path = named.path
    if named.kind in ("jsonl", "dataset"):
        return open_records(named)
    if named.kind != "text":
        raise UserError(f"the data must be text for a model that reads text, got {data} ({named.words}); give text with --data.")
    if path.is_dir():
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise UserError(f"a data folder must hold .txt files, got {path} with none; put each document into a .txt file.")
        return path.resolve().name, [Document(str(file.relative_to(path)), lambda file=file: read_text(file)) for file in files]
    texts = [text for text in _SEPARATOR.split(read_text(path)) if text.strip()]
    if not texts:
        raise UserError(f"the text must not be empty, got {path}; give a file with some text.")
    names = [path.name] if len(texts) == 1 else [f"{path.name} #{i}" for i in range(len(texts))]
    return path.name, [Document(name, lambda text=text: text) for name, text in zip(names, texts)]


def read_text(path: Path) -> str:
    """A UTF-8 file's text, line ends as ``\\n``. Raises `UserError` where it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"a text file must be UTF-8, got {path} with byte {error.object[error.start]:#04x} at {error.start}; save it as UTF-8."
        ) from error
