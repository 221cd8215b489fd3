"""What readers call units and note of them: a label and a note per neuron, head, latent or tensor, written on its page.

Nothing but the catalogue holds them, so they can be taken along as files and brought in again (`store.label_files`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

from store.catalogue import Catalogue
from store.errors import StoreError

LONGEST = 500
"""Characters of a label."""
LONGEST_NOTE = 5_000
"""Characters of a note."""
Kind = Literal["neuron", "head", "latent", "tensor"]
KINDS: tuple[str, ...] = get_args(Kind)
Prefer = Literal["newer", "ours", "theirs"]
PREFER: tuple[str, ...] = get_args(Prefer)
"""Which of two labels of one unit stays: the one written last, the one in this store, or the one brought in."""


@dataclass(frozen=True)
class Label:
    """What a reader calls a unit, and what else was noted of it; one of the two may be empty."""

    unit: str
    text: str
    changed: datetime
    """When either was written last, UTC."""
    owner: str = ""
    kind: str = "latent"
    note: str = ""
    model: str = ""
    """Name of the model, for people; which weights are meant the owner says."""

    @property
    def says(self) -> tuple[str, str]:
        """What two labels of one unit may differ in."""
        return self.text, self.note


@dataclass(frozen=True)
class Conflict:
    """Two labels of one unit that say different things."""

    ours: Label
    theirs: Label
    stays: Literal["ours", "theirs"]


@dataclass(frozen=True)
class Merged:
    """What became of labels that were brought in."""

    added: int
    same: int
    """Said already what they say."""
    conflicts: tuple[Conflict, ...] = field(default=())


class LabelTable:
    """The table ``labels`` of the catalogue. An owner is what units belong to by its fingerprint, so that labels outlive runs."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def write(self, owner: str, unit: str, text: str, *, note: str | None = None, kind: Kind = "latent", model: str = "") -> None:
        """Call the unit so, instead of what it was called before; nothing but blanks takes its label away.

        ``note`` None leaves the note as it is. Where neither label nor note is left, nothing is.
        """
        text = " ".join(text.split())
        with self._catalogue.writing() as connection:
            before = connection.execute("SELECT note FROM labels WHERE owner = ? AND unit = ?", [owner, unit]).fetchone()
            noted = (before["note"] if before else "") if note is None else note.strip()
            check_length(text, noted)
            connection.execute("DELETE FROM labels WHERE owner = ? AND unit = ?", [owner, unit])
            if text or noted:
                _insert(connection, Label(unit, text, datetime.now(UTC), owner, kind, noted, model))

    def of(self, owner: str) -> dict[str, Label]:
        """The owner's labels by unit, the one written last first."""
        with self._catalogue.reading() as connection:
            rows = connection.execute("SELECT * FROM labels WHERE owner = ? ORDER BY changed DESC, unit", [owner]).fetchall()
        return {row["unit"]: _label(row) for row in rows}

    def get(self, owner: str, unit: str) -> Label | None:
        """What is said of one unit; None where nothing is."""
        with self._catalogue.reading() as connection:
            row = connection.execute("SELECT * FROM labels WHERE owner = ? AND unit = ?", [owner, unit]).fetchone()
        return _label(row) if row else None

    def all(self) -> list[Label]:
        """The labels of all owners, the one written last first."""
        with self._catalogue.reading() as connection:
            rows = connection.execute("SELECT * FROM labels ORDER BY changed DESC, owner, unit").fetchall()
        return [_label(row) for row in rows]

    def merge(self, labels: Iterable[Label], prefer: Prefer = "newer") -> Merged:
        """Bring in labels beside those that are there, all or none. What differs is told, with which of the two stays."""
        if prefer not in PREFER:
            raise StoreError(f"which label stays must be one of {', '.join(PREFER)}, got {prefer!r}; choose one of them.")
        added, same, conflicts = 0, 0, []
        with self._catalogue.writing() as connection:
            for theirs in labels:
                check_length(theirs.text, theirs.note)
                row = connection.execute("SELECT * FROM labels WHERE owner = ? AND unit = ?", [theirs.owner, theirs.unit]).fetchone()
                ours = _label(row) if row else None
                if ours is not None and ours.says == theirs.says:
                    same += 1
                    continue
                if ours is not None:
                    take = prefer == "theirs" or (prefer == "newer" and theirs.changed > ours.changed)
                    conflicts.append(Conflict(ours, theirs, "theirs" if take else "ours"))
                    if not take:
                        continue
                    connection.execute("DELETE FROM labels WHERE owner = ? AND unit = ?", [theirs.owner, theirs.unit])
                else:
                    added += 1
                _insert(connection, theirs)
        return Merged(added, same, tuple(conflicts))


def check_length(text: str, note: str) -> None:
    """Raise `StoreError` where a label or a note is too long to be kept."""
    for what, given, most in (("label", text, LONGEST), ("note", note, LONGEST_NOTE)):
        if len(given) > most:
            raise StoreError(f"a {what} must be at most {most:,} characters, got {len(given):,}; shorten it.")


def conflict_words(conflicts: Sequence[Conflict]) -> list[str]:
    """A line for each: the unit, both labels, and which stays (foreign text)."""
    return [
        f"{one.theirs.kind} {one.theirs.unit} of {one.theirs.model or one.theirs.owner}: here {_short(one.ours)}, "
        f"in the file {_short(one.theirs)}; {'the one of the file is taken' if one.stays == 'theirs' else 'the one here stays'}"
        for one in conflicts
    ]


def _short(label: Label) -> str:
    said = label.text or label.note
    return repr(said if len(said) <= 80 else said[:79] + "…") + (" with a note" if label.text and label.note else "")


def _insert(connection: sqlite3.Connection, label: Label) -> None:
    connection.execute(
        "INSERT INTO labels (owner, unit, text, changed, kind, note, model) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [label.owner, label.unit, label.text, label.changed.astimezone(UTC).isoformat(), label.kind, label.note, label.model],
    )


def _label(row: sqlite3.Row) -> Label:
    changed = datetime.fromisoformat(row["changed"])
    return Label(row["unit"], row["text"], changed, row["owner"], row["kind"], row["note"], row["model"])
