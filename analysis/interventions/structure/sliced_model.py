"""The really smaller model of SliceGPT: blocks between embedding and final norm run on k of d numbers a token (METHODS A15).

1. In block l the stream is z = x Q_l [k]. A norm's gain goes into the matrices that read it, W diag(g) Q_l; what is left of the norm
   divides by sqrt(|z|^2 / d + eps), since |z| = |z Q_l^T|. A matrix that writes the stream becomes Q^T W: that of attention with Q_l,
   the last one of the FFN with Q_(l+1); the stream itself is turned there by Q_l^T Q_(l+1).
2. In front of the first block and behind the last one the full width is made and undone: embedding, final norm and head stay as they are,
   which the cost counts as dense. The published code slices them, too.

Blocks of two norms, linear layers and nothing else of the stream's width; what is computed is what the projections compute, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.structure.base import stream_of
from analysis.interventions.structure.finding import attentions
from analysis.interventions.structure.smaller import linear_of, set_values
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.structure.slicing import Stream


@dataclass(frozen=True)
class _Block:
    """Paths and parameters of one block."""

    path: str
    norms: tuple[str, str]
    """In front of attention, in front of the FFN."""
    readers: tuple[tuple[str, ...], tuple[str, ...]]
    """Matrices behind each norm."""
    writers: tuple[str, str]
    """What attention adds, what the FFN adds."""


def sliced(model: nn.Module, example: Any, stream: Stream, bases: Sequence[tuple[Tensor, Tensor]], kept: int) -> nn.Module:
    """A new model that keeps so many dimensions; the given one stays as it is. Raises `IncompatibleSubject` for blocks of other parts."""
    blocks = _blocks(model, example, stream)
    made = copy.deepcopy(model)
    q = [_centred(vectors[:, :kept], stream.centred) for _, vectors in bases]
    for i, block in enumerate(blocks):
        for norm, readers in zip(block.norms, block.readers, strict=True):
            _fold(made, norm, readers, q[i])
        for name, basis in zip(block.writers, (q[i], q[i + 1]), strict=True):
            _write(linear_of(made, name), basis)
        _turn(made, block, q[i], q[i + 1], i == 0, i == len(blocks) - 1)
    return made


def _centred(basis: Tensor, is_centred: bool) -> Tensor:
    """Directions [d, k] without their mean, which norms that subtract it do not see."""
    return basis - basis.mean(0, keepdim=True) if is_centred else basis


def _blocks(model: nn.Module, example: Any, stream: Stream) -> list[_Block]:
    from analysis.capture import find_sites

    ffns = [site for site in find_sites(model, example) if site.kind == "ffn" and site.role == "input"]
    attention = attentions(model, example)
    norms = _norms(model, example, stream)
    found = []
    for path in stream.blocks:
        inside = f"{path}."
        looks = [one for one in attention if one.place.site.module.startswith(inside)]
        thinks = [site for site in ffns if site.weight is not None and site.weight.startswith(inside)]
        if len(looks) != 1 or len(thinks) != 1 or len(norms[path]) != 2:  # noqa: PLR2004 - one in front of each sublayer
            raise IncompatibleSubject(f"blocks to be sliced must be one attention and one FFN, each behind its norm, got others in {path}.")
        readers = (tuple(m.name for m in looks[0].others), tuple(dict.fromkeys(thinks[0].producers)))
        block = _Block(path, (norms[path][0], norms[path][1]), readers, (looks[0].reads, thinks[0].weight or ""))
        _check(model, block, stream.width)
        found.append(block)
    return found


def _norms(model: nn.Module, example: Any, stream: Stream) -> Mapping[str, list[str]]:
    """By block: norms over the stream's width, in the order they run."""
    from analysis.capture.running import hooked, observable, run

    seen: dict[str, list[str]] = {block: [] for block in stream.blocks}
    given: list[Any] = []
    handles = []

    def look(block: str, path: str) -> Any:
        def hook(_: Any, args: tuple[Any, ...], __: Any) -> None:
            if seen[block] and args[0] is given[-1]:
                raise IncompatibleSubject(f"the FFN of a block to be sliced must come behind its attention, got one beside it in {block}.")
            seen[block].append(path)
            given[:] = [args[0]]

        return hook

    for block in stream.blocks:
        for name, module in model.get_submodule(block).named_modules():
            weight = getattr(module, "weight", None)
            if "norm" in type(module).__name__.lower() and weight is not None and tuple(weight.shape) == (stream.width,):
                handles.append(module.register_forward_hook(look(block, f"{block}.{name}")))
    with hooked(handles), observable(model):
        run(model, example)
    return seen


def _check(model: nn.Module, block: _Block, width: int) -> None:
    """Everything of the stream's width in the block is known."""
    known = {name for names in block.readers for name in names} | set(block.writers)
    for name in known:
        layer = linear_of(model, name)
        if (layer.out_features if name in block.writers else layer.in_features) != width:
            raise IncompatibleSubject(f"matrices to be sliced must read or write the stream, got {name}; choose another model.")
    owners = {*(name.rpartition(".")[0] for name in known), *block.norms}
    for name, parameter in model.get_submodule(block.path).named_parameters():
        if f"{block.path}.{name}".rpartition(".")[0] not in owners and width in parameter.shape:
            raise IncompatibleSubject(
                f"blocks to be sliced must hold only norms and linear layers, got {block.path}.{name}; choose another."
            )


def _fold(model: nn.Module, norm: str, readers: Sequence[str], q: Tensor) -> None:
    """The norm's gain and shift into what reads it, and a norm without them in its place."""
    module: Any = model.get_submodule(norm)
    gain, shift = module.weight.detach().double(), getattr(module, "bias", None)
    for name in readers:
        layer = linear_of(model, name)
        weight = layer.weight.detach()
        wide = weight.double()
        if shift is not None:
            bias = wide @ shift.detach().double() + (0 if layer.bias is None else layer.bias.detach().double())
            set_values(layer, "bias", bias.to(weight.dtype))
        set_values(layer, "weight", ((wide * gain) @ q).to(weight.dtype))
        layer.in_features = q.shape[1]
    eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None) or 0.0
    where, _, leaf = norm.rpartition(".")
    setattr(model.get_submodule(where), leaf, _bare_norm(q.shape[0], float(eps)))


def _bare_norm(width: int, eps: float) -> nn.Module:
    """x / sqrt(|x|^2 / width + eps), whatever the width of x."""
    import torch
    from torch import nn

    class BareNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) / width + eps)).to(x.dtype)

    return BareNorm()


def _write(layer: nn.Linear, q: Tensor) -> None:
    weight = layer.weight.detach()
    set_values(layer, "weight", (q.T @ weight.double()).to(weight.dtype))
    if layer.bias is not None:
        set_values(layer, "bias", (q.T @ layer.bias.detach().double()).to(weight.dtype))
    layer.out_features = q.shape[1]


def _turn(model: nn.Module, block: _Block, q: Tensor, following: Tensor, is_first: bool, is_last: bool) -> None:
    """The stream from full width into the first block's directions, from each block's into the next one's, and back behind the last."""
    import torch

    dtype = next(model.parameters()).dtype
    enter, leave = q.to(dtype), following.T.contiguous().to(dtype)
    turn = (q.T @ following - torch.eye(q.shape[1], dtype=q.dtype)).to(dtype)  # beside the stream that the block adds to
    middle: list[Tensor] = []

    def entering(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = stream_of(args, kwargs) @ enter
        return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, next(iter(kwargs)): given})

    def halfway(_: Any, args: tuple[Any, ...]) -> None:
        middle[:] = [args[0]]

    def leaving(_: Any, __: Any, output: Any) -> Any:
        made = output[0] if isinstance(output, tuple) else output
        made = made + (middle.pop() @ turn).reshape(*made.shape[:-1], -1)  # blocks may lay out rows of all examples as one
        made = made @ leave if is_last else made
        return (made, *output[1:]) if isinstance(output, tuple) else made

    module = model.get_submodule(block.path)
    if is_first:
        module.register_forward_pre_hook(entering, with_kwargs=True)
    model.get_submodule(block.norms[1]).register_forward_pre_hook(halfway)
    module.register_forward_hook(leaving)
