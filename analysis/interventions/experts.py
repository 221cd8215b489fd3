"""Experts of a model: which parameters are theirs, and how many of them a token is sent to.

A list of modules, or a stack of matrices, that calls itself experts. How many a token is sent to is read off the router, the experts
themselves, what holds both, or the configuration; where none of them says, it is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_NAMES = ("num_experts_per_tok", "num_experts_per_token", "top_k", "moe_top_k", "num_selected_experts", "moe_k")
_IN_CONFIG = tuple(name for name in _NAMES if name != "top_k")  # of a configuration that is how many tokens are sampled from
_TOP = re.compile(r"Top(\d+)Router")


@dataclass(frozen=True)
class Experts:
    """The experts that one router chooses from."""

    path: str
    n: int
    per_token: int | None
    """None where nothing says it."""
    parameters: tuple[str, ...]
    """By name, those with an axis of experts and those inside of one expert."""

    def touched(self, batch: int) -> float:
        """Mean share of the experts that a step of ``batch`` tokens reads, 0 to 1: 1 - (1 - k / n)^B, of tokens that choose
        independently and evenly; 1 where k is not known. Source: ours.
        """
        return 1.0 if self.per_token is None else 1.0 - (1.0 - min(self.per_token, self.n) / self.n) ** batch


def experts_of(model: nn.Module) -> list[Experts]:
    """All groups of experts, in order of the modules."""
    return list(_found(model))


def _found(model: nn.Module) -> Iterator[Experts]:
    from torch import nn

    for path, module in model.named_modules():
        if "expert" not in f"{path.rpartition('.')[2]} {type(module).__name__}".lower():
            continue
        own = dict(module.named_parameters(recurse=False))
        stacks = {parameter.shape[0] for parameter in own.values() if parameter.dim() == 3}  # noqa: PLR2004 - [expert, out, in]
        if isinstance(module, nn.ModuleList | nn.ModuleDict) and len(module) > 1:
            n, names = len(module), [name for name, _ in module.named_parameters()]
        elif len(stacks) == 1 and next(iter(stacks)) > 1:
            n = next(iter(stacks))
            names = [name for name, parameter in own.items() if parameter.dim() and parameter.shape[0] == n]
        else:
            continue
        yield Experts(path, n, _per_token(model, path, module), tuple(f"{path}.{name}".lstrip(".") for name in names))


def _per_token(model: nn.Module, path: str, experts: nn.Module) -> int | None:
    """From what stands nearest to the experts."""
    holder = model.get_submodule(path.rpartition(".")[0])
    near = [experts, *(child for child in holder.children() if child is not experts), holder]
    for module in near:
        if (named := _TOP.search(type(module).__name__)) is not None:
            return int(named[1])
        if (known := _whole(module, _NAMES)) is not None:
            return known
    return next((known for one in (*near, model) if (known := _whole(getattr(one, "config", None), _IN_CONFIG)) is not None), None)


def _whole(owner: Any, names: tuple[str, ...]) -> int | None:
    values = (getattr(owner, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0), None)
