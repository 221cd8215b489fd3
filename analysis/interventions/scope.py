"""Which weights may go: the matrices inside a model's repeated blocks, and every other parameter with the reason it is left alone.

1. In by default: weights of linear layers (GPT-2's `Conv1D` too), convolutions and stacks of experts, inside a list of blocks.
   Where a model has no blocks: all such matrices but the last, which is taken for the head.
2. Out, switchable by `include`: embeddings and positional tables, the head, routers, matrices outside of the blocks, other matrices.
   Out always: vectors (norms, biases), empty tensors, and types that are no plain floating point numbers.
3. Tied tensors come once. One that is tied to, or shares memory with, something left out is left out, and that is said.

The default is what essential sparsity, Wanda, SparseGPT and OWL prune, so that numbers compare.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from analysis.models.tensors import Kind, TensorInfo, as_matrix, tensors_of_module
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

Group = Literal["embeddings", "head", "routers", "outside", "other"]
"""What is left out unless `weight_scope` is told to include it."""
GROUPS: tuple[Group, ...] = ("embeddings", "head", "routers", "outside", "other")

_GATE = re.compile(r"(^|_)gate$")
_POSITION = re.compile(r"pos|wpe", re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """One parameter of the scope."""

    name: str
    parameter: nn.Parameter = field(repr=False, compare=False)
    module: str
    """Path of the module that owns it."""
    layer: int | None
    """Index of its block, from 0; None outside of the blocks."""
    role: str
    """Path inside its block without ``.weight``, e.g. ``mlp.down_proj``: the same for alike matrices of different layers."""
    kind: Kind
    info: TensorInfo = field(repr=False, compare=False)

    @property
    def n(self) -> int:
        """Weights in it."""
        return self.info.numel

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """(n_matrices, d_out, d_in); n_matrices is above 1 for stacks of experts only."""
        shape = self.info.matrix_shape
        assert shape is not None, f"{self.name} is no matrix"  # the scope holds none
        return shape

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one of its matrices, output first, with the kernel's axes: what ERK looks at."""
        shape = self.info.shape[1:] if self.info.stacked else self.info.shape
        shape = (shape[1], shape[0], *shape[2:]) if self._is_swapped else tuple(shape)
        return shape if shape[0] == self.matrix_shape[1] else self.matrix_shape[1:]  # leading axes of length 1 are dropped

    @property
    def _is_swapped(self) -> bool:
        return self.info.input_axis is not None and self.info.input_axis == int(self.info.stacked)

    def matrix(self, values: Tensor) -> Tensor:
        """Values of the parameter's shape as [n, d_out, d_in]: a view, but of transposed convolutions a copy."""
        return as_matrix(values, self.info)

    def back(self, matrices: Tensor) -> Tensor:
        """[n, d_out, d_in] in the parameter's shape."""
        if not self._is_swapped:
            return matrices.reshape(self.info.shape)
        n, d_out, _ = matrices.shape
        return matrices.reshape(n, d_out, -1, *self.stored_shape[2:]).transpose(1, 2).reshape(self.info.shape)


@dataclass(frozen=True)
class Skipped:
    """A parameter that is left alone."""

    name: str
    n: int
    reason: str
    group: Group | None = None
    """What to include to get it into the scope; None where it cannot be."""


@dataclass(frozen=True)
class Scope:
    """What may go, and what may not and why; together every parameter, tied ones once."""

    members: tuple[Member, ...]
    skipped: tuple[Skipped, ...]
    rule: str
    """In words, for the sentence beside a curve."""

    @property
    def n(self) -> int:
        """Weights in the scope."""
        return sum(member.n for member in self.members)

    @property
    def denominator(self) -> str:
        """What a share of this scope is a share of."""
        return f"{self.n:,} weights of {len(self.members)} tensors ({self.rule})"

    def only(self, names: Collection[str]) -> Scope:
        """The members of these names; the others are skipped as not chosen. Raises `UserError` for a name outside the scope."""
        unknown = set(names) - {member.name for member in self.members}
        if unknown:
            raise UserError(f"a tensor must be in the scope, got {sorted(unknown)[0]!r}; look at what is skipped and why.")
        left = tuple(Skipped(m.name, m.n, "not chosen") for m in self.members if m.name not in names)
        rule = self.rule if not left else f"{len(names)} chosen of {self.rule}"
        return Scope(tuple(m for m in self.members if m.name in names), self.skipped + left, rule)


def weight_scope(model: nn.Module, *, include: Collection[str] = (), only: str = "") -> Scope:
    """The scope of a model, on any device (meta too): default as the module says, `include` of `GROUPS`, `only` a pattern of names.

    Raises `UserError` where nothing is left, with the reasons.
    """
    for group in include:
        if group not in GROUPS:
            raise UserError(f"include must name one of {', '.join(GROUPS)}, got {group!r}; vectors can never be included.")
    infos = list(tensors_of_module(model))
    look = _Look(model, infos)
    overlapping = _overlapping(model, infos)
    members: list[Member] = []
    skipped: list[Skipped] = []
    for info in infos:
        found = look.skip(info, include) or overlapping.get(info.name) or (_unmatched(info, only) if only else None)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            members.append(look.member(info))
    if not members:
        reasons = sorted({entry.reason for entry in skipped}) or ["it has no parameters"]
        raise UserError(f"a scope must hold at least one matrix, got none ({'; '.join(reasons)}); include a group or widen the pattern.")
    return Scope(tuple(members), tuple(skipped), look.rule(include, only))


class _Look:
    """What the modules of a model tell about its parameters."""

    def __init__(self, model: nn.Module, infos: list[TensorInfo]) -> None:
        self.model = model
        self.places = {name: _place(model, name) for info in infos for name in (info.name, *info.tied)}
        matrices = [info for info in infos if self._is_matrix(info.name)]
        self.has_blocks = any(self.places[info.name] for info in matrices)
        self.last = None if self.has_blocks or len(matrices) < 2 else matrices[-1].name

    def rule(self, include: Collection[str], only: str) -> str:
        words = "matrices of the repeated blocks" if self.has_blocks else "all matrices but the last, since there are no repeated blocks"
        words += "".join(f", and {group}" for group in GROUPS if group in include)
        return f"{words}, of names with {only!r}" if only else words

    def member(self, info: TensorInfo) -> Member:
        module, _, leaf = info.name.rpartition(".")
        layer, role = self.places[info.name] or (info.layer, module or leaf)
        return Member(info.name, self.model.get_parameter(info.name), module, layer, role, info.kind, info)

    def skip(self, info: TensorInfo, include: Collection[str]) -> Skipped | None:
        """Why a tensor is left alone under its first name, or under one that it is tied to; None where it is in."""
        never = self._never(info)
        if never:
            return Skipped(info.name, info.numel, never)
        out = [(name, found) for name in (info.name, *info.tied) if (found := self._left_out(name)) and found[1] not in include]
        if not out:
            return None
        name, (reason, group) = out[0]
        if name != info.name or len(out) < 1 + len(info.tied):
            reason = f"tied to {name if name != info.name else info.tied[0]}, and {name} is left out: {reason}"
        return Skipped(info.name, info.numel, reason, group)

    def _never(self, info: TensorInfo) -> str | None:
        parameter = self.model.get_parameter(info.name)
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            return f"stored as {info.dtype}, which is no plain floating point type"
        if not info.numel:
            return "empty"
        if info.matrix_shape is None:
            return {"norm": "a norm", "bias": "a bias"}.get(info.kind, "a vector")
        return None

    def _left_out(self, name: str) -> tuple[str, Group] | None:
        """The reason and its group, for one of a tensor's names."""
        from torch import nn

        path = name.rpartition(".")[0]
        owner = self.model.get_submodule(path)
        if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            return ("a positional table" if _POSITION.search(name) else "an embedding"), "embeddings"
        if owner is getattr(self.model, "get_output_embeddings", lambda: None)() or name == self.last:
            return "the output head", "head"
        if _is_router(self.model, path):
            return "a router", "routers"
        if not self._is_matrix(name):
            group: Group = "embeddings" if _POSITION.search(name) and not self.places[name] else "other"
            return ("a positional table" if group == "embeddings" else f"not a known kind of layer ({type(owner).__name__})"), group
        if self.has_blocks and self.places[name] is None:
            return "outside of the repeated blocks", "outside"
        return None

    def _is_matrix(self, name: str) -> bool:
        """Whether a parameter is the weight of a linear layer or convolution, or a stack of experts."""
        from torch import nn

        path, _, leaf = name.rpartition(".")
        owner, n_dims = self.model.get_submodule(path), self.model.get_parameter(name).dim()
        if n_dims < 2 or isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            return False
        if isinstance(owner, nn.MultiheadAttention):
            return n_dims == 2 and leaf.endswith("proj_weight")
        if n_dims == 3 and not isinstance(owner, nn.modules.conv._ConvNd):
            return hasattr(owner, "is_transposed") or "expert" in f"{type(owner).__name__}.{leaf}".lower()
        is_linear = hasattr(owner, "in_features") and hasattr(owner, "out_features")
        return leaf == "weight" and (is_linear or type(owner).__name__ == "Conv1D" or isinstance(owner, nn.modules.conv._ConvNd))


def _place(model: nn.Module, name: str) -> tuple[int, str] | None:
    """Block index and path inside the block; None where the parameter lies in no list of blocks.

    A list of blocks is a ModuleList, or a Sequential in which a kind of module that has parts of its own comes twice.
    """
    from torch import nn

    parts = name.split(".")
    for place, part in enumerate(parts[:-1]):
        container = model.get_submodule(".".join(parts[:place]))
        is_list = isinstance(container, nn.ModuleList) or (isinstance(container, nn.Sequential) and _repeats(container))
        if part.isdigit() and is_list:
            inside = parts[place + 1 :]
            return int(part), ".".join(inside[:-1] if len(inside) > 1 and inside[-1] == "weight" else inside)
    return None


def _repeats(container: nn.Module) -> bool:
    kinds = [type(child) for child in container.children() if next(child.children(), None) is not None]
    return len(kinds) > len(set(kinds))


def _is_router(model: nn.Module, path: str) -> bool:
    """Told by its name or type; one named only ``gate`` by the experts beside it."""
    owner, (parent, _, leaf) = model.get_submodule(path), path.rpartition(".")
    if "router" in path.lower().split(".")[-1] or "router" in parent.lower().split(".")[-1] or "router" in type(owner).__name__.lower():
        return True
    return _GATE.search(leaf) is not None and any("expert" in name.lower() for name, _ in model.get_submodule(parent).named_children())


def _unmatched(info: TensorInfo, only: str) -> Skipped | None:
    return None if re.search(only, info.name) else Skipped(info.name, info.numel, f"not chosen: its name has no {only!r}")


def _overlapping(model: nn.Module, infos: list[TensorInfo]) -> dict[str, Skipped]:
    """Parameters whose memory another parameter or a buffer uses in another form: setting one would set the other."""
    known = {name: info for info in infos for name in (info.name, *info.tied)}
    pieces: dict[int, list[tuple[int, int, str]]] = {}
    for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in named:
            if not tensor.is_meta and tensor.numel():
                first = int(tensor.storage_offset()) * tensor.element_size()
                pieces.setdefault(tensor.untyped_storage().data_ptr(), []).append((first, first + _span(tensor), name))
    found: dict[str, Skipped] = {}
    for together in pieces.values():
        for first, end, name in together:
            info = known.get(name)
            for first_other, end_other, other in together:
                is_tied = info is not None and other in (info.name, *info.tied)
                if info is not None and not is_tied and first < end_other and first_other < end:
                    found[info.name] = Skipped(info.name, info.numel, f"shares its memory with {other}, in another form")
    return found


def _span(tensor: Tensor) -> int:
    """Bytes from a tensor's first element to behind its last."""
    return (sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride())) + 1) * tensor.element_size()
