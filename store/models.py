"""Models the store has met: their facts, and for every analysis the sentence why it cannot run on them, if there is one.

So that a page can say both without opening a model. A model is filed under the reference it was asked for by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from store.catalogue import Catalogue
from store.records import to_json


@dataclass(frozen=True)
class Need:
    """What one version of an analysis said of a model."""

    version: int
    words: str | None
    """Why it cannot run; None where it can."""


@dataclass(frozen=True)
class ModelInfo:
    """A model as it was when it was last opened."""

    ref: str
    """What it was asked for by: a bundled name, an absolute path, or a hub id."""
    name: str
    label: str
    source: str
    task: str | None
    dtype: str
    fingerprints: Mapping[str, str]
    facts: Mapping[str, Any] = field(repr=False)
    seen: datetime
    """When it was last opened, UTC."""
    needs: Mapping[str, Need] = field(default_factory=dict, repr=False)
    """By slug of the analysis; an analysis that was never asked is missing."""


class ModelTable:
    """The tables ``models`` and ``needs`` of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def add(
        self,
        ref: str,
        *,
        name: str,
        label: str,
        source: str,
        task: str | None,
        dtype: str,
        fingerprints: Mapping[str, str],
        facts: Mapping[str, Any],
    ) -> None:
        """Enter a model, or what has changed about it. Other weights under the same reference void what was said of it."""
        entry: dict[str, Any] = {"ref": ref, "name": name, "label": label, "source": source, "task": task, "dtype": dtype}
        entry |= {"fingerprints": to_json(fingerprints), "facts": to_json(facts), "seen": datetime.now(UTC).isoformat()}
        with self._catalogue.writing() as connection:
            before = connection.execute("SELECT fingerprints FROM models WHERE ref = ?", [ref]).fetchone()
            if before and json.loads(before["fingerprints"]).get("weights") != fingerprints.get("weights"):
                connection.execute("DELETE FROM models WHERE ref = ?", [ref])
            columns = ", ".join(entry)
            values = ", ".join(f":{column}" for column in entry)
            changed = ", ".join(f"{column} = excluded.{column}" for column in entry if column != "ref")
            connection.execute(f"INSERT INTO models ({columns}) VALUES ({values}) ON CONFLICT (ref) DO UPDATE SET {changed}", entry)

    def add_need(self, ref: str, slug: str, version: int, words: str | None) -> None:
        """Note what an analysis said of a model that has been entered."""
        with self._catalogue.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO needs VALUES (?, ?, ?, ?)", [ref, slug, version, words])

    def remove(self, ref: str) -> None:
        """Forget a model that is gone, and what was said of it; its runs stay."""
        with self._catalogue.writing() as connection:
            connection.execute("DELETE FROM models WHERE ref = ?", [ref])

    def get(self, ref: str) -> ModelInfo | None:
        """The model of that reference; None where it was never opened."""
        return next((model for model in self.all() if model.ref == ref), None)

    def all(self) -> list[ModelInfo]:
        """Every model, the last opened first."""
        with self._catalogue.reading() as connection:
            rows = connection.execute("SELECT * FROM models ORDER BY seen DESC, ref").fetchall()
            said = connection.execute("SELECT * FROM needs ORDER BY slug").fetchall()
        needs: dict[str, dict[str, Need]] = {}
        for row in said:
            needs.setdefault(row["ref"], {})[row["slug"]] = Need(row["version"], row["words"])
        return [
            ModelInfo(
                ref=row["ref"],
                name=row["name"],
                label=row["label"],
                source=row["source"],
                task=row["task"],
                dtype=row["dtype"],
                fingerprints=json.loads(row["fingerprints"]),
                facts=json.loads(row["facts"]),
                seen=datetime.fromisoformat(row["seen"]),
                needs=needs.get(row["ref"], {}),
            )
            for row in rows
        ]
