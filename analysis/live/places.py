"""Where the workers of this machine are written down: one private folder in the cache folder, four small files per worker.

    live/<key>.json     who it is and where it listens, or how it ended (0600: it holds the token)
    live/<key>.sock     its socket (0600)
    live/<key>.lock     held by the worker for as long as it lives; the system frees it, however it dies
    live/<key>.log      what it had to say
    live/start.lock     held for a moment while somebody starts a worker or makes room for one

The key is a hash of the store's folder and the model's reference: one worker per model and store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.jobs.processes import Identity, is_alive
from analysis.models.places import cache_folder
from analysis.spec import UserError

USUAL_DATA = "python-docs"
"""What a live model that reads text is opened with; its texts come from pages."""
LONGEST_SOCKET = 100
"""Bytes of a socket's path; the system takes 107, some systems 103."""


@dataclass(frozen=True)
class Record:
    """A worker as its file describes it."""

    model: str
    store: str
    pid: int
    start: float
    host: str
    token: str = field(default="", repr=False)
    address: dict[str, Any] = field(default_factory=dict)
    """Empty until it listens."""
    ready: bool = False
    """Whether its model is loaded."""
    ended: str = ""
    """The sentence it left behind; empty while it runs, and where it was killed."""
    failed: bool = False
    """Whether it could not start, or stopped because of a fault."""

    @property
    def lives(self) -> bool:
        """Whether its process is there."""
        return not self.ended and is_alive(Identity(self.host, self.pid, self.start))


@dataclass(frozen=True)
class Places:
    """The files of one worker."""

    folder: Path
    key: str

    @property
    def record(self) -> Path:
        """Who it is."""
        return self.folder / f"{self.key}.json"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / f"{self.key}.sock"

    @property
    def lock(self) -> Path:
        """Held while it lives."""
        return self.folder / f"{self.key}.lock"

    @property
    def log(self) -> Path:
        """What it had to say."""
        return self.folder / f"{self.key}.log"

    def read(self) -> Record | None:
        """The worker's record; None where there was never one, or where the file is none of ours."""
        return _read(self.record)

    def write(self, record: Record) -> None:
        """Put the record in place, whole, readable by this user only."""
        partial = self.record.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(asdict(record), file)
        os.replace(partial, self.record)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Alone while a worker is started or room is made for one; waits for others."""
        descriptor = os.open(self.folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def hold(self) -> int | None:
        """The worker's lock as an open file to keep until the process ends; None where another process has it."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def others(self) -> list[tuple[Places, Record]]:
        """The workers of this machine that live, other than this one."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            record = _read(path)
            if path != self.record and record is not None and record.lives:
                found.append((Places(self.folder, path.stem), record))
        return found


def places_of(store: str | os.PathLike[str], model: str, data: str = USUAL_DATA) -> Places:
    """The files of the worker of that model, store and data, in a folder that only this user can enter."""
    folder = cache_folder() / "live"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(f"{folder} must be a folder of your own, got somebody else's or a link; set SPARSESCOPE_CACHE to another folder.")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    more = "" if data == USUAL_DATA else f"\0{data}"
    key = hashlib.blake2b(f"{Path(store).resolve()}\0{model}{more}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return Places(folder, key)


def _read(path: Path) -> Record | None:
    try:
        values = json.loads(path.read_text(encoding="ascii"))
        return Record(**values)
    except (FileNotFoundError, ValueError, TypeError):  # of an older or newer program, or cut short by a full disk: start anew
        return None
