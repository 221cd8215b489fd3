"""What an attempt at work has committed so far, for pages that show it growing. Takes no lock and writes nothing.

A part appears by one rename and never changes, so whatever is listed is whole. Between two looks the attempt may be sealed, and its
folder gone: then there is nothing unfinished any more, which is an answer and no fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.attempt import RECORD, read_json, read_parts
from store.errors import StoreError
from store.folders import attempts_of, partial_path

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Unfinished:
    """An attempt that is not sealed, as it was at one moment. Its rows are no result: they are to be shown as unfinished."""

    key: str
    attempt: int
    record: Mapping[str, Any]
    """What was asked for: slug, version, model, data, config, and the rest of the provenance that is known before a run."""
    units: tuple[str, ...]
    """Names of the units committed, in order."""
    folder: Path
    files: Mapping[str, tuple[Path, ...]]
    """By table: the Parquet files of its rows, in order of committing."""

    def rows(self, table: str) -> pd.DataFrame | None:
        """The rows of a table so far, in order of committing; None where it has none, or the attempt is gone since."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from store.reading import to_pandas

        try:
            pieces = [pq.read_table(path) for path in self.files.get(table, ())]
        except (OSError, pa.ArrowInvalid):
            if self.folder.is_dir():
                raise
            return None
        return to_pandas(pa.concat_tables(pieces)) if pieces else None


def unfinished(runs: Path, key: str) -> Unfinished | None:
    """The newest attempt at ``key`` that is not sealed; None where there is none."""
    attempts = set(attempts_of(runs, key, ".partial")) - set(attempts_of(runs, key, ".duckdb"))  # both: sealed a moment ago
    if not attempts:
        return None
    folder = partial_path(runs, key, max(attempts))
    try:
        record, parts = read_json(folder / RECORD), read_parts(folder)
    except (StoreError, OSError):
        if folder.is_dir():
            raise
        return None
    files: dict[str, list[Path]] = {}
    for part in parts:
        for table, about in part.tables.items():
            files.setdefault(table, []).append(part.folder / about["file"])
    return Unfinished(
        key, max(attempts), record, tuple(part.unit for part in parts), folder, {name: tuple(paths) for name, paths in files.items()}
    )
