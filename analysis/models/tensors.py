"""A model's weights one tensor at a time: name, shape, kind, what it is tied to, and its values on demand.

1. Where there are safetensors files, values are read from them, one tensor per call; the model is never loaded. Its skeleton
   (on the meta device) says which entries are parameters, which are tied, and what kind of module owns them.
2. Where there is only a module, its parameters are handed out as they are.

Buffers (running means, position indices, masks) are not weights and are left out; in bare files they are told by their names, and tell
that what lies beside them belongs to a batch norm. A tied tensor comes once, under the first of
its names, with the others in `TensorInfo.tied`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.models.axes import Axes, as_matrix, axes_by_name, axes_of, matrix_shape
from analysis.models.files import safetensors_header

if TYPE_CHECKING:
    import torch

__all__ = ["Kind", "TensorInfo", "as_matrix", "tensors_of_files", "tensors_of_module"]

Kind = Literal["embedding", "unembedding", "attention", "ffn", "conv", "linear", "norm", "bias", "other"]

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_FFN = re.compile(
    r"mlp|ffn|feed_?forward|densereludense|intermediate|experts?\b|\bfc[12]\b|\blinear[12]\b|\bmoe\b|\d\.output\.dense", re.IGNORECASE
)
_NORM = re.compile(r"norm|\bln_?\w*\b", re.IGNORECASE)
_RUNNING, _BATCH_NORM = ("running_mean", "running_var"), "BatchNorm"
"""What a batch norm keeps of what it has seen, and no other module does; and what its owner is called where only its names are known."""
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
"""Floating types of a safetensors header; integers and booleans are no weights here."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a model; `read` gives its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As torch names it, without ``torch.``: the dtype in the file, or of the parameter."""
    kind: Kind
    """A hint from the module that owns it and its name."""
    layer: int | None
    """Index in the list of blocks it belongs to; None outside of them."""
    tied: tuple[str, ...] = ()
    """Further names of the same tensor."""
    reader: Callable[[], torch.Tensor] = field(default=lambda: NotImplemented, repr=False, compare=False)
    slicer: Callable[[int, int], torch.Tensor] | None = field(default=None, repr=False, compare=False)
    """Reads entries start to end of the first axis, and nothing else."""
    input_axis: int | None = None
    """Axis the input runs along: 1 for `nn.Linear` [out, in], 0 for GPT-2's `Conv1D` [in, out]; None where it is not known (`axes`)."""
    stacked: bool = False
    """Whether the first axis counts matrices of their own (experts)."""
    owner: str = ""
    """Class of the module it belongs to, e.g. ``BatchNorm2d``; ``BatchNorm`` where a file alone tells; empty where nothing does."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    def read(self) -> torch.Tensor:
        """The values, detached; from a file they are a copy, from a module the parameter's own memory (do not write to it)."""
        return self.reader()

    def read_slices(self, rows: int) -> Iterator[torch.Tensor]:
        """The values in order, ``rows`` entries of the first axis at a time: what a tensor larger than memory is read by."""
        if not self.shape:
            yield self.read()
            return
        if self.slicer is None:
            yield from self.read().split(rows)
            return
        for start in range(0, self.shape[0], rows):
            yield self.slicer(start, min(start + rows, self.shape[0]))

    @property
    def matrix_shape(self) -> tuple[int, int, int] | None:
        """(n_matrices, d_out, d_in) as `as_matrix` gives them; None for vectors."""
        return matrix_shape(self.shape, Axes(self.input_axis, self.stacked))

    def matrices(self) -> torch.Tensor:
        """The values as [n_matrices, d_out, d_in] (see `as_matrix`)."""
        return as_matrix(self.read(), self)


def tensors_of_module(model: torch.nn.Module) -> Iterator[TensorInfo]:
    """Every parameter of a module, tied ones once."""
    for names, parameter in _parameters(model):
        kind, layer = _kind(model, names, parameter.dim()), _layer(names[0], model)
        dtype = str(parameter.dtype).removeprefix("torch.")
        axes = axes_of(model, names, parameter.shape)
        yield TensorInfo(
            names[0], tuple(parameter.shape), dtype, kind, layer, tuple(names[1:]), parameter.detach, None, *axes, _owner(model, names[0])
        )


def tensors_of_files(files: Iterable[Path], skeleton: torch.nn.Module | None) -> Iterator[TensorInfo]:
    """Every weight in safetensors files, in the model's order where a skeleton is given; entries it does not know come last."""
    files = tuple(files)
    stored = _stored(files)
    shared = {} if skeleton is not None else {e.name: e.tied for path in files for e in safetensors_header.read(path).entries if e.tied}
    if skeleton is not None:
        known = {name for name, _ in skeleton.named_parameters(remove_duplicate=False)}
        keys = {model_name: key for key in stored if (model_name := _in_model(key, known, skeleton)) is not None}
        for names, parameter in _parameters(skeleton):
            present = [keys[name] for name in names if name in keys]
            if present:
                kind, layer = _kind(skeleton, names, parameter.dim()), _layer(names[0], skeleton)
                shape, dtype, reader, slicer = stored[present[0]]
                axes = axes_of(skeleton, names, shape)
                yield TensorInfo(names[0], shape, dtype, kind, layer, tuple(names[1:]), reader, slicer, *axes, _owner(skeleton, names[0]))
        buffers = {name for name, _ in skeleton.named_buffers()}
        ignored = getattr(skeleton, "_keys_to_ignore_on_load_unexpected", None) or ()
        stored = {
            key: entry
            for key, entry in stored.items()
            if key not in keys.values()
            and _in_model(key, buffers, skeleton) is None
            and not any(re.search(pattern, key) for pattern in ignored)
        }
    running = {leaf: {key.rpartition(".")[0] for key in stored if key.rpartition(".")[2] == leaf} for leaf in _RUNNING}
    batch_norms = set.intersection(*running.values())
    for key, (shape, dtype, reader, slicer) in sorted(stored.items(), key=lambda item: _natural(item[0])):
        path, _, leaf = key.rpartition(".")
        if leaf in _RUNNING:
            continue
        owner, axes = _BATCH_NORM if path in batch_norms else "", axes_by_name(key, shape)
        kind = "norm" if owner else _kind_by_name(key, len(shape))
        yield TensorInfo(key, shape, dtype, kind, _layer(key), shared.get(key, ()), reader, slicer, *axes, owner)


_Stored = tuple[tuple[int, ...], str, Callable[[], "torch.Tensor"], Callable[[int, int], "torch.Tensor"]]
"""Shape, type, and the two ways to read an entry of a file."""


def _stored(files: Iterable[Path]) -> dict[str, _Stored]:
    from safetensors import safe_open

    stored = {}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                entry = file.get_slice(key)
                dtype = _DTYPES.get(str(entry.get_dtype()))
                if dtype is not None:
                    stored[key] = (tuple(entry.get_shape()), dtype, partial(_read, path, key), partial(_read_slice, path, key))
    return stored


def _read(path: Path, key: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.get_tensor(key)


def _read_slice(path: Path, key: str, start: int, end: int) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.get_slice(key)[start:end]


def _parameters(model: torch.nn.Module) -> list[tuple[list[str], torch.nn.Parameter]]:
    """Parameters with all their names: one entry per tensor, also where two `Parameter`s share the same memory."""
    groups: dict[tuple, tuple[list[str], torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        here = id(parameter) if parameter.is_meta or not parameter.numel() else parameter.data_ptr()
        key = (here, tuple(parameter.shape), parameter.stride(), parameter.dtype)
        groups.setdefault(key, ([], parameter))[0].append(name)
    return list(groups.values())


def _in_model(key: str, known: set[str], model: torch.nn.Module) -> str | None:
    """The parameter a stored key stands for: checkpoints may carry or lack the base model's prefix, or use old norm names."""
    prefix = getattr(model, "base_model_prefix", "")
    modern = re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", key))
    candidates = (key, modern, f"{prefix}.{modern}", modern.removeprefix(f"{prefix}.") if prefix else modern)
    return next((name for name in candidates if name in known), None)


def _owner(model: torch.nn.Module, name: str) -> str:
    return type(model.get_submodule(name.rpartition(".")[0])).__name__


def _kind(model: torch.nn.Module, names: list[str], n_dims: int) -> Kind:
    from torch import nn

    path, _, leaf = names[0].rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if "Norm" in type(owner).__name__:
        return "norm"
    if n_dims < 2:
        return _kind_by_name(names[0], n_dims)
    if isinstance(owner, nn.modules.conv._ConvNd):
        return "conv"
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if owner is output and leaf == "weight":
        return "unembedding"
    by_name = _kind_by_name(names[0], n_dims)
    return "linear" if by_name == "other" and leaf == "weight" else by_name


def _kind_by_name(name: str, n_dims: int) -> Kind:
    path, _, leaf = name.rpartition(".")
    if n_dims < 2:
        return "norm" if _NORM.search(path.rpartition(".")[2]) else "bias" if "bias" in leaf else "other"
    if "embed" in name or "wte" in name or "wpe" in name:
        return "embedding"
    return "attention" if _ATTENTION.search(path) or _ATTENTION.search(leaf) else "ffn" if _FFN.search(name) else "other"


def _layer(name: str, model: torch.nn.Module | None = None) -> int | None:
    """Index of the block a parameter belongs to: the first number in its path that indexes a list of modules."""
    from torch import nn

    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit() and (model is None or isinstance(model.get_submodule(".".join(parts[:place])), nn.ModuleList)):
            return int(part)
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
