"""The really smaller model at a rank: every matrix as two, where these hold fewer numbers (METHODS A16).

W_r = V (V^T W) or (W V) V^T, V the directions of the shorter side: the same W_r as `rank.truncated`, never multiplied out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.interventions.structure.rank import rank_kept, share_kept, truncated
from analysis.interventions.structure.smaller import linear_of, set_values
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.scope import Member, Scope

Directions = Callable[["Member"], list[tuple["Tensor", "Tensor"]]]
"""Of each matrix of a member: squared singular values, and directions of the shorter side in columns."""


def factored(model: nn.Module, scope: Scope, directions: Directions, level: float) -> nn.Module:
    """A new model at a level of `MatrixRank`; the given one, which must be dense, stays as it is.

    Where two factors would be larger, the matrix of that rank stays one. Raises `IncompatibleSubject` for other than linear layers.
    """
    made = copy.deepcopy(model)
    for member in scope.members:
        layer = linear_of(made, member.name)
        ((_, vectors),) = directions(member)
        shape = (member.matrix_shape[1], member.matrix_shape[2])
        rank = rank_kept(shape, level)
        if share_kept(shape, rank) < 1:
            _replace(made, member.name.rpartition(".")[0], two(layer, vectors[:, :rank]))
        else:
            set_values(layer, "weight", truncated(layer.weight.detach(), vectors, rank))
    return made


def two(layer: nn.Linear, vectors: Tensor) -> nn.Sequential:
    """Two layers without a function between: of W [d_out, d_in] and the directions [shorter side, r] that are kept."""
    import torch
    from torch import nn

    weight = layer.weight.detach()
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    kept = vectors.to(wide)
    first, second = (kept.T @ wide, kept) if weight.shape[0] <= weight.shape[1] else (kept.T, wide @ kept)
    made = nn.Sequential(nn.Linear(first.shape[1], first.shape[0], bias=False), nn.Linear(second.shape[1], second.shape[0], bias=False))
    for place, values in zip(made, (first, second), strict=True):
        set_values(place, "weight", values.to(weight.dtype))
    if layer.bias is not None:
        set_values(made[1], "bias", layer.bias)
    return made


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    where, _, name = path.rpartition(".")
    if not name:
        raise IncompatibleSubject("a model that is one matrix cannot be made of smaller ones, got that; choose another.")
    setattr(model.get_submodule(where), name, layer)
