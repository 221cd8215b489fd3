"""Files of a run: what an analysis makes that is no table (an SAE, masks, a pruned checkpoint).

While the attempt is at work they lie in its own folder and are kept over kills. At sealing they become the folder
``<key>-<attempt>.files`` beside the sealed file, before that one appears: a sealed run always has its files. The sealed file
lists them with their sizes and hashes, so that a run copied without them, or with half of them, can say so.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.errors import StoreError
from store.folders import attempts_of, files_path, partial_path, remove_folder, sealed_path, sync

INSIDE = "files"
"""Name of the folder inside an attempt that is at work."""


def list_and_sync(folder: Path) -> list[dict[str, Any]]:
    """Name, bytes and sha256 of every file in ``folder``, by name, once all of it has reached the disk; [] where there is none."""
    if not folder.is_dir():
        return []
    found = [_about(folder, path) for path in _all(folder) if not path.is_dir()]
    for path in [*_all(folder), folder, folder.parent]:
        sync(path)
    return found


def publish(runs: Path, key: str, attempt: int) -> None:
    """Give the files of an attempt their final name. The caller seals the run next, or takes them back."""
    kept = partial_path(runs, key, attempt) / INSIDE
    for path in _all(kept):
        if path.is_file():
            os.chmod(path, stat.S_IMODE(path.stat().st_mode) & ~0o222)
    os.rename(kept, files_path(runs, key, attempt))
    sync(runs)


def take_back(runs: Path, key: str, attempt: int) -> None:
    """Files that were published for an attempt that was not sealed then are the attempt's again, to be written as before."""
    kept = partial_path(runs, key, attempt) / INSIDE
    os.rename(files_path(runs, key, attempt), kept)
    for path in _all(kept):
        if path.is_file():
            os.chmod(path, stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)


def tidy(runs: Path, key: str, known: frozenset[int]) -> None:
    """Put right what dead processes left of ``key``, whose lock the caller holds: every ``.files`` folder belongs to a sealed run.

    One that was published just before a kill goes back into its attempt. ``known`` are the attempts that were sealed once: the
    files of a sealed file that was moved away wait for it.
    """
    for attempt in attempts_of(runs, key, ".files"):
        if sealed_path(runs, key, attempt).exists():
            continue
        partial = partial_path(runs, key, attempt)
        if partial.is_dir() and not (partial / INSIDE).exists():
            take_back(runs, key, attempt)
        elif attempt not in known:
            remove_folder(files_path(runs, key, attempt), key, attempt)


def files_beside(sealed: Path, run: Mapping[str, Any]) -> Path | None:
    """The folder with the files of a run; None where it has none. Raises where what its sealed file lists is not all there."""
    listed = run.get("files") or []
    if not listed:
        return None
    folder = sealed.with_suffix(".files")
    where = f"the files of run {sealed.stem} must lie beside it"
    if not folder.is_dir():
        raise StoreError(f"{where}, got {sealed.name} without {folder.name}; copy that folder, too, or run the analysis again.")
    for one in listed:
        path = folder / one["name"]
        if not path.is_file():
            raise StoreError(f"{where}, got {folder.name} without {one['name']}; copy the folder again.")
        if path.stat().st_size != one["bytes"]:
            raise StoreError(f"{where}, got {path} of {path.stat().st_size} bytes instead of {one['bytes']}; copy the folder again.")
    return folder


def bytes_beside(sealed: Path, run: Mapping[str, Any]) -> int:
    """Bytes of the files of a run, as it lists them; 0 where they are not there."""
    listed = run.get("files") or []
    return sum(one["bytes"] for one in listed) if listed and sealed.with_suffix(".files").is_dir() else 0


def _all(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*"))


def _about(folder: Path, path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        raise StoreError(f"the files of a run must be plain files, got {path}, which is none; write a copy instead.")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": digest}
