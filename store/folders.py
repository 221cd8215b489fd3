"""Names and durable writes in the store's folder.

    runs/<key>-<attempt>.duckdb            a sealed run: immutable, its name never used before
    runs/<key>-<attempt>.files/            files of a sealed run that are no tables; its sealed file lists them
    runs/<key>-<attempt>.partial/          an attempt at work, or one that was stopped and can go on
    runs/.<key>-<attempt>.<random>.tmp/    being built or being removed; worthless once nobody holds the lock
    runs/<key>.lock                        held while an attempt is open
    jobs/<id>.log                          what a job had to say
    catalogue.sqlite                       what is known about runs, jobs and models
    uploads/                               files brought through the browser; `analysis.models.files.Quarantine` keeps them

A name becomes visible by one rename, after its contents have reached the disk; so a kill at any moment leaves either
the old state or the new one.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path

from store.errors import StoreError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_key(key: str) -> str:
    """``key``, if it can be part of a file name on every system."""
    if not _KEY.fullmatch(key):
        raise StoreError(f"a run key must be 1 to 100 letters, digits, '-' or '_', got {key!r}; make it a hash.")
    return key


def sealed_path(runs: Path, key: str, attempt: int) -> Path:
    """Where the sealed file of an attempt lies."""
    return runs / f"{key}-{attempt}.duckdb"


def partial_path(runs: Path, key: str, attempt: int) -> Path:
    """Where an attempt keeps what it has committed so far."""
    return runs / f"{key}-{attempt}.partial"


def files_path(runs: Path, key: str, attempt: int) -> Path:
    """Where the files of a sealed attempt lie."""
    return runs / f"{key}-{attempt}.files"


def temporary_path(runs: Path, key: str, attempt: int) -> Path:
    """A fresh name for something nobody must see yet, or any more."""
    return runs / f".{key}-{attempt}.{secrets.token_hex(6)}.tmp"


def attempts_of(runs: Path, key: str, ending: str) -> list[int]:
    """The attempt numbers of ``key`` that have an entry with this ending (``.duckdb``, ``.files``, ``.partial``, ``.tmp``), ascending."""
    dot = r"\." if ending == ".tmp" else ""
    middle = r"\.[0-9a-f]+" if ending == ".tmp" else ""
    pattern = re.compile(dot + re.escape(key) + r"-(\d+)" + middle + re.escape(ending))
    found = (pattern.fullmatch(name) for name in os.listdir(runs))
    return sorted({int(match[1]) for match in found if match})


def temporaries(runs: Path) -> dict[Path, str]:
    """Every temporary folder in ``runs`` with the key it belongs to."""
    pattern = re.compile(r"\.(?P<key>.+)-\d+\.[0-9a-f]+\.tmp")
    found = {name: pattern.fullmatch(name) for name in os.listdir(runs)}
    return {runs / name: match["key"] for name, match in found.items() if match}


def remove_folder(folder: Path, key: str, attempt: int) -> None:
    """Remove a folder so that nobody ever meets half of it: rename it away first."""
    gone = temporary_path(folder.parent, key, attempt)
    os.rename(folder, gone)
    shutil.rmtree(gone)


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write a new file and wait until it has reached the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
