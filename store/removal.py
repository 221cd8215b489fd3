"""Deleting a sealed run for good: its file and its entry. Whoever asks has asked the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.errors import StoreError
from store.folders import check_key, remove_folder, sync
from store.jobs import LIVE
from store.lock import KeyLock

if TYPE_CHECKING:
    from store.records import RunInfo
    from store.store import Store


def remove(store: Store, run: RunInfo) -> None:
    """Delete the sealed file, then its other files, then the entry: a kill leaves a run marked missing, which can be removed again."""
    if run.path.parent != store.runs_folder:
        raise StoreError(f"a run to remove must be in the store's own folder, got {run.path}; delete the file yourself.")
    for job in store.jobs.all(LIVE):
        if job.key == run.key:
            raise StoreError(f"a run to remove must not be worked on, got {run.id}, which job {job.id} is making anew; cancel it first.")
    lock = KeyLock(store.runs_folder / f"{check_key(run.key)}.lock")
    try:
        run.path.unlink(missing_ok=True)
        files = run.path.with_suffix(".files")
        if files.is_dir():
            sync(store.runs_folder)  # never a sealed run without its files
            remove_folder(files, run.key, run.attempt)
        sync(store.runs_folder)
        store.catalogue.remove(run.path.name, run.key, run.attempt)
    finally:
        lock.release()
