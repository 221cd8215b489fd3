"""What can go wrong in the store, each as one sentence for the user, and the test for "there is no room left"."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_NO_ROOM_WORDS = ("No space left on device", "File too large", "Disk quota exceeded", "database or disk is full")


class StoreError(Exception):
    """Something about stored results the user can put right. Its text is one sentence: what, why, what to do."""


class RunNotFound(StoreError):
    """No run goes by that name; the text lists the nearest ones."""


class JobNotFound(StoreError):
    """No job goes by that name; the text says how to list them."""


class RunLocked(StoreError):
    """Another process works on the same run; the text says which and since when."""


class NoSpace(StoreError):
    """There was no room to write; the text says how much was needed, how much was free, and what was kept."""


def is_no_space(error: Exception) -> bool:
    """Whether ``error`` (of the system, of DuckDB or of SQLite) means that nothing more can be written.

    A limit on the size of a file (`RLIMIT_FSIZE`) and a used-up quota count, beside a full disk. DuckDB and SQLite
    pass the system's error on as text only, hence the words.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_ROOM
    return any(words in str(error) for words in _NO_ROOM_WORDS)


def no_space(folder: Path, needed: int, kept: str) -> NoSpace:
    """The error for a write of about ``needed`` bytes into ``folder`` that did not fit."""
    free = shutil.disk_usage(folder).free
    got = f"{size_words(free)} free"
    if free > needed:
        got += " but a smaller limit on the size of one file or a quota"
    return NoSpace(
        f"{folder} must have room for about {size_words(needed)} more, got {got}; "
        f"make room or raise the limit and run the same command again: {kept}."
    )


def size_words(n: int) -> str:
    """A number of bytes as people read it: 1 kB is 1,000 bytes."""
    size = float(n)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
