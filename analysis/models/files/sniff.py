"""What a file is, by its first bytes; its name is never asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.models.files.disk import cannot_read
from analysis.models.files.header import Refused, quoted

LEGACY_MAGIC = bytes([0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19])
"""torch's magic number as it was pickled before torch wrote zip archives."""

_TAR_AT = 257
_STARTS: Mapping[bytes, str] = {
    b"GGUF": "gguf",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    LEGACY_MAGIC: "legacy",
    b"\x93NUMPY": "numpy",
    b"\x89HDF": "hdf5",
    b"\x1f\x8b": "archive",
    b"BZh": "archive",
    b"\xfd7zXZ": "archive",
    b"7z\xbc\xaf": "archive",
    b"\x28\xb5\x2f\xfd": "archive",
    b"Rar!": "archive",
    b"version https://git-lfs": "lfs",
    b"\x7fELF": "program",
    b"MZ": "program",
    b"#!": "program",
}
WORDS: Mapping[str, str] = {
    "safetensors": "a safetensors file",
    "gguf": "a GGUF file",
    "torch": "a torch file (pickled, in a zip archive)",
    "legacy": "a torch file of the old format (pickled)",
    "exported": "a program exported by torch.export",
    "torchscript": "a TorchScript archive",
    "zip": "a zip of a model folder",
    "folder": "a Hugging Face folder",
    "series": "a series of checkpoints of one model",
}
_WHY_NOT: Mapping[str, tuple[str, str]] = {
    "empty": ("an empty file", "get it again"),
    "lfs": ("a pointer of Git LFS, which stands for the file", "fetch the file itself (git lfs pull)"),
    "page": ("a web page", "download the file itself, not the page about it"),
    "numpy": ("a numpy array", "give arrays as data, weights as safetensors"),
    "hdf5": ("an HDF5 file (Keras or similar)", "save the weights as safetensors"),
    "archive": ("an archive", "unpack it, and name the folder"),
    "program": ("a program", "name a file of weights"),
    "pickle": (
        "a bare pickle, which is a program and not a file of weights",
        "save a state dict with torch.save, or better as safetensors",
    ),
    "torchscript": ("a TorchScript archive, which is a program", "save the model's state_dict() instead"),
    "other": ("none of these", "save the weights as safetensors"),
}


def kind_of(path: Path) -> str:
    """The kind of a file: a key of `WORDS`, ``zip`` for every zip archive (`zips` tells them apart), or one that `refusal` explains."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise cannot_read(path, error) from error
    if not start:
        return "empty"
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    if start[8:9] == b"{":
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if start[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "archive"
    return "page" if start.lstrip()[:1] == b"<" else "other"


def refusal(path: Path, kind: str) -> Refused:
    """The sentence for a file of a kind that is never opened."""
    what, remedy = _WHY_NOT[kind]
    if kind == "other":
        what = f"one that starts with {quoted(path.open('rb').read(4))}"
    return Refused(f"a model file must be safetensors, GGUF, a torch state dict, or a zip of a model folder, got {path}, {what}; {remedy}.")
