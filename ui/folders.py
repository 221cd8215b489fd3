"""Which paths on the server a page may open: whoever reaches the dashboard must not read the whole disk through it."""

from __future__ import annotations

from pathlib import Path

from analysis.jobs import reference
from analysis.models import BUNDLED
from analysis.models.files.header import Refused, quoted
from analysis.models.inputs.naming import BUILT_IN
from analysis.models.places import is_hub_id
from store import Store
from ui.serve import allowed_folders


def words() -> str:
    """The allowed folders as text."""
    return ", ".join(map(str, allowed_folders()))


def check(path: Path) -> Path:
    """The path with every symbolic link followed, where it, and every file in it, lies inside of the allowed folders.

    Raises `Refused` otherwise, with the same words whether or not anything is there.
    """
    real = path.expanduser().resolve()
    if not _inside(real):
        raise _outside(path)
    for entry in real.iterdir() if real.is_dir() else ():
        if entry.is_symlink() and not _inside(entry.resolve()):
            raise _outside(entry)
    return real


def check_reference(store: Store, model: str) -> str:
    """A model or data as it is filed. Raises `Refused` for a path outside of the allowed folders, unless this store has opened it before.

    What the store knows, somebody has opened who had the right: from the command line, or here.
    """
    from ui.uploads.kept import upload_of

    filed = reference(model)
    if model in BUNDLED or is_hub_id(model) or upload_of(filed) or store.known.get(filed) is not None:
        return filed
    return str(check(Path(model)))


def check_data(data: str) -> str:
    """DATA as it was given. Raises `Refused` for a path outside of the allowed folders."""
    if data not in BUILT_IN:
        whole = Path(data).expanduser()
        check(whole if whole.exists() or "?" not in data else Path(data.rpartition("?")[0]))
    return data


def _inside(real: Path) -> bool:
    return any(real.is_relative_to(folder) for folder in allowed_folders())


def _outside(path: Path) -> Refused:
    return Refused(
        f"a path must lie inside of the folders that this dashboard may open ({words()}), got {quoted(str(path))}; "
        "name another, upload the file, or start the dashboard with --folders."
    )
