"""What a pickle would import, read from its instructions without carrying them out; used only in the child process.

It names what an honest whole-module pickle holds, so that its owner knows what to change. It guards nothing: `torch.load` does.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_PICKLE = 2**28
_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules of Python 2, which pickles still name."""


def globals_in(file: Path, is_zip: bool) -> list[str]:
    """Names of what a pickle would import, beyond what torch allows, read from its instructions without carrying them out."""
    import torch

    allowed = set(_allowed(torch))
    if not is_zip:
        return [name for name in _globals(file.read_bytes()[:_MAX_PICKLE]) if name not in allowed]
    with zipfile.ZipFile(file) as archive:
        entry = next((one for one in archive.namelist() if one.endswith("data.pkl")), None)
        raw = archive.read(entry)[:_MAX_PICKLE] if entry else b""
    return [name for name in _globals(raw) if name not in allowed]


def _allowed(torch: Any) -> Iterator[str]:
    from torch._weights_only_unpickler import _get_allowed_globals

    yield from _get_allowed_globals()
    yield from (f"torch.{name}" for name in dir(torch) if name.endswith("Storage"))


def _globals(raw: bytes) -> list[str]:
    found: dict[str, None] = {}
    texts: list[str] = []
    rest = raw
    while rest:
        end = 0
        try:
            for code, argument, at in pickletools.genops(rest):
                end = (at or 0) + 1
                if code.name in ("GLOBAL", "INST"):
                    module, _, name = str(argument).partition(" ")
                    found[f"{_OLD_NAMES.get(module, module)}.{name}"] = None
                elif code.name == "STACK_GLOBAL":
                    found[".".join(texts[-2:])] = None
                elif isinstance(argument, str) and "UNICODE" in code.name:
                    texts = [*texts[-1:], argument]
        except (ValueError, IndexError, UnicodeDecodeError):
            break  # what follows the pickles of the old format are the tensors' bytes
        rest = rest[end:]
    return [name.encode("ascii", "backslashreplace").decode()[:100] for name in found]
