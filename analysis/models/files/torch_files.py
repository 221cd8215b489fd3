"""Torch files, converted once by the closed child process and kept in the cache folder as safetensors.

The folder is named by the hash of the file, written under a temporary name and renamed; of what the child wrote, only a
safetensors file and a small JSON file are taken, both checked again here: the child has seen the stranger's file.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.models.files import safetensors_header, sandbox, zips
from analysis.models.files.folders import INDEXES, weight_files
from analysis.models.files.header import Entry, Header, Refused, quoted, size_words
from analysis.models.files.look import CONVERT, check_file, guess, look
from analysis.models.fingerprints import TOKENIZER_FILES, digest, file_digest
from analysis.models.places import cache_folder
from analysis.spec import UserError

FORMAT = 1
"""Raised when what is written changes, so that older conversions are made again."""
WEIGHTS, SUMMARY = "model.safetensors", "summary.json"
_MAX_SUMMARY = 16 * 10**6
_STALE_S = 3600.0
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_ROOM = 10**9
"""Bytes of the disk that a conversion leaves free."""


@dataclass(frozen=True)
class Converted:
    """A torch file as safetensors."""

    folder: Path
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    """Sentences: what was left out, shared, renamed, not finite."""

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS


def convert(path: Path, *, all_names: bool = False, wrap: bool | None = None) -> Converted:
    """The conversion of a torch file, made where it is missing; it is only ever opened by the child.

    ``all_names``: a shared tensor is written under each of its names, as a model that is built from it may ask for any of them.
    """
    kind = check_file(path)
    if kind not in ("torch", "legacy"):
        raise Refused(f"a file to convert must be a torch file, got {path}, which is of another kind; open it as it is.")
    name = f"torch-{file_digest(path)}-{FORMAT}{'-all' if all_names else ''}"

    def make(partial: Path) -> None:
        limits = sandbox.limits_for(path.stat().st_size)
        sandbox.run("unpickle", path, partial, limits, how={"all_names": all_names}, wrap=wrap)
        _read(path, partial)

    return _read(path, kept(name, path.stat().st_size, make))


def kept(name: str, n_bytes: int, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by ``make`` in a temporary one where it is missing; nothing is left of one that fails."""
    cache = cache_folder()
    folder = cache / name
    if folder.is_dir():
        return folder
    remove_stale(cache)
    free = shutil.disk_usage(cache).free
    if free < 2 * n_bytes + _ROOM:
        raise UserError(
            f"the cache folder must have room for {size_words(2 * n_bytes)}, got {cache} with {size_words(free)} free; "
            "free some space or set SPARSESCOPE_CACHE to another folder."
        )
    partial = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".tmp", dir=cache))
    try:
        make(partial)
        try:
            os.rename(partial, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and made the same
                raise
    except OSError as error:
        raise UserError(
            f"the cache folder must have room for what is converted, got {cache} ({error}); free some space or set "
            "SPARSESCOPE_CACHE to another."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def remove_stale(cache: Path) -> None:
    """Remove what killed conversions left: temporary folders untouched for an hour."""
    for left in cache.glob("*.tmp"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _read(path: Path, folder: Path) -> Converted:
    """What the child made of ``path``; nothing in it is believed before it is checked."""
    files = {one.name: one.lstat() for one in folder.iterdir()}
    if (
        set(files) != {WEIGHTS, SUMMARY}
        or not all(stat.S_ISREG(s.st_mode) for s in files.values())
        or files[SUMMARY].st_size > _MAX_SUMMARY
    ):
        raise Refused(
            f"{path} must become one file of weights and a summary, got {quoted(sorted(files))}; do not use a file from this source."
        )
    contents = safetensors_header.read(folder / WEIGHTS)
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"{path} must be summarised in JSON, got something else ({quoted(str(error))}); do not use a file from this source."
        ) from error
    return Converted(folder, contents.entries, tuple(_notes(found if isinstance(found, dict) else {})))


def _notes(found: dict[str, Any]) -> list[str]:
    """The summary in sentences. Of what does not have the expected form nothing is said."""
    notes = []
    nested, prefix = found.get("nested"), found.get("prefix")
    if isinstance(nested, list) and nested:
        notes.append(f"the weights were found under {quoted('.'.join(map(str, nested)))}")
    if isinstance(prefix, str) and prefix:
        notes.append(f"the prefix {quoted(prefix)} was taken off every name")
    left = found.get("left_out")
    for name, n in list(left.items())[:10] if isinstance(left, dict) else []:
        if isinstance(n, int):
            notes.append(f"left out: {_many(n, 'tensor')} of {quoted(name)}")
    bad = found.get("nonfinite")
    if isinstance(bad, dict) and bad:
        total = sum(n for n in bad.values() if isinstance(n, int))
        notes.append(f"{_many(total, 'value')} of {_many(len(bad), 'tensor')} NaN or infinite, for example in {quoted(next(iter(bad)))}")
    empty = found.get("empty")
    if isinstance(empty, list) and empty:
        notes.append(f"{_many(len(empty), 'tensor')} without elements, for example {quoted(empty[0])}")
    return notes


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def look_inside(path: Path) -> Header:
    """As `look`, with the tensors of what must be converted first. Raises the sentence for what the conversion refuses."""
    header = look(path)
    if header.refusal is not None or not header.must_convert:
        return header
    if header.kind == "zip":
        inside = look_inside(unzipped(path))
        return replace(inside, path=header.path, kind="zip", kind_words=header.kind_words, n_bytes=header.n_bytes)
    files = weight_files(path) if path.is_dir() else (path,)
    entries: list[Entry] = []
    notes = [note for note in header.notes if note != CONVERT]
    for file in files:
        made = convert(file, all_names=header.can_run)
        entries += [replace(entry, file=file.name) for entry in made.entries]
        notes += made.notes
    seems = header.seems if header.can_run else guess(entries)
    return replace(header, tensors=tuple(entries), must_convert=False, seems=seems, notes=tuple(notes))


def folder_of(source: Path, weights: tuple[Path, ...]) -> tuple[Path, list[str]]:
    """A model folder whose weights are not all safetensors, as one where they are; and what to say about it."""
    settings = [source / name for name in (*_SETTINGS, *TOKENIZER_FILES) if (source / name).is_file()]
    ready: dict[str, Path] = {}
    notes: list[str] = []
    for number, file in enumerate(weights):
        kind = check_file(file)
        if kind not in ("torch", "legacy", "safetensors"):
            raise Refused(f"a model folder must hold .safetensors or torch files, got {file}; name the file itself.")
        made = convert(file, all_names=True) if kind != "safetensors" else None
        notes += made.notes if made else ()
        name = WEIGHTS if len(weights) == 1 else f"model-{number + 1:05d}-of-{len(weights):05d}.safetensors"
        ready[name] = made.weights if made else file
    key = digest([*(file_digest(one).encode() for one in (*settings, *weights)), *(one.name.encode() for one in settings)])

    def make(partial: Path) -> None:
        for one in settings:
            shutil.copyfile(one, partial / one.name)
        for name, file in ready.items():
            _put(file, partial / name)
        if len(ready) > 1:
            shards = {entry.name: name for name, file in ready.items() for entry in safetensors_header.read(file).entries}
            (partial / INDEXES[0]).write_text(json.dumps({"metadata": {}, "weight_map": shards}), encoding="utf-8")

    return kept(f"folder-{key}-{FORMAT}", 0, make), notes


def _put(file: Path, to: Path) -> None:
    """The file under another name: a second name for what the cache holds, a copy of what somebody may still change."""
    if file.is_relative_to(cache_folder()):
        os.link(file, to)
    else:
        shutil.copyfile(file, to)


def unzipped(path: Path) -> Path:
    """The folder a zipped model folder becomes, in the cache."""
    members = zips.members_of_folder(path, zips.entries(path))
    size = sum(info.file_size for info in members.values())
    return kept(f"zip-{file_digest(path)}-{FORMAT}", size, lambda partial: zips.unpack(path, partial))
