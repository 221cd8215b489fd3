"""The header of a GGUF file: key-value pairs and the list of tensors, read with a bound on everything it claims.

The reader that transformers uses walks every array element by element, so a claim of 2^40 elements keeps it busy for ever; here a
claim is checked against the bytes that are left in the file before it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from analysis.models.files.disk import cannot_read
from analysis.models.files.header import Entry, Refused, check_count, check_name, check_shape, quoted

MAX_KEYS = 10_000
MAX_TEXT = 2**20
MAX_ARRAY = 1_000_000
"""Elements of one array: vocabularies have up to about 260,000 tokens."""
MAX_ELEMENTS = 4 * MAX_ARRAY
_SCALARS: Mapping[int, str] = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_SHOWN = 120
_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True)
class Contents:
    """A GGUF header."""

    entries: tuple[Entry, ...]
    metadata: dict[str, str]
    """Every key, its value as text; of arrays the length."""


def read(path: Path) -> Contents:
    """The header of a GGUF file. Raises `Refused` where it claims more than the file holds or than a model needs."""
    try:
        with path.open("rb") as file:
            return _Reader(path, file, path.stat().st_size).contents()
    except OSError as error:
        raise cannot_read(path, error) from error
    except struct.error as error:
        raise Refused(f"{path} must be a complete GGUF file, got one that ends within its header; get it again.") from error


class _Reader:
    """One pass over a header, which counts what it has read."""

    def __init__(self, path: Path, file: BufferedReader, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._elements = 0
        self._order = "<"

    def contents(self) -> Contents:
        if self._file.read(4) != b"GGUF":
            raise Refused(f"{self._path} must be a GGUF file, got one that starts otherwise; get it again.")
        version = self._one("I")
        if version not in (2, 3):
            raise Refused(f"{self._path} must be a complete GGUF file of version 2 or 3, got version {version:,}; convert it again.")
        n_tensors, n_keys = self._one("Q"), self._one("Q")
        if n_keys > MAX_KEYS:
            raise Refused(f"{self._path} must be a complete GGUF file of at most {MAX_KEYS:,} keys, got {n_keys:,}; get it again.")
        check_count(n_tensors, str(self._path))
        metadata: dict[str, str] = {}
        for _ in range(n_keys):
            key = self._text()
            if key in metadata:
                raise Refused(f"{self._path} must give every key once, got {quoted(key)} twice; get it again.")
            metadata[key] = self._value(self._one("I"), key)
        listed = [self._tensor() for _ in range(n_tensors)]
        return Contents(self._placed(listed, metadata), metadata)

    def _one(self, form: str) -> int:
        return struct.unpack(self._order + form, self._file.read(struct.calcsize(f"={form}")))[0]

    def _text(self) -> str:
        length = self._one("Q")
        if length > MAX_TEXT or length > self._size - self._file.tell():
            raise Refused(f"{self._path} must be a complete GGUF file of short texts, got one that claims {length:,} bytes; get it again.")
        return self._file.read(length).decode("utf-8", "backslashreplace")

    def _value(self, kind: int, key: str) -> str:
        if kind in _SCALARS:
            return str(self._one(_SCALARS[kind]))
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            raise Refused(f"{self._path} must have values of types GGUF knows, got type {kind:,} for {quoted(key)}; get it again.")
        return self._array(key)

    def _array(self, key: str) -> str:
        kind, length = self._one("I"), self._one("Q")
        each = struct.calcsize(f"={_SCALARS[kind]}") if kind in _SCALARS else 8
        left = self._size - self._file.tell()
        self._elements += length
        if kind != _TEXT and kind not in _SCALARS:
            raise Refused(
                f"{self._path} must have arrays of numbers or texts, got an array of type {kind:,} for {quoted(key)}; get it again."
            )
        if length * each > left:
            raise Refused(
                f"{self._path} must be a complete GGUF file, got an array {quoted(key)} that claims {length:,} elements with "
                f"{left:,} bytes left; "
                "do not use a file from this source."
            )
        if length > MAX_ARRAY or self._elements > MAX_ELEMENTS:
            raise Refused(
                f"{self._path} must have arrays of at most {MAX_ARRAY:,} elements, got {length:,} in {quoted(key)}; do not use a "
                "file from this source."
            )
        if kind != _TEXT:
            self._file.seek(length * each, 1)
        else:
            for _ in range(length):
                self._skip_text()
        return f"{length:,} values"

    def _skip_text(self) -> None:
        length = self._one("Q")
        if length > MAX_TEXT:
            raise Refused(f"{self._path} must be a complete GGUF file of short texts, got one that claims {length:,} bytes; get it again.")
        self._file.seek(length, 1)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = check_name(self._text(), str(self._path))
        n_dims = self._one("I")
        if n_dims > 8:
            raise Refused(f"{self._path} must have tensors of at most 8 dimensions, got {n_dims:,} for {quoted(name)}; get it again.")
        sides = [self._one("Q") for _ in range(n_dims)]
        return name, check_shape(name, sides[::-1], str(self._path)), self._one("I"), self._one("Q")

    def _placed(self, listed: list[tuple[str, tuple[int, ...], int, int]], metadata: Mapping[str, str]) -> tuple[Entry, ...]:
        """The tensors with their bytes, which must lie in the file and not overlap."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        names = {int(one): one.name for one in GGMLQuantizationType}
        text = metadata.get("general.alignment", "32")
        align = int(text) if text.isdigit() and 0 < int(text) <= 2**20 else 32
        start = -(-self._file.tell() // align) * align
        made: list[tuple[int, Entry]] = []
        for name, shape, kind, offset in listed:
            if kind not in names:
                raise Refused(
                    f"{self._path} must have tensors of types GGUF knows, got type {kind:,} for {quoted(name)}; convert it again."
                )
            block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            dtype = names[kind]
            entry = Entry(name, shape, _TORCH_NAMES.get(dtype, dtype), 0)
            made.append((offset, Entry(name, shape, entry.dtype, -(-entry.numel // block) * n_bytes)))
        at, seen = 0, set()
        for offset, entry in sorted(made, key=lambda pair: pair[0]):
            if entry.name in seen:
                raise Refused(f"{self._path} must name every tensor once, got {quoted(entry.name)} twice; get it again.")
            if offset < at or start + offset + entry.n_bytes > self._size:
                what = "overlaps another" if offset < at else "lies beyond the end"
                raise Refused(
                    f"{self._path} must be a complete GGUF file, got the tensor {quoted(entry.name)}, which {what}; get it again."
                )
            seen.add(entry.name)
            at = offset + entry.n_bytes
        return tuple(entry for _, entry in made)
