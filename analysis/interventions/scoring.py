"""Scores of the matrices that are being pruned, by number, and what weights must be so that they can be pruned at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.scope import Member
    from analysis.interventions.weights.method import Matrix, Method


def check_finite(member: Member) -> None:
    """Raises `UserError` for an infinite weight, or one that is no number: times the zero of a mask it would not be zero."""
    import torch

    ends = torch.aminmax(member.parameter.detach())
    if not (bool(ends.min.isfinite()) and bool(ends.max.isfinite())):
        raise UserError(
            f"weights of {member.name} must be finite, got an infinite one or one that is no number; mend the checkpoint, or leave the "
            "matrix out of the scope with only."
        )


class Scores:
    """Scores of matrices by number; kept, unless they cost no more than reading the weights."""

    def __init__(self, method: Method, matrices: Sequence[Matrix]) -> None:
        self._method, self._matrices = method, matrices
        self._kept: dict[int, Tensor] = {}
        self._checked: set[int] = set()

    def __call__(self, i: int) -> Tensor:
        if i in self._kept:
            return self._kept[i]
        matrix = self._matrices[i]
        scores = self._method.score(matrix.dense(), matrix.inputs, matrix.seed)
        if i not in self._checked:
            if bool(scores.min().isnan()):
                raise UserError(f"scores of {matrix.name} must be numbers, got NaN; look for NaN among what the calibration measured.")
            self._checked.add(i)
        if not self._method.cheap:
            self._kept[i] = scores
        return scores
