"""Rows of arrays with labels, from .npz, .npy, .pt and .safetensors files.

Nothing pickled is opened: object arrays are refused, ``.pt`` files are read with ``weights_only``. Only the sampled rows are kept:
an ``.npz`` member is streamed past, the other formats are mapped into memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from analysis.models.inputs.naming import DataName
from analysis.models.places import cannot_read
from analysis.spec import UserError

INPUT_NAMES = ("x", "input", "inputs", "input_ids", "pixel_values", "data", "images", "features")
LABEL_NAMES = ("y", "label", "labels", "target", "targets")
MOST_BYTES = 2 * 10**9
"""Of the sampled rows together."""
_STRIDE_BYTES = 2**22


@dataclass(frozen=True)
class Stored:
    """One array of a file: its shape, and its rows when asked for."""

    shape: tuple[int, ...]
    item_bytes: int
    rows: Callable[[np.ndarray], np.ndarray]
    """From positions, in order, to those rows; floats of any width as float32."""


@dataclass(frozen=True)
class Arrays:
    """The inputs of a file, and labels where there are any."""

    x: Stored
    y: Stored | None


def open_arrays(named: DataName) -> Arrays:
    """The inputs and labels of a file, checked but not read."""
    suffix = named.path.suffix.lower()
    read = {".npz": _npz, ".npy": _npy, ".safetensors": _safetensors}.get(suffix, _torch_file)
    stored = read(named.path)
    x = _pick(stored, named, "x", INPUT_NAMES)
    if x is None:
        raise UserError(
            f"{named.path} must hold its inputs as {', '.join(INPUT_NAMES[:3])} or the like, got {', '.join(stored) or 'no array'}; "
            "name the array with DATA?x=NAME."
        )
    y = _pick({k: v for k, v in stored.items() if v is not x}, named, "y", LABEL_NAMES)
    if not x.shape or not x.shape[0]:
        raise UserError(
            f"the inputs in {named.path} must have a first axis that counts examples, got the shape {x.shape}; give some examples."
        )
    if y is not None and y.shape != x.shape[:1]:
        raise UserError(
            f"the labels in {named.path} must be one number an example, {x.shape[:1]}, got the shape {y.shape}; give one label each."
        )
    return Arrays(x, y)


def sampled(stored: Stored, chosen: np.ndarray, path: Path) -> np.ndarray:
    """The chosen rows. Raises `UserError` where they are too large to be kept."""
    need = prod(stored.shape[1:]) * stored.item_bytes * len(chosen)
    if need > MOST_BYTES:
        raise UserError(
            f"the sampled examples of {path} must take at most {MOST_BYTES / 1e9:g} GB, got {need / 1e9:.3g} GB; "
            "ask for fewer with n_tokens=…."
        )
    with _readable(path):
        return stored.rows(chosen)


def _pick(stored: Mapping[str, Stored], named: DataName, option: str, usual: tuple[str, ...]) -> Stored | None:
    name = named.options.get(option)
    if name is not None:
        if name not in stored:
            raise UserError(
                f"{named.path} must hold the array {name!r}, got {', '.join(stored) or 'none'}; name one of them with DATA?{option}=NAME."
            )
        return stored[name]
    found = next((stored[name] for name in usual if name in stored), None)
    return next(iter(stored.values())) if found is None and option == "x" and len(stored) == 1 else found


@contextmanager
def _readable(path: Path) -> Any:
    """What numpy, zipfile and safetensors say of a bad file, as one sentence."""
    from zlib import error as zlib_error

    from safetensors import SafetensorError

    try:
        yield
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib_error, SafetensorError, NotImplementedError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} must be a complete file of plain arrays, got one that cannot be read ({first}); save it again.") from error
    except OSError as error:
        raise cannot_read(path, error) from error


# ---------------------------------------------------------------------------------------------------------------------
# numpy


def _npz(path: Path) -> dict[str, Stored]:
    found = {}
    with _readable(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as file:
                    header = _header(file, info.filename, path, info.file_size)
                found[info.filename.removesuffix(".npy")] = _streamed(path, info.filename, header)
    return found


def _npy(path: Path) -> dict[str, Stored]:
    with _readable(path), path.open("rb") as file:
        header = _header(file, path.name, path, path.stat().st_size)
    return {"x": _streamed(path, None, header)}


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int


def _header(file: Any, name: str, path: Path, size: int) -> _Header:
    """The header of an array, checked against the size of what follows: a header may claim anything."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(f"{path} must hold plain numbers, got Python objects in {name}, which can run code when opened; save numbers only.")
    if dtype.kind not in "biuf":
        raise UserError(f"{path} must hold numbers, got {name} of type {dtype}; save numbers only.")
    start = file.tell()
    if any(n < 0 for n in shape) or size - start != prod(shape) * dtype.itemsize:
        raise UserError(
            f"{path} must hold as many bytes as its headers say, got {size - start:,} for {name} of shape {shape}; save it again."
        )
    if fortran and len(shape) > 1 and size > MOST_BYTES:
        raise UserError(f"{path} must store {name} row by row (C order), got column by column; save np.ascontiguousarray of it.")
    return _Header(tuple(shape), fortran and len(shape) > 1, dtype, start)


def _streamed(path: Path, member: str | None, header: _Header) -> Stored:
    def rows(chosen: np.ndarray) -> np.ndarray:
        if member is None:
            with path.open("rb") as file:
                return _take(file, header, chosen)
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return _take(file, header, chosen)

    return Stored(header.shape, header.dtype.itemsize, rows)


def _take(file: Any, header: _Header, chosen: np.ndarray) -> np.ndarray:
    """The chosen rows of a stream, read in strides of about 4 MB."""
    file.seek(header.start)
    if header.fortran:
        whole = np.frombuffer(file.read(), dtype=header.dtype).reshape(header.shape[::-1]).T
        return plain(whole[chosen])
    row = prod(header.shape[1:]) * header.dtype.itemsize
    kept = np.empty((len(chosen), *header.shape[1:]), dtype=header.dtype)
    stride = max(1, _STRIDE_BYTES // max(1, row))
    for first in range(0, int(chosen[-1]) + 1, stride):
        n = min(stride, header.shape[0] - first)
        block = file.read(n * row)
        if len(block) != n * row:
            raise EOFError("the file ends early")
        here = (chosen >= first) & (chosen < first + n)
        kept[here] = np.frombuffer(block, dtype=header.dtype).reshape(n, *header.shape[1:])[chosen[here] - first]
    return plain(kept)


def plain(values: np.ndarray) -> np.ndarray:
    """Floats as float32, everything else as int64."""
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# torch


def _safetensors(path: Path) -> dict[str, Stored]:
    from safetensors import safe_open

    def rows(key: str) -> Callable[[np.ndarray], np.ndarray]:
        def read(chosen: np.ndarray) -> np.ndarray:
            with safe_open(path, "pt") as file:
                part = file.get_slice(key)
                return np.stack([_numbers(part[int(i)]) for i in chosen])

        return read

    with _readable(path), safe_open(path, "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    return {key: Stored(shape, 8, rows(key)) for key, shape in shapes.items()}


def _torch_file(path: Path) -> dict[str, Stored]:
    """A dictionary of tensors, a pair (inputs, labels), or one tensor; mapped, so that only chosen rows are read."""
    import pickle

    import torch

    with _readable(path):
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} must be a file of torch.save's present format, got an older or another one; save it again.")
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise UserError(
                    f"{path} must hold its entries uncompressed, as torch.save writes them, got compressed ones; save it again."
                )
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path} must hold tensors only, got Python objects, which can run code when opened; save a dictionary of tensors."
            ) from error
    if isinstance(content, torch.Tensor):
        content = {"x": content}
    elif isinstance(content, list | tuple) and len(content) in (1, 2):
        content = dict(zip("xy", content))
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} must hold a dictionary of tensors, a pair or one tensor, got a {type(content).__name__}; save a dictionary."
        )
    return {
        str(key): Stored(tuple(tensor.shape), 8, lambda chosen, tensor=tensor: _numbers(tensor[torch.from_numpy(chosen)]))
        for key, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }


def _numbers(tensor: Any) -> np.ndarray:
    import torch

    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64).contiguous().numpy()
