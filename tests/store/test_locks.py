"""Races that real processes meet once in a thousand times, provoked with many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from store import lock as lock_module
from store.catalogue import Catalogue
from store.errors import RunLocked
from store.lock import KeyLock


def together(work: Callable[[], None], threads: int) -> list[Exception]:
    """Run ``work`` in many threads that start at the same moment; what they raised."""
    gate, raised = threading.Barrier(threads), []

    def one() -> None:
        gate.wait()
        try:
            work()
        except Exception as error:  # noqa: BLE001  (handed to the test)
            raised.append(error)

    running = [threading.Thread(target=one) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return raised


def test_a_lock_file_removed_between_opening_and_locking_is_not_taken_for_the_lock(tmp_path: Path, monkeypatch):
    holder, path = KeyLock(tmp_path / "k.lock"), tmp_path / "k.lock"
    real = lock_module._lock

    def late(descriptor: int) -> bool:
        holder.release()  # removes the file that has just been opened; a second call does nothing
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "_lock", late)
        ours = KeyLock(path)
    with pytest.raises(RunLocked):
        KeyLock(path)
    ours.release()
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_made_by_many_at_once_is_made_once(tmp_path: Path):
    for i in range(10):
        folder = tmp_path / str(i)
        folder.mkdir()
        assert together(lambda folder=folder: Catalogue(folder / "catalogue.sqlite", folder).runs(), 8) == []
