"""The uploads of this dashboard: where they lie, what they are called, and how one is deleted. Imports no Streamlit.

They lie beside the store's runs, in ``<store>/uploads``. Their names are text in a JSON file; the path that jobs open holds a
random id, which people never need to see.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.models import cache_folder
from analysis.models.files import Quarantine, Upload
from analysis.models.files.arrived import NotThere, display_name
from analysis.models.files.header import Refused, quoted
from analysis.spec import UserError
from store.jobs import LIVE
from ui.serve import DEFAULT_STORE, STORE_VARIABLE

if TYPE_CHECKING:
    from analysis.jobs import Jobs

FOLDER = "uploads"


def quarantine() -> Quarantine:
    """The uploads of the store this server shows; what nobody went on with is swept away when it is opened."""
    return _opened(os.path.abspath(os.environ.get(STORE_VARIABLE) or DEFAULT_STORE))


@lru_cache(maxsize=4)
def _opened(store: str) -> Quarantine:
    found = Quarantine(Path(store) / FOLDER)
    found.sweep()
    return found


def upload_of(reference: str) -> str | None:
    """The id of the upload that a model's reference names; None for every other model."""
    path = Path(reference)
    inside = path.is_absolute() and path.parent.parent == quarantine().folder
    return path.parent.name if inside and display_name(path) is not None else None


def shown(reference: str) -> str:
    """What people call a model or data: an upload by its user's name, everything else by its reference (foreign text)."""
    path = Path(reference)
    return (display_name(path) if path.is_absolute() else None) or reference


def has_arrived(upload: str) -> bool:
    """Whether an upload is complete."""
    try:
        quarantine().get(upload)
    except NotThere:
        return False
    return True


def check(upload: str) -> None:
    """Check a complete upload to the end: what must be converted is converted now, in a closed process.

    Of one that is refused nothing is left; `Refused` says why, under the name its user gave.
    """
    from analysis.models.files.torch_files import look_inside

    found = quarantine().get(upload)
    try:
        look_inside(found.path)
    except UserError as error:
        quarantine().discard(upload)
        raise Refused(_own_words(str(error), found)) from error


def _own_words(sentence: str, upload: Upload) -> str:
    """A sentence about an upload without the paths of this machine."""
    cached = re.escape(str(cache_folder().resolve()))
    return re.sub(rf"{cached}/[\w.-]+/", "", sentence.replace(str(upload.path), quoted(upload.name)))


def delete(upload: str, desk: Jobs) -> None:
    """Delete an upload, and what is known of it. Runs that were made of it stay. Raises `UserError` while a job reads it."""
    path = str(quarantine().get(upload).path)
    reading = [job.id for job in desk.list(LIVE) if path in (job.model, *job.spec.get("inputs", {}).values(), job.data)]
    if reading:
        raise UserError(f"an upload to delete must not be in use, got one that job {reading[0]} reads; cancel the job first.")
    quarantine().discard(upload)
    desk.store.known.remove(path)
