"""The header of a safetensors file, read without torch and without values: 8 bytes of length, JSON, then the tensors' bytes.

Checked here, since readers accept some of it: the length of the header, names, counts, duplicate keys, sides of empty tensors,
and that the tensors lie one behind the other, without overlap or hole, up to the end of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.models.files.disk import cannot_read
from analysis.models.files.header import Entry, Refused, check_count, check_name, check_shape, quoted, size_words

MAX_HEADER = 32 * 10**6
"""Bytes. The largest published shards hold some thousand tensors, at about 120 bytes of header each."""
_BITS: Mapping[str, tuple[str, int]] = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "U16": ("uint16", 16), "I16": ("int16", 16), "U32": ("uint32", 32),
    "I32": ("int32", 32), "U64": ("uint64", 64), "I64": ("int64", 64), "F16": ("float16", 16), "BF16": ("bfloat16", 16),
    "F32": ("float32", 32), "F64": ("float64", 64), "C64": ("complex64", 64), "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8), "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8), "F4": ("float4_e2m1fn_x2", 4), "F6_E2M3": ("F6_E2M3", 6), "F6_E3M2": ("F6_E3M2", 6),
}  # fmt: skip
"""Type in the header: torch's name, and bits of one element."""


@dataclass(frozen=True)
class Contents:
    """A safetensors header."""

    entries: tuple[Entry, ...]
    """In the order of their bytes."""
    metadata: dict[str, str]


def read(path: Path) -> Contents:
    """The header of a safetensors file. Raises `Refused` where it does not agree with itself or with the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise Refused(
                    f"{path} must be a complete safetensors file, got a header that claims {length:,} bytes in a file of "
                    f"{size:,}; get it again."
                )
            if length > MAX_HEADER:
                raise Refused(
                    f"{path} must have a header of at most {size_words(MAX_HEADER)}, got {size_words(length)}; "
                    "split the model into several files."
                )
            raw = file.read(length)
    except OSError as error:
        raise cannot_read(path, error) from error
    found = _parse(path, raw)
    metadata = _metadata(path, found.pop("__metadata__", {}))
    check_count(len(found), str(path))
    entries = sorted((_entry(path, name, entry) for name, entry in found.items()), key=lambda pair: pair[0])
    at = 0
    for (begin, end), entry in entries:
        if begin != at:
            what = "overlaps the one before it" if begin < at else "leaves a hole before it"
            raise Refused(f"{path} must store its tensors one behind the other, got {quoted(entry.name)}, which {what}; get it again.")
        at = end
    if at != size - 8 - length:
        raise Refused(
            f"{path} must be a complete safetensors file, got {size - 8 - length:,} bytes of tensors where its header says "
            f"{at:,}; get it again."
        )
    return Contents(_with_ties([entry for _, entry in entries], metadata), metadata)


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in pairs:
            if name in made:
                raise Refused(f"{path} must name every tensor once, got {quoted(name)} twice; save the model again.")
            made[name] = value
        return made

    try:
        found = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} must have a header of JSON, got one that cannot be read ({quoted(str(error))}); get it again.") from error
    if not isinstance(found, dict):
        raise Refused(f"{path} must have a header that lists tensors, got {quoted(found)}; get it again.")
    return found


def _metadata(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Refused(f"{path} must have metadata of texts, got {quoted(found)}; save the model again.")
    return found


def _entry(path: Path, name: str, found: Any) -> tuple[tuple[int, int], Entry]:
    check_name(name, str(path))
    if not isinstance(found, dict) or not isinstance(found.get("dtype"), str) or found["dtype"] not in _BITS:
        dtype = found.get("dtype") if isinstance(found, dict) else found
        raise Refused(
            f"{path} must give every tensor a type that safetensors knows, got {quoted(dtype)} for {quoted(name)}; save the model again."
        )
    shape = check_shape(name, found.get("shape"), str(path))
    offsets = found.get("data_offsets")
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(one) is not int or one < 0 for one in offsets):
        raise Refused(f"{path} must say where each tensor begins and ends, got {quoted(offsets)} for {quoted(name)}; get it again.")
    dtype, bits = _BITS[found["dtype"]]
    begin, end = offsets
    entry = Entry(name, shape, dtype, end - begin)
    if (end - begin) * 8 != entry.numel * bits:
        raise Refused(
            f"{path} must give every tensor the bytes its shape needs, got {end - begin:,} bytes for {quoted(name)} of shape {list(shape)} "
            f"and type {dtype}; get it again."
        )
    return (begin, end), entry


def _with_ties(entries: list[Entry], metadata: Mapping[str, str]) -> tuple[Entry, ...]:
    """Writers that store a shared tensor once note its other names in the metadata: absent name -> stored name."""
    known = {entry.name for entry in entries}
    more: dict[str, list[str]] = {}
    for absent, stored in metadata.items():
        if stored in known and absent not in known and absent.isprintable() and "." in absent:
            more.setdefault(stored, []).append(absent)
    return tuple(Entry(e.name, e.shape, e.dtype, e.n_bytes, e.file, tuple(more[e.name])) if e.name in more else e for e in entries)
