"""One lock per run key: who holds it may write, everybody else gets a sentence.

The lock is the system's (`flock`), so it is free the moment its holder dies, however it dies. The file only carries
the words: who holds it, since when.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from datetime import datetime
from pathlib import Path

from store.errors import RunLocked

_PATIENCE = 1.0
"""Seconds to wait for a lock whose holder has not said who it is: it is just starting, or only tidying up."""


class KeyLock:
    """The lock of one key, from construction to `release`."""

    def __init__(self, path: Path, *, name: bool = True) -> None:
        """Take the lock at once, or raise `RunLocked`. ``name=False`` takes it silently, for tidying up."""
        self.path = path
        until = time.monotonic() + (_PATIENCE if name else 0)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if _lock(descriptor):
                if _is_at(descriptor, path):
                    break
                os.close(descriptor)  # its holder removed it just before letting go: the next one is ours to make
                continue
            words = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            if words or time.monotonic() >= until:
                raise RunLocked(_sentence(path, words))
            time.sleep(0.01)
        self._descriptor: int | None = descriptor
        # What an earlier holder that was killed had written here must not be taken for ours.
        os.ftruncate(descriptor, 0)
        if name:
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)

    @property
    def held(self) -> bool:
        """Whether the lock is still ours."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is None:
            return
        self.path.unlink(missing_ok=True)  # while still held: whoever opened the old file notices that it is gone
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``, and not one its holder has removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sentence(path: Path, words: bytes) -> str:
    try:
        holder = json.loads(words)
        who = f"process {holder['pid']} since {holder['since'].replace('T', ' ')}"
    except (ValueError, KeyError):
        who = "another process"
    return f"run {path.stem} must be free to be worked on, got a lock held by {who}; wait until it has finished, or stop it."
