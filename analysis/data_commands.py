"""The commands that ask all runs at once and carry what readers wrote: sql and labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.spec import UserError

_SUFFIXES = (".json", ".csv")


def add_data(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add both to the command line."""
    words = "ask all runs in SQL; the rows as CSV on stdout"
    one = commands.add_parser("sql", help=words, description=f"{words}. One SELECT; every table has a column run, and runs describes them.")
    one.add_argument("query", metavar="QUERY", help='for example "SELECT run, slug, model FROM runs"')
    one.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="at most so many (default: 1,000,000, or 32 MB)")
    one.add_argument("--seconds", type=float, default=60.0, metavar="S", help="give up after so many (default: 60)")
    add_store(one)
    one.set_defaults(command=_sql)

    words = "labels and notes of units: list them, take them along, bring them in"
    one = commands.add_parser("labels", help=words, description=words)
    which = one.add_mutually_exclusive_group()
    which.add_argument("--export", type=Path, metavar="FILE", help="write all of them to FILE ending in .json or .csv")
    which.add_argument("--import", dest="bring", type=Path, metavar="FILE", help="bring in those of a file, beside what is there")
    one.add_argument(
        "--prefer", choices=("newer", "ours", "theirs"), default="newer", help="which stays where both say something (default: newer)"
    )
    add_store(one)
    one.set_defaults(command=_labels)


def _sql(options: argparse.Namespace) -> int:
    from store import Store

    if options.rows < 1 or not 0 < options.seconds <= 3600:
        raise UserError(
            f"--rows must be at least 1 and --seconds above 0 and at most 3600, got {options.rows} and {options.seconds:g}; give others."
        )
    found = Store(options.store).query(options.query, rows=options.rows, seconds=options.seconds).result()
    found.frame.to_csv(sys.stdout, index=False)
    if found.more:
        print(f"There are more rows; these are the first {found.table.num_rows:,}.", file=sys.stderr)
    return 0


def _labels(options: argparse.Namespace) -> int:
    from store import Store, label_files
    from store.labels import conflict_words

    table = Store(options.store).labels
    if options.export is not None:
        if options.export.suffix not in _SUFFIXES:
            raise UserError(f"a file of labels must end in {' or '.join(_SUFFIXES)}, got {str(options.export)!r}; name it so.")
        labels = table.all()
        made = label_files.as_json(labels) if options.export.suffix == ".json" else label_files.as_csv(labels)
        _write(options.export, made)
        print(options.export)
        return 0
    if options.bring is not None:
        merged = table.merge(label_files.read(_read(options.bring)), options.prefer)
        for words in conflict_words(merged.conflicts):
            print(words, file=sys.stderr)
        print(f"{merged.added} added, {merged.same} there already, {len(merged.conflicts)} different")
        return 0
    for one in table.all():
        print(f"{one.kind:7} {one.model:24} {one.unit:32} {one.text}" + (f"  [{' '.join(one.note.split())}]" if one.note else ""))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"the file must be in a folder that can be written, got {path} ({error.strerror}); choose another.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"a file of labels must be one that can be read, got {path} ({error.strerror}); choose another.") from error
