"""Labels and notes as files, JSON or CSV, to be taken along and brought in again. All of a file is checked before any of it is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from store.errors import StoreError, size_words
from store.labels import KINDS, Label, check_length

FORMAT = "sparsescope labels 1"
COLUMNS: tuple[str, ...] = ("kind", "model", "unit", "label", "note", "changed", "owner")
LARGEST = 10_000_000
"""Bytes of a file that is read."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_LONGEST_NAME = 1_000
"""Characters of an owner, a unit or a model's name."""


def as_json(labels: Iterable[Label]) -> str:
    """One object: the format's name, and a list of labels."""
    return json.dumps({"format": FORMAT, "labels": [_row(one) for one in labels]}, ensure_ascii=False, indent=1)


def as_csv(labels: Iterable[Label]) -> str:
    """A row per label. What a spreadsheet would take for a formula begins with an apostrophe, which reading takes away again."""
    made = io.StringIO()
    rows = csv.DictWriter(made, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows({name: f"'{text}" if text.startswith(_FORMULA) else text for name, text in _row(one).items()} for one in labels)
    return made.getvalue()


def _row(label: Label) -> dict[str, str]:
    values = (label.kind, label.model, label.unit, label.text, label.note, label.changed.isoformat(), label.owner)
    return dict(zip(COLUMNS, values, strict=True))


def read(content: bytes) -> list[Label]:
    """The labels of a file that `as_json` or `as_csv` wrote. Raises `StoreError` with the first row that is none."""
    if len(content) > LARGEST:
        raise StoreError(f"a file of labels must be at most {size_words(LARGEST)}, got {size_words(len(content))}; split it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError(f"a file of labels must be UTF-8 text, got {error.reason} at byte {error.start:,}; save it as UTF-8.") from error
    rows = _json_rows(text) if text.lstrip().startswith(("{", "[")) else _csv_rows(text)
    labels = [_label(row, number) for number, row in enumerate(rows, 1)]
    seen: dict[tuple[str, str], int] = {}
    for number, one in enumerate(labels, 1):
        first = seen.setdefault((one.owner, one.unit), number)
        if first != number:
            raise StoreError(
                f"a unit must be in a file of labels once, got {one.kind} {one.unit} in rows {first} and {number}; remove one."
            )
    return labels


def _json_rows(text: str) -> Sequence[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"a file of labels must be JSON or CSV, got JSON that breaks off ({error}); export it again.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("labels"), list):
        raise StoreError(f'a JSON file of labels must have "format": "{FORMAT}" and a list "labels", got neither; export it again.')
    return found["labels"]


def _csv_rows(text: str) -> Sequence[Any]:
    try:
        found = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (found.fieldnames or ())]
        if missing:
            raise StoreError(
                f"a CSV file of labels must have the columns {', '.join(COLUMNS)}, got none named {', '.join(missing)}; add them."
            )
        return [{name: _unquoted(value) for name, value in row.items() if name in COLUMNS} for row in found]
    except csv.Error as error:
        raise StoreError(f"a file of labels must be JSON or CSV, got CSV that cannot be read ({error}); export it again.") from error


def _unquoted(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value[:1] == "'" and value[1:].startswith(_FORMULA) else value


def _label(row: Any, number: int) -> Label:
    if not isinstance(row, Mapping) or any(not isinstance(row.get(name), str) for name in COLUMNS):
        raise StoreError(f"a label must have {', '.join(COLUMNS)}, each a text, got something else in row {number}; correct the file.")
    kind, model, unit, text, note, changed, owner = (row[name] for name in COLUMNS)
    if kind not in KINDS:
        raise StoreError(f"the kind of a label must be one of {', '.join(KINDS)}, got {kind[:80]!r} in row {number}; correct the file.")
    for name, given, least in (("owner", owner, 1), ("unit", unit, 1), ("model", model, 0)):
        if not least <= len(given) <= _LONGEST_NAME:
            raise StoreError(
                f"the {name} of a label must have {least} to {_LONGEST_NAME:,} characters, got {len(given):,} in row {number}; correct it."
            )
    if kind == "latent" and not unit.isdecimal():
        raise StoreError(f"a latent must be named by its number, got {unit[:80]!r} in row {number}; correct the file.")
    text, note = " ".join(text.split()), note.strip()
    if not text and not note:
        raise StoreError(f"a label must say something, got neither label nor note in row {number}; remove the row.")
    try:
        check_length(text, note)
    except StoreError as error:
        raise StoreError(f"row {number}: {error}") from error
    return Label(unit, text, _time(changed, number), owner, kind, note, model)


def _time(text: str, number: int) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise StoreError(
            f"changed must be a time such as 2026-11-22T10:00:00+00:00, got {text[:80]!r} in row {number}; correct it."
        ) from error
    when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    if when > datetime.now(UTC) + timedelta(days=1):  # it would win against everything written later
        raise StoreError(f"changed must not lie in the future, got {text} in row {number}; correct it.")
    return when
