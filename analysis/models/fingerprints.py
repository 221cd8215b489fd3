"""Which weights, which tokenizer, which data: hashes of contents, never of paths.

Files are hashed as streams (about 0.8 GB/s), and a file's hash is remembered by path, size, modification time and inode in a
small SQLite file in the cache folder. A file changed within the last second is hashed but not remembered, since a second
change of the same size could fall into the same tick of the file system's clock.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from analysis.models.places import Place, cache_folder, cannot_read, read_json
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch

DIGEST_BYTES = 16
_SETTLED_NS = 1_000_000_000
_VOLATILE = {
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "tokenizer_file",
    "special_tokens_map_file",
    "chat_template",
    "local_files_only",
    "is_local",
}
"""Keys of config files that say where a model came from or how it is chatted with, not what it computes."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """Hash of byte strings, in order, 32 hex digits; each is preceded by its length, so that moving a boundary shows."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        view = memoryview(part).cast("B") if len(part) else memoryview(b"")
        state.update(view.nbytes.to_bytes(8, "little"))
        state.update(view)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """Hash of a file's bytes, 32 hex digits, remembered while path, size, modification time and inode stay the same."""
    try:
        before = path.stat()
        key = (str(path.resolve()), before.st_size, before.st_mtime_ns, before.st_ino)
        with closing(_memory()) as memory:
            known = memory.execute("SELECT digest FROM files WHERE path = ? AND size = ? AND mtime = ? AND inode = ?", key).fetchone()
            if known:
                return known[0]
            with path.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
            settled = time.time_ns() - before.st_mtime_ns > _SETTLED_NS and path.stat().st_mtime_ns == before.st_mtime_ns
            if settled:
                with memory:
                    memory.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*key, found))
            return found
    except OSError as error:
        raise cannot_read(path, error) from error
    except sqlite3.Error as error:
        raise UserError(
            f"the cache folder must hold a writable SQLite file of file hashes, got {cache_folder()} ({error}); "
            "delete file-hashes.sqlite in it, or set SPARSESCOPE_CACHE to another folder."
        ) from error


def _memory() -> sqlite3.Connection:
    memory = sqlite3.connect(cache_folder() / "file-hashes.sqlite", timeout=30)
    memory.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER, digest TEXT)")
    return memory


def weights_fingerprint(files: Iterable[Path], config: Mapping[str, Any] | None) -> str:
    """Hash of weight files in order of their names, and of the config's content (the activation function is not in the weights)."""
    parts = [file_digest(path).encode() for path in sorted(files, key=lambda p: p.name)]
    return digest([*parts, canonical(config).encode()])


def place_fingerprint(place: Place) -> str:
    """Hash of the weights at a place, with its config, or an adapter's settings, where it has one."""
    folder = place.folder if place.form in ("folder", "torch-folder") else None
    return weights_fingerprint(place.weights, place.adapter if folder is None else read_json(folder / "config.json"))


def tokenizer_fingerprint(folder: Path) -> str | None:
    """Hash of a folder's tokenizer files and settings; None where it has none."""
    vocabularies = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not vocabularies:
        return None
    settings = [folder / name for name in _TOKENIZER_SETTINGS if (folder / name).is_file()]
    parts = [file_digest(path) for path in vocabularies]
    parts += [canonical(read_json(path)) for path in settings]
    return digest(part.encode() for part in parts)


def tokenizer_object_fingerprint(tokenizer: Any) -> str:
    """Hash of a tokenizer in memory: its serialised form without truncation and padding, which calls change."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    return digest([canonical({k: v for k, v in content.items() if k not in ("truncation", "padding")}).encode()])


def module_fingerprint(model: torch.nn.Module) -> str:
    """Hash of a module: its structure as printed, its config where it has one, and every entry of its state dict.

    A function called in ``forward`` but not held as a module is not seen.
    """
    config = getattr(model, "config", None)
    settings = config.to_dict() if config is not None and hasattr(config, "to_dict") else None
    cls = type(model)
    head = [f"{cls.__module__}.{cls.__qualname__}".encode(), repr(model).encode(), canonical(settings).encode()]
    return digest(_state_parts(head, model))


def _state_parts(head: list[bytes], model: torch.nn.Module) -> Iterable[Any]:
    yield from head
    for name, tensor in model.state_dict().items():
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor_bytes(tensor)


def function_fingerprint(function: Callable[..., Any]) -> str:
    """Hash of what a function's code says (of an object, of its class' ``__call__``); what it closes over or calls is not seen."""
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    named = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return digest([named.encode(), *(() if code is None else _code_parts(code))])


def _code_parts(code: CodeType) -> Iterable[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:  # a set has no order that a second process would share
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode()


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """A tensor's elements as bytes, in index order, whatever its dtype and strides."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data


def canonical(settings: Any) -> str:
    """Settings as JSON with sorted keys, without those that name a place or a version."""
    if isinstance(settings, Mapping):
        settings = {k: v for k, v in settings.items() if k not in _VOLATILE}
    return json.dumps(settings, sort_keys=True, default=str)
