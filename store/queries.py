"""Queries that readers saved under a name. Nothing but the catalogue holds them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from store.catalogue import Catalogue
from store.errors import StoreError
from store.query import LONGEST

LONGEST_NAME = 80
"""Characters of a name."""


@dataclass(frozen=True)
class SavedQuery:
    """SQL under a name."""

    name: str
    text: str
    changed: datetime
    """When it was saved last, UTC."""


class QueryTable:
    """The table ``queries`` of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def save(self, name: str, text: str) -> str:
        """Keep the text under that name, in place of any other; returns the name as it is kept."""
        name = " ".join(name.split())
        if not 1 <= len(name) <= LONGEST_NAME:
            raise StoreError(f"the name of a query must have 1 to {LONGEST_NAME} characters, got {len(name):,}; type another.")
        if not text.strip() or len(text) > LONGEST:
            raise StoreError(f"a query must have 1 to {LONGEST:,} characters, got {len(text.strip()):,}; write a SELECT.")
        with self._catalogue.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO queries VALUES (?, ?, ?)", [name, text, datetime.now(UTC).isoformat()])
        return name

    def remove(self, name: str) -> None:
        """Forget the query of that name, if there is one."""
        with self._catalogue.writing() as connection:
            connection.execute("DELETE FROM queries WHERE name = ?", [name])

    def all(self) -> dict[str, SavedQuery]:
        """Every saved query by its name, in the order of names."""
        with self._catalogue.reading() as connection:
            rows = connection.execute("SELECT * FROM queries ORDER BY name COLLATE NOCASE, name").fetchall()
        return {row["name"]: SavedQuery(row["name"], row["text"], datetime.fromisoformat(row["changed"])) for row in rows}
