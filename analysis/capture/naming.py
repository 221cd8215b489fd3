"""The identity and the layer of a site, and canonical names for its hook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.capture.site import Site

if TYPE_CHECKING:
    from torch import nn

_HOOKS = {"input": "hook_in", "output": "hook_out", "hidden": "hook_hidden", "cell": "hook_cell"}
_LEADING = ("ffn", "conv", "recurrent", "attention")


def identity(module: str, operator: str, role: str, weight: str | None) -> str:
    """``module:operator:role``, and ``:weight`` (local to the module) unless it is the module's own ``weight``."""
    local = _local(module, weight)
    return f"{module}:{operator}:{role}" + ("" if local in (None, "weight") else f":{local}")


def _local(module: str, weight: str | None) -> str | None:
    return weight if weight is None or not module else weight.removeprefix(f"{module}.")


def hook_name(site: Site, names: Mapping[str, str]) -> str:
    """The canonical name where one is known for the module, else ``module.hook_in`` or ``module.hook_out``."""
    if site.role == "input" and site.module in names:
        name = names[site.module]
    else:
        local = _local(site.module, site.weight)
        inside = (site.module, "" if local in (None, "weight") else local.removesuffix(".weight"))
        name = ".".join((*filter(None, inside), _HOOKS[site.role]))
        if site.role == "output" and site.operator in ("add", "sdpa", "softmax"):
            name += f"_{site.operator}"
    return name if site.expert is None else f"{name}[{site.expert}]"


def finished(model: nn.Module, drafts: Iterable[Any], names: Mapping[str, str]) -> list[Site]:
    """The sites of the drafts: one for each expert of a stack, hit or not; layers ranked."""
    sites: list[Site] = []
    for draft in drafts:
        if draft.stack:
            one, stack = draft.site, draft.site.weight
            sites += [replace(one, name=f"{one.name}[{e}]", expert=e, group=stack, member=e) for e in range(draft.stack)]
        else:
            sites.append(draft.site)
    layers = _layers(model, sites)
    return [replace(s, layer=layers[block_of(model, s.module)], hook_name=hook_name(s, names)) for s in sites]


def _layers(model: nn.Module, sites: list[Site]) -> dict[tuple[bool, str], int]:
    """Ranks: blocks with neurons or attention, then such modules outside blocks, then everything else; each by first execution."""
    first: dict[tuple[bool, str], int] = {}
    for order, site in enumerate(sites):
        first.setdefault(block_of(model, site.module), order)
    leading = {block_of(model, s.module) for s in sites if s.kind in _LEADING}
    ranked = sorted(first, key=lambda block: (block not in leading, not block[0], first[block]))
    return {block: rank for rank, block in enumerate(ranked)}


def block_of(model: nn.Module, path: str) -> tuple[bool, str]:
    """(whether it is a block, path): the entry of the outermost ModuleList, else of the outermost Sequential, else the module itself.

    A ModuleList goes first, since whole models are often put into a Sequential with a pooling layer behind them.
    """
    from torch import nn

    parts = path.split(".") if path else []
    for container in (nn.ModuleList, nn.Sequential):
        module: Any = model
        for depth, part in enumerate(parts):
            if isinstance(module, container):
                return True, ".".join(parts[: depth + 1])
            module = getattr(module, part, None) or getattr(getattr(module, "_orig_mod", None), part)
    return False, path
