"""A torch file as safetensors; runs only in the child process, which appends this folder to its path and imports it by name.

1. ``torch.load(weights_only=True)``, mapped rather than read where the format allows.
2. The state dict is found inside whatever was saved around it; optimisers and counters are left out and counted.
3. Every tensor is checked: dense, on the CPU, no larger than its storage, and all of them together no larger than twice the file.
4. They are written one at a time. A storage that is shared is written once, under its first name.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_TENSORS, MAX_DEPTH, MAX_NAME, MAX_EMPTY_SIDE = 200_000, 8, 512, 2**24
NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
"""Keys under which people save the model beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What wrappers (DataParallel, torch.compile) put before every name."""
_OPTIMISER = ("optimizer", "optim", "opt_state", "scheduler", "scaler", "lr_sched", "ema")
_CHUNK = 2**22
_MAX_GLOBALS = 12
_SAFE = "save the model's state_dict() with torch.save, or better as safetensors"
_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex64": "C64", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}  # fmt: skip


class RefusedHere(Exception):
    """The sentence after the file's name: what it must be, what it is, what to do."""


REFUSALS: tuple[type[Exception], ...] = (RefusedHere,)


def prepare() -> None:
    """Load what is needed, before the doors are closed."""
    import sys

    import torch

    importlib.import_module("pickle_globals")
    torch.set_num_threads(1)
    sys.setrecursionlimit(2_000)


def convert(file: Path, out: Path, *, all_names: bool) -> dict[str, Any]:
    """Write ``out/model.safetensors``; what was found and left out, as JSON. ``all_names``: a shared tensor under each of its names."""
    import torch

    loaded = _load(file)
    about: dict[str, Any] = {"left_out": {}, "values": {}, "nested": [], "prefix": ""}
    named = _without_prefix(_model_in(loaded, about), about)
    tensors, tied = _checked(named, file.stat().st_size, all_names)
    if not tensors:
        left = ", ".join(about["left_out"]) or "nothing else"
        raise RefusedHere(f"must hold a model's tensors, got none (it holds {left}); {_SAFE}")
    about["tied"] = [[first, *more] for first, more in tied.items()]
    about["empty"] = [name for name, tensor in tensors.items() if not tensor.numel()][:100]
    with torch.no_grad():
        about["nonfinite"] = _write(tensors, {name: first for first, more in tied.items() for name in more}, out / "model.safetensors")
    about["n_tensors"] = len(tensors)
    return about


def _load(file: Path) -> Any:
    import pickle

    import torch

    is_zip = zipfile.is_zipfile(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except pickle.UnpicklingError as error:
        found = importlib.import_module("pickle_globals").globals_in(file, is_zip)
        if not found:
            raise RefusedHere(f"must be a file of tensors, got a pickle that cannot be read ({_first(error)}); get it again") from error
        listed = ", ".join(found[:_MAX_GLOBALS]) + (", ..." if len(found) > _MAX_GLOBALS else "")
        raise RefusedHere(f"must hold tensors only, got a pickle that asks for {listed}; {_SAFE}") from error
    except MemoryError as error:
        raise RefusedHere(
            "must fit into the memory its size needs, got one that asks for more; do not use a file from this source"
        ) from error
    except (
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        EOFError,
        OverflowError,
        AssertionError,
        OSError,
        RecursionError,
    ) as error:
        raise RefusedHere(f"must be a complete torch file, got one that torch cannot read ({_first(error)}); get it again") from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:200]


# What is in it ---------------------------------------------------------------------------------------------------------


def _model_in(loaded: Any, about: dict[str, Any]) -> dict[str, Any]:
    """The tensors by name, inside whatever was saved around the model."""
    import torch

    if isinstance(loaded, torch.Tensor):
        return {"tensor": loaded}
    if isinstance(loaded, Mapping) and set(loaded) >= {"state", "param_groups"}:
        raise RefusedHere("must hold a model's weights, got the state of an optimiser; name the checkpoint's weights")
    while isinstance(loaded, Mapping) and (key := _nested_key(loaded)) is not None and len(about["nested"]) < MAX_DEPTH:
        about["nested"].append(key)
        for other, value in loaded.items():
            if other != key:
                _leave_out(str(other), value, about)
        loaded = loaded[key]
    found: dict[str, Any] = {}
    for name, value in _leaves(loaded, "", 0, [0]):
        top = name.split(".", 1)[0]
        if isinstance(value, torch.Tensor) and not top.lower().startswith(_OPTIMISER):
            if name in found:
                raise RefusedHere(f"must name every tensor once, got {_quoted(name)} twice; save the model again")
            found[name] = value
        else:
            _leave_out(name if not isinstance(value, torch.Tensor) else top, value, about)
    return found


def _nested_key(loaded: Mapping[Any, Any]) -> str | None:
    """The key that holds the model; none where tensors lie beside it, as in a model that calls a part of itself ``model``."""
    import torch

    if any(isinstance(value, torch.Tensor) for value in loaded.values()):
        return None
    return next((key for key in NESTED if isinstance(loaded.get(key), Mapping) and loaded[key]), None)


def _leaves(value: Any, name: str, depth: int, seen: list[int]) -> Iterator[tuple[str, Any]]:
    seen[0] += 1
    if seen[0] > 2 * MAX_TENSORS or depth > MAX_DEPTH:
        raise RefusedHere(f"must hold at most {MAX_TENSORS:,} tensors, nested at most {MAX_DEPTH} deep, got more; {_SAFE}")
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        yield name, value
        return
    for key, below in items:
        yield from _leaves(below, f"{name}.{key}" if name else str(key), depth + 1, seen)


def _leave_out(name: str, value: Any, about: dict[str, Any]) -> None:
    """Count the tensors below, or note the value: a number or a short text."""
    import torch

    if isinstance(value, str | int | float) and len(about["values"]) < 100:
        about["values"][name[:MAX_NAME]] = str(value)[:200]
        return
    n = sum(isinstance(one, torch.Tensor) for _, one in _leaves(value, "", 0, [0]))
    if n and (name in about["left_out"] or len(about["left_out"]) < 100):
        about["left_out"][name[:MAX_NAME]] = about["left_out"].get(name[:MAX_NAME], 0) + n


def _without_prefix(named: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    while named and (prefix := next((p for p in PREFIXES if all(n.startswith(p) and n != p for n in named)), None)):
        about["prefix"] += prefix
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


# Checks and writing ----------------------------------------------------------------------------------------------------


def _checked(named: Mapping[str, Any], n_bytes: int, all_names: bool) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The tensors to write, and the further names of those that are shared."""
    kept: dict[str, Any] = {}
    tied: dict[str, list[str]] = {}
    first: dict[tuple[Any, ...], str] = {}
    total = 0
    for name, tensor in named.items():
        _check_name(name)
        _check_tensor(name, tensor)
        where = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        shared = first.setdefault(where, name) if tensor.numel() else name
        if shared != name:
            tied.setdefault(shared, []).append(name)
        if shared == name or all_names:
            kept[name] = tensor
            total += tensor.numel() * tensor.element_size()
    if total > 2 * n_bytes + 2**20:
        raise RefusedHere(f"must hold its tensors once, got {total:,} bytes of them in a file of {n_bytes:,}; {_SAFE}")
    return kept, {} if all_names else tied


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise RefusedHere(f"must name its tensors in 1 to {MAX_NAME} printable characters, got {_quoted(name)}; save the model again")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise RefusedHere(f"must name its tensors by modules, got the path {_quoted(name)}; do not use a file from this source")


def _check_tensor(name: str, tensor: Any) -> None:
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise RefusedHere(
            f"must hold dense tensors, got {_quoted(name)} of another kind ({type(tensor).__name__}, {tensor.layout}); {_SAFE}"
        )
    if tensor.device.type != "cpu":
        raise RefusedHere(f"must hold the values of its tensors, got {_quoted(name)} without any; {_SAFE}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _TYPES:
        raise RefusedHere(f"must hold tensors of types that safetensors knows, got {_quoted(name)} of type {dtype}; {_SAFE}")
    needs, has = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if needs > has:
        raise RefusedHere(
            f"must hold every element of its tensors, got {_quoted(name)} of shape {list(tensor.shape)} ({tensor.numel():,} "
            f"elements) over {has:,} "
            "bytes; do not use a file from this source"
        )
    if not tensor.numel() and max(tensor.shape) > MAX_EMPTY_SIDE:
        raise RefusedHere(
            f"must give tensors without elements sides of at most {MAX_EMPTY_SIDE:,}, got {max(tensor.shape):,} for {_quoted(name)}; "
            "do not use a file from this source"
        )


def _quoted(name: str) -> str:
    return (repr(name) if name.isprintable() else ascii(name))[:80]


def _write(tensors: Mapping[str, Any], ties: Mapping[str, str], to: Path) -> dict[str, int]:
    """A safetensors file, written one tensor at a time; how many elements of which tensors are not finite."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **ties}}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        kind = _TYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    nonfinite: dict[str, int] = {}
    with to.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name, tensor in tensors.items():
            bad = sum(_write_part(part, file) for part in _parts(tensor.detach()))
            if bad and len(nonfinite) < 1_000:
                nonfinite[name] = bad
    return nonfinite


def _parts(tensor: Any) -> Iterator[Any]:
    flat = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    for start in range(0, flat.numel(), _CHUNK):
        yield flat[start : start + _CHUNK]


def _write_part(part: Any, file: Any) -> int:
    import torch

    file.write(part.view(torch.uint8).numpy().data)
    if not (part.is_floating_point() or part.is_complex()):
        return 0
    wide = part.float() if part.element_size() < 4 else part
    return int(wide.numel() - torch.isfinite(wide).sum())
