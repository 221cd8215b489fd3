"""An upload that has arrived, its name, and what can be wrong with one, each with a kind of its own."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.models.files.disk import read_json
from analysis.models.files.header import Header, Refused, quoted
from analysis.models.files.look import look
from analysis.spec import UserError

ID = re.compile(r"[0-9a-f]{32}")
FILE, ABOUT = "file", "about.json"
AGAIN = "start the upload again"
_LONGEST_NAME = 200


class NotAllowed(Refused):
    """No page has allowed this upload."""


class TooLarge(Refused):
    """More bytes than an upload may have, or than it announced."""


class NoRoom(Refused):
    """The quota or the disk is full."""


class NotThere(Refused):
    """There is no such upload, or no longer."""


class OutOfOrder(Refused):
    """Bytes are missing before this step."""


@dataclass(frozen=True)
class Upload:
    """A file that has arrived and passed the checks of its header. Open it by its path."""

    id: str
    name: str
    """As the user called it: text, never a path."""
    path: Path
    n_bytes: int
    sha256: str
    kind_words: str
    """Which kind of file it is, noted when it was checked."""

    @functools.cached_property
    def header(self) -> Header:
        """What the file says of itself. Read when it is asked for: a hundred thousand tensors take seconds."""
        return look(self.path)


def read_about(folder: Path) -> dict[str, Any] | None:
    """What is noted of the upload in this folder; None where it has not arrived, or was deleted, be it while it was read."""
    about = folder / ABOUT
    if not about.is_file():
        return None
    try:
        return read_json(about)
    except UserError:
        if about.exists():
            raise
        return None


def display_name(path: Path) -> str | None:
    """What the user called an uploaded file, by its path in quarantine; None for every other path."""
    if path.name != FILE or not ID.fullmatch(path.parent.name):
        return None
    about = read_about(path.parent)
    return None if about is None else plain_name(str(about.get("name", path.name)))


def checked_id(upload: str) -> str:
    """The id of an upload, which becomes a path. Raises `NotThere` for what is none."""
    if not ID.fullmatch(upload):
        raise NotThere(f"the id of an upload must be 32 hexadecimal digits, got {quoted(upload)}; {AGAIN}.")
    return upload


def plain_name(name: str) -> str:
    """A file's name as text: its last part, printable, short."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:_LONGEST_NAME] or "upload"
