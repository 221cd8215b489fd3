"""Runs as the catalogue lists them, made from its rows once: a store of a thousand runs is listed at every view of every page.

What a run says of itself never changes while its file does not, so it is decoded once and kept, a few thousand of them; the rows of its
small tables are read when somebody looks at them, and kept for those looked at last.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from store.files import bytes_beside
from store.records import RunInfo, Status

Rows = dict[str, list[dict[str, Any]]]
Made = TypeVar("Made")

KEPT_RUNS, KEPT_SUMMARIES = 4096, 128


class Kept:
    """The things used last, at most so many. Safe to use from any thread."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._mutex = capacity, threading.Lock()
        self._held: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any | None:
        """What is held under a key; None where nothing is."""
        with self._mutex:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Any, value: Made) -> Made:
        """Hold it, and let go of what was used longest ago."""
        with self._mutex:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
        return value


class Summaries(Mapping[str, list[dict[str, Any]]]):
    """The rows of a run's small tables by table, read from the catalogue when they are looked at."""

    def __init__(self, key: Any, kept: Kept, read: Callable[[], Mapping[str, str]]) -> None:
        """``read`` gives the JSON of each table; ``key`` tells the file, and which version of it."""
        self._key, self._kept, self._read = key, kept, read

    def _rows(self) -> Rows:
        found = self._kept.get(self._key)
        return found if found is not None else self._kept.put(self._key, {name: json.loads(text) for name, text in self._read().items()})

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        return self._rows()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())

    def __repr__(self) -> str:
        return repr(self._rows())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._rows(),)


def make_info(
    run: Mapping[str, Any],
    *,
    path: Path,
    size: int,
    name: str,
    status: Status,
    words: str,
    current: bool,
    summaries: Mapping[str, list[dict[str, Any]]],
) -> RunInfo:
    """A `RunInfo` from the row of table ``run`` and what the file's place says; ``size`` is the sealed file's own."""
    return RunInfo(
        id=name,
        key=run["key"],
        attempt=run["attempt"],
        slug=run["slug"],
        version=run["version"],
        model=run["model"],
        data=run["data"],
        config=run["config"] or {},
        status=status,
        words=words,
        started=moment(run["started"]),
        finished=moment(run["finished"]),
        seconds=run["seconds"],
        path=path,
        size=size + bytes_beside(path, run),
        current=current,
        rows={table: about["rows"] for table, about in run["tables"].items()},
        provenance=run,
        summaries=summaries,
    )


def moment(value: datetime | str) -> datetime:
    """A time that knows its zone; one that says none is taken for UTC."""
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return when if when.tzinfo else when.replace(tzinfo=UTC)
