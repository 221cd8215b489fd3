"""Taking in a sealed file from elsewhere: checked where it lies, copied, and visible by one rename.

Whoever made it is not trusted: it is opened read-only and locked down, as every sealed file is (`store.reading`), everything in it is read
once (`store.checking`), and names in it cannot lead out of the store's folder. What it says cannot be checked: numbers are its maker's.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.checking import check_files, listed, sha256, verified
from store.errors import StoreError, is_no_space, no_space
from store.folders import check_key, files_path, sealed_path, sync, temporary_path
from store.lock import KeyLock

if TYPE_CHECKING:
    from store.records import RunInfo
    from store.store import Store


def import_file(store: Store, path: Path) -> RunInfo:
    """The run, now in the store; the one that is there where it is the same file. Raises `StoreError` where it cannot be taken."""
    path = path.expanduser().absolute()
    if path.suffix != ".duckdb" or not path.is_file():
        raise StoreError(f"what is imported must be a sealed file, ending in .duckdb, got {path}; give the path of one.")
    run = verified(store.pool, path)
    key, attempt = check_key(str(run["key"])), int(run["attempt"])
    if path.parent == store.runs_folder:
        return store.find(path)
    lock = KeyLock(store.runs_folder / f"{key}.lock")
    try:
        target = sealed_path(store.runs_folder, key, attempt)
        if target.exists():
            if sha256(target) != sha256(path):
                raise StoreError(f"the store must not hold another run {target.stem}, got one that differs from {path}; remove it first.")
        else:
            _copy(store.runs_folder, path, run, target)
            store.register(target)
    finally:
        lock.release()
    found = store.find(target)
    if found.status != "sealed":
        raise StoreError(found.words)
    return found


def _copy(runs: Path, path: Path, run: Mapping[str, Any], target: Path) -> None:
    """First the files beside it, then the sealed file: a run that can be seen has all that is its own."""
    key, attempt = str(run["key"]), int(run["attempt"])
    made, beside = temporary_path(runs, key, attempt), files_path(runs, key, attempt)
    try:
        made.mkdir()
        _copied(path, made / "run.duckdb")
        for one in listed(run):
            _copied(path.with_suffix(".files") / one["name"], made / "files" / one["name"])
        if beside.exists():
            check_files(target, run)  # kept from an attempt whose sealed file was moved away, they may have changed since
        elif listed(run):
            os.rename(made / "files", beside)
        sync(runs)
        os.rename(made / "run.duckdb", target)
        sync(runs)
    except OSError as error:
        if is_no_space(error):
            raise no_space(runs, path.stat().st_size, "nothing was changed") from error
        raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _copied(source: Path, target: Path) -> None:
    """A copy that has reached the disk and cannot be written to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    os.chmod(target, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    sync(target)
    sync(target.parent)
