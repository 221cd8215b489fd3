"""Uploads: a stranger's file on its way to disk, under a random name, hashed while it is written, and checked before it is used.

    token = quarantine.token()                        # the page, once per upload it offers
    upload = quarantine.begin(token, name, n_bytes)   # the route: the token is used up
    quarantine.write(upload, offset, chunk)           # in order; `received` says where to go on after a break
    done = quarantine.finish(upload)                  # checked by its header, or deleted with the sentence why

The folder holds ``<id>.part`` and ``<id>.json`` while a file arrives, and ``<id>/file`` and ``<id>/about.json`` afterwards. The
name a user gave is text in a JSON file and never becomes a path. Nothing is left of an upload that fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from analysis.models.files.arrived import (
    ABOUT,
    AGAIN,
    FILE,
    ID,
    NoRoom,
    NotAllowed,
    NotThere,
    OutOfOrder,
    TooLarge,
    Upload,
    checked_id,
    plain_name,
    read_about,
)
from analysis.models.files.disk import read_json
from analysis.models.files.header import Refused, quoted, size_words
from analysis.models.files.look import look
from analysis.spec import UserError

CAP = 20 * 10**9
QUOTA = 60 * 10**9
KEEP_FREE = 2 * 10**9
TOKEN_S = 3600.0
STALE_S = 600.0
"""Seconds after the last byte in which an unfinished upload may be gone on with; a browser tries for one minute by itself."""
_TOKEN = re.compile(r"[\w-]{43}")

log = logging.getLogger("sparsescope.uploads")


class Quarantine:
    """A folder for uploads. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path, *, cap: int = CAP, quota: int = QUOTA, keep_free: int = KEEP_FREE) -> None:
        self.folder = folder
        self.cap, self.quota, self.keep_free = cap, quota, keep_free
        self._hashes: dict[str, tuple[Any, int]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"the folder of uploads must be writable, got {folder} ({error.strerror}); choose another.") from error

    def token(self) -> str:
        """A secret that allows one upload within an hour. Kept as a hash, so that reading the folder allows none."""
        made = secrets.token_urlsafe(32)
        self._token_file(made).touch(mode=0o600, exist_ok=False)
        return made

    def begin(self, token: str, name: str, n_bytes: int) -> str:
        """The id of a new upload of ``n_bytes``; uses up the token. Raises `Refused` where there is no right or no room."""
        self._use_up(token)
        if n_bytes <= 0 or n_bytes > self.cap:
            raise TooLarge(
                f"an upload must have between 1 byte and {size_words(self.cap)}, got {size_words(n_bytes)}; give a path on the "
                "server instead."
            )
        with self._locked(self.folder / ".lock"):
            self.sweep()
            held, waited_for = self._held()
            if held + n_bytes > self.quota:
                raise NoRoom(
                    f"the uploads must take at most {size_words(self.quota)} together, got {size_words(held)} and "
                    f"{size_words(n_bytes)} more; "
                    "delete some of them."
                )
            free = shutil.disk_usage(self.folder).free - waited_for - self.keep_free
            if n_bytes > free:
                raise NoRoom(
                    f"an upload must leave {size_words(self.keep_free)} of the disk free, got {size_words(n_bytes)} where "
                    f"{size_words(max(free, 0))} "
                    "can be used; free some space."
                )
            new = secrets.token_hex(16)
            about = {"name": plain_name(name), "bytes": n_bytes, "started": time.time()}
            self._about(new).write_text(json.dumps(about), encoding="utf-8")
            self._part(new).touch(mode=0o600, exist_ok=False)
        self._hashes[new] = (hashlib.sha256(), 0)
        return new

    def received(self, upload: str) -> int:
        """Bytes that have arrived: the offset of the next chunk."""
        return self._existing(upload).stat().st_size

    def write(self, upload: str, offset: int, chunk: bytes) -> int:
        """Append a chunk; the bytes that have arrived now. Raises `Refused` for another offset, and ends an upload that grows too large."""
        part = self._existing(upload)
        expected = read_json(self._about(upload))["bytes"]
        with self._locked(part) as file:
            at = os.fstat(file.fileno()).st_size
            if offset != at:
                raise OutOfOrder(f"the next chunk must begin at byte {at:,}, got {offset:,}; go on from there.")
            if at + len(chunk) > expected:
                self.discard(upload)
                raise TooLarge(f"an upload must have the {expected:,} bytes it announced, got more; {AGAIN}.")
            state = self._hash(upload, file, at)
            file.seek(at)
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                self.discard(upload)
                raise NoRoom(f"an upload must fit on the disk, got {error.strerror}; free some space and {AGAIN}.") from error
            state.update(chunk)
            self._hashes[upload] = (state, at + len(chunk))
        return at + len(chunk)

    def finish(self, upload: str) -> Upload:
        """The upload, complete and checked by its header; otherwise it is deleted and `Refused` says why. Its hash is logged either way."""
        part = self._existing(upload)
        about = read_json(self._about(upload))
        with self._locked(part) as file:
            size = os.fstat(file.fileno()).st_size
            if size != about["bytes"]:
                raise OutOfOrder(
                    f"an upload must be complete before it is opened, got {size:,} of {about['bytes']:,} bytes; send the rest."
                )
            sha256 = self._hash(upload, file, size).hexdigest()
            os.fsync(file.fileno())
        place = self.folder / upload
        place.mkdir(mode=0o700)
        os.rename(part, place / FILE)
        self._hashes.pop(upload, None)
        header = look(place / FILE)
        if header.refusal is not None:
            self.discard(upload)
            log.warning("upload %s sha256 %s, %d bytes, refused: %s", upload, sha256, size, header.refusal)
            raise Refused(header.refusal.replace(str(place / FILE), quoted(about["name"])))
        checked = place / f"{ABOUT}.part"
        checked.write_text(json.dumps(about | {"sha256": sha256, "kind": header.kind_words}), encoding="utf-8")
        os.rename(checked, place / ABOUT)  # last, and at once: what has not been checked has not arrived
        self._about(upload).unlink()
        log.info("upload %s sha256 %s, %d bytes, %s", upload, sha256, size, header.kind)
        return self.get(upload)

    def uploads(self) -> list[Upload]:
        """What has arrived and is still here, the oldest first."""
        found = [place for place in self.folder.iterdir() if place.is_dir() and ID.fullmatch(place.name) and (place / ABOUT).is_file()]
        kept = []
        for place, _ in sorted(_still_there(found), key=lambda one: one[1].st_mtime):
            with contextlib.suppress(NotThere):  # deleted meanwhile, from another page
                kept.append(self.get(place.name))
        return kept

    def get(self, upload: str) -> Upload:
        """An upload that has arrived."""
        place = self.folder / checked_id(upload)
        about = read_about(place)
        if about is None:
            raise NotThere(f"the upload must have arrived, got {quoted(upload)}, which has not or was deleted; upload it again.")
        return Upload(upload, about["name"], place / FILE, about["bytes"], about["sha256"], about.get("kind", "a model file"))

    def discard(self, upload: str) -> None:
        """Delete an upload, whatever its state."""
        checked_id(upload)
        self._hashes.pop(upload, None)
        self._part(upload).unlink(missing_ok=True)
        self._about(upload).unlink(missing_ok=True)
        shutil.rmtree(self.folder / upload, ignore_errors=True)

    def sweep(self) -> None:
        """Delete unfinished uploads nobody wrote to for `STALE_S`, so that they hold no room, and tokens nobody used in time."""
        now = time.time()
        for one, status in _still_there(self.folder.glob("*.token")):
            if now - status.st_mtime > TOKEN_S:
                one.unlink(missing_ok=True)
        for one, status in _still_there(self.folder.glob("*.json")):  # beside the bytes, until they have been checked
            last = max((of.st_mtime for _, of in _still_there([self._part(one.stem), self.folder / one.stem])), default=status.st_mtime)
            if now - last > STALE_S and ID.fullmatch(one.stem):
                self.discard(one.stem)

    # -----------------------------------------------------------------------------------------------------------------

    def _token_file(self, token: str) -> Path:
        return self.folder / f"{hashlib.sha256(token.encode()).hexdigest()}.token"

    def _use_up(self, token: str) -> None:
        file = self._token_file(token) if _TOKEN.fullmatch(token) else None
        try:
            fresh = file is not None and time.time() - file.stat().st_mtime <= TOKEN_S
            if file is not None:
                file.unlink()  # only one of two that come at once gets through here
        except FileNotFoundError:
            fresh = False
        if not fresh:
            raise NotAllowed(
                "an upload must be allowed by a page of this app, got a token that is unknown, used or too old; reload the page."
            )

    def _held(self) -> tuple[int, int]:
        """Bytes that all uploads take once they have arrived, and how many of them are still to come."""
        held = sum(status.st_size for _, status in _still_there(self.folder.glob(f"*/{FILE}")))
        coming = 0
        for part, status in _still_there(self.folder.glob("*.part")):
            try:
                expected = read_json(self._about(part.stem))["bytes"]
            except UserError:
                if part.exists():
                    raise
                continue  # given up or complete meanwhile
            held, coming = held + expected, coming + expected - status.st_size
        return held, coming

    def _part(self, upload: str) -> Path:
        return self.folder / f"{upload}.part"

    def _about(self, upload: str) -> Path:
        return self.folder / f"{upload}.json"

    def _existing(self, upload: str) -> Path:
        part = self._part(checked_id(upload))
        if not part.is_file():
            raise NotThere(f"the upload must have begun, got {quoted(upload)}, which has not or was deleted; {AGAIN}.")
        return part

    @contextmanager
    def _locked(self, path: Path) -> Iterator[BinaryIO]:
        try:
            file = path.open("a+b" if path.name == ".lock" else "r+b")
        except FileNotFoundError as error:
            raise NotThere(f"the upload must have begun, got {quoted(path.stem)}, which was given up; {AGAIN}.") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _hash(self, upload: str, file: BinaryIO, at: int) -> Any:
        """The hash of the first ``at`` bytes: remembered, or made again where another process or an earlier one wrote them."""
        state, n = self._hashes.get(upload, (None, -1))
        if n == at:
            return state
        state = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(2**20):
            state.update(chunk)
        return state


def _still_there(found: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Each with its status, without those that another request has deleted meanwhile."""
    for one in found:
        try:
            status = one.stat()
        except FileNotFoundError:
            continue
        yield one, status
