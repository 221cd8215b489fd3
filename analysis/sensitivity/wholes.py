"""Sublayers and blocks as candidates: pruned by magnitude among all weights of their matrices together.

At level 1 the biases beside those matrices go, too: a sublayer then adds nothing, and a block whose norms lie beside the stream gives back
what it was given. Below 1 biases stay, since they are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.candidates import Candidate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.scope import Member, Scope
    from analysis.interventions.structure.base import Plan

SUBLAYER, BLOCK = "sublayer", "block"


def sublayers(model: nn.Module, batch: Any, scope: Scope) -> Iterator[Candidate]:
    """Each attention and each FFN on a residual stream, in the order of layers."""
    from analysis.interventions.structure.finding import sublayer_plan

    found = [one for kind in ("attention", "ffn") for one in _of_plan(SUBLAYER, sublayer_plan(model, batch, kind), model, scope)]
    yield from sorted(found, key=lambda one: -1 if one.layer is None else one.layer)


def blocks(model: nn.Module, batch: Any, scope: Scope) -> Iterator[Candidate]:
    """Each repeated block that gives what it is given in form."""
    from analysis.interventions.structure.finding import block_plan

    yield from _of_plan(BLOCK, block_plan(model, batch), model, scope)


def _of_plan(kind: str, plan: Plan, model: nn.Module, scope: Scope) -> Iterator[Candidate]:
    members = {member.name: member for member in scope.members}
    labels = {spot.first: spot.label for spot in plan.spots}
    for part in plan.parts:
        own = [members[name] for name in part.saves if name in members]
        if own:
            yield _whole(kind, labels[part.first], own, model)


def _whole(kind: str, name: str, own: Sequence[Member], model: nn.Module) -> Candidate:
    from analysis.interventions.ordering import count_zeros
    from analysis.interventions.skipping import block_of

    block = block_of(own[0])
    role = name if block is None else name.removeprefix(block).strip(".") or "block"
    biases = _biases(model, own)
    n = sum(member.n for member in own)

    def at(level: float) -> tuple[dict[str, Tensor], int]:
        made = _smallest_gone(own, n, level)
        if level == 1.0:
            made |= {name: values.new_zeros(values.shape) for name, values in biases.items()}
        return made, sum(count_zeros(made[member.name]) for member in own)

    return Candidate(kind, name, own[0].layer, role, n, sum(count_zeros(m.parameter) for m in own), block, at)


def _biases(model: nn.Module, own: Sequence[Member]) -> Mapping[str, Tensor]:
    """Vectors called a bias in the modules that the matrices are in."""
    found: dict[str, Tensor] = {}
    for member in own:
        for leaf, parameter in model.get_submodule(member.module).named_parameters(recurse=False):
            if "bias" in leaf:
                found[f"{member.module}.{leaf}".lstrip(".")] = parameter.detach()
    return found


def _smallest_gone(own: Sequence[Member], n: int, level: float) -> dict[str, Tensor]:
    """New values without the smallest magnitudes of all; of equal ones the first go."""
    import numpy as np
    import torch

    from analysis.interventions.structures import removed_of

    dense = {member.name: member.parameter.detach() for member in own}
    if level == 1.0:
        return {name: values.new_zeros(values.shape) for name, values in dense.items()}
    flat = np.concatenate([values.float().abs().cpu().numpy().ravel() for values in dense.values()])
    keep = np.ones(n, dtype=bool)
    keep[np.argsort(flat, kind="stable")[: removed_of(n, level)]] = False
    made, start = {}, 0
    for name, values in dense.items():
        mask = torch.from_numpy(keep[start : start + values.numel()].reshape(tuple(values.shape)))
        made[name], start = values * mask.to(values.device), start + values.numel()
    return made
