"""Which model the page shows: an upload, a path inside of the allowed folders, a bundled name or a hub id; and its header, kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from analysis.models import BUNDLED, places
from analysis.models.files import Branch, Header, look
from analysis.models.files.torch_files import look_inside
from analysis.models.hub import cached_folder
from analysis.spec import UserError
from store import ModelInfo
from ui import data
from ui.folders import check_reference
from ui.uploads import kept

_KEPT = 6
"""Headers kept in memory: that of two hundred thousand tensors takes about a hundred megabytes."""


@dataclass(frozen=True)
class Asked:
    """The model that an address names."""

    ref: str
    """What jobs are asked for it by."""
    shown: str
    """What people call it (foreign text)."""
    path: Path | None
    """Where its files are; None for a hub id that has not been fetched."""
    upload: str | None = None
    """Its id, where it is one."""
    known: ModelInfo | None = None
    """What was found out when it was last opened."""


def find(query: Mapping[str, str]) -> Asked | None:
    """What the address names; None where it names nothing. Raises `UserError` for what is not there or not allowed."""
    store = data.store()
    if query.get("upload"):
        found = kept.quarantine().get(query["upload"])
        return Asked(str(found.path), found.name, found.path, found.id, store.known.get(str(found.path)))
    if not query.get("model", "").strip():
        return None
    ref = check_reference(store, query["model"].strip())
    upload = kept.upload_of(ref)
    known = store.known.get(ref)
    name = kept.shown(ref) if upload else known.label if known and ref in BUNDLED else Path(ref).name if Path(ref).is_absolute() else ref
    return Asked(ref, name, _path(ref), upload, known)


def _path(ref: str) -> Path | None:
    if ref in BUNDLED:
        place = places.find(ref)
        return place.folder or place.weights[0]
    return cached_folder(ref) if places.is_hub_id(ref) else Path(ref).expanduser()


def header_of(asked: Asked) -> Header | None:
    """What its files say of themselves, and of what must be converted what the conversion found, once it has been made.

    None for a hub id that has not been fetched. Raises `UserError` where nothing is there.
    """
    if asked.path is None:
        return None
    return _header(*_key(asked, asked.path))


def tree_of(asked: Asked) -> Branch:
    """The tree of the tensors in `header_of`, kept: a hundred thousand tensors take seconds."""
    if asked.path is None:
        raise TypeError("a model that has not been fetched has no tree")
    return _tree(*_key(asked, asked.path))


def _key(asked: Asked, path: Path) -> tuple[str, tuple[tuple[str, int, int], ...], bool, str | None]:
    """The path, what changes with the files, whether what must be converted has been, and what an upload's user called it."""
    return str(path), _stamp(path), asked.upload is not None or asked.known is not None, asked.shown if asked.upload else None


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when the files do."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return tuple((one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in files if one.exists())


@st.cache_resource(max_entries=_KEPT, show_spinner="Reading what the files say of themselves …")
def _header(path: str, stamp: tuple[tuple[str, int, int], ...], inside: bool, called: str | None) -> Header:
    del stamp  # part of the key only
    try:
        header = look_inside(Path(path)) if inside else look(path)
    except UserError as error:
        header = replace(look(path), refusal=str(error))
    return replace(header, files=(called,)) if called and header.files == (Path(path).name,) else header


@st.cache_resource(max_entries=_KEPT, show_spinner="Sorting the tensors by module …")
def _tree(path: str, stamp: tuple[tuple[str, int, int], ...], inside: bool, called: str | None) -> Branch:
    return _header(path, stamp, inside, called).tree()
