"""Repeated blocks of a model, and what stands in for one that is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.stacking import mapped, repeated

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.scope import Member


def block_of(member: Member) -> str | None:
    """Path of the repeated block that a parameter is in; None outside of the blocks."""
    if member.layer is None or member.module == member.role:
        return None
    tail = member.role if member.name.endswith(member.role) else f"{member.role}.weight"
    return member.name.removesuffix(tail).removesuffix(".") or None


def blocks_around(model: nn.Module, members: Iterable[Member]) -> tuple[str, ...]:
    """Paths of all blocks in the lists that these parameters are in, in the order of the lists."""
    lists = dict.fromkeys(path.rpartition(".")[0] for member in members if (path := block_of(member)) is not None)
    return tuple(f"{one}.{name}".lstrip(".") for one in lists for name, _ in model.get_submodule(one).named_children())


@dataclass(frozen=True)
class Form:
    """A tensor without its values."""

    shape: tuple[int, ...]
    dtype: Any
    device: Any


def form_of(tensor: Tensor) -> Form:
    """Its shape and kind."""
    return Form(tuple(tensor.shape), tensor.dtype, tensor.device)


def plain(output: Any) -> Any:
    """An output without what is neither a tensor nor a container: a cache would be held with everything in it."""
    import torch

    if isinstance(output, torch.Tensor | Mapping):
        return output
    if type(output) in (list, tuple):
        return type(output)(plain(item) for item in output)
    return output if output is None or isinstance(output, bool | int | float | str) else None


def give(form: Any, kept: Any, examples: int, versions: int, *_: Any, **__: Any) -> Any:
    """The forward of a skipped block: what it gave where that was kept, else zeros of the same form; version after version."""
    if kept is not None:
        return mapped(kept, lambda t: repeated(t, examples, versions) if versions > 1 else t.clone())
    return _zeros(form, examples, versions)


def _zeros(form: Any, examples: int, versions: int) -> Any:
    import torch

    if isinstance(form, Form):
        shape = (form.shape[0] * versions, *form.shape[1:]) if form.shape and form.shape[0] == examples else form.shape
        return torch.zeros(shape, dtype=form.dtype, device=form.device)
    if isinstance(form, Mapping):
        made = {key: _zeros(item, examples, versions) for key, item in form.items()}
        return made if type(form) is dict else type(form)(**made)
    if type(form) in (list, tuple):
        return type(form)(_zeros(item, examples, versions) for item in form)
    return form
