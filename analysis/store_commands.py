"""The commands that look after a store: store check, store import."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any


def add_store_commands(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add ``store`` and what can be done with one to the command line."""
    top = commands.add_parser("store", help="check every sealed file of a store, or take in one from elsewhere")
    actions = top.add_subparsers(required=True, metavar="ACTION")
    one = actions.add_parser("check", help="read all of every sealed file, and say which are not as they were sealed")
    add_store(one)
    one.set_defaults(command=_check)
    one = actions.add_parser("import", help="copy sealed files from elsewhere into the store, checked before; prints their runs' ids")
    one.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file ending in .duckdb; its .files folder comes with it")
    add_store(one)
    one.set_defaults(command=_import)


def _check(options: argparse.Namespace) -> int:
    from store import Store
    from store.checking import check
    from store.errors import size_words

    n = size = wrong = 0
    with closing(Store(options.store)) as store:
        for verdict in check(store):
            n, size, wrong = n + 1, size + verdict.bytes, wrong + bool(verdict.words)
            if verdict.words:
                print(f"{verdict.path.name}: {verdict.words}")
    print(f"{n} sealed files of {size_words(size)} read; {wrong} not as they were sealed.", file=sys.stderr)
    return 1 if wrong else 0


def _import(options: argparse.Namespace) -> int:
    from store import Store
    from store.importing import import_file

    with closing(Store(options.store)) as store:
        for path in options.files:
            info = import_file(store, path)
            print(f"{info.id}  {info.slug:20} {info.model}")
    return 0
