"""Which weights go at a level: prepared once from scores, so that a level costs a comparison and a product.

1. Single weights, over the scope or in each matrix: `cuts`, a threshold from one histogram.
2. Single weights in each row, and tiles in any group (`Ranked`): ranked once; a level is a comparison with what is used up so far.
3. N of M (`Patterned`): groups are ranked at each level, of which there are few.

Flat index, by which ties are broken: in order of the matrices, then of [d_out, d_in]. What goes at a level goes at higher ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from analysis.interventions.cuts import Cuts
from analysis.interventions.ordering import stable_order
from analysis.interventions.structures import Structure, keep_n_of_m, removed_of, spread, unit_scores, unit_sizes
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

ScopeGroup = Literal["global", "per_matrix", "per_row"]
"""Among which weights the lowest are found."""
Variant = Literal["text", "code"]
Scores = Callable[[int], "Tensor"]
"""Scores [d_out, d_in] of matrix number i, float32; larger stays."""
Shapes = Sequence[tuple[int, int]]
"""(d_out, d_in) of each matrix."""
Levels = Sequence[float]
"""One for each matrix."""


class Selection(Protocol):
    """What goes, of each matrix."""

    def removed(self, levels: Levels) -> list[int]:
        """Weights of each matrix that go."""
        ...

    def keep(self, i: int, levels: Levels) -> Tensor:
        """bool [d_out, d_in] of matrix i, True where kept."""
        ...


def select(scores: Scores, shapes: Shapes, structure: Structure, group: ScopeGroup = "global", variant: Variant = "text") -> Selection:
    """The selection for matrices of these shapes (d_out, d_in). Raises `UserError` for rows or columns competing inside a row.

    In the group ``global`` all matrices share one level.
    """
    if structure.m is not None:
        return Patterned(scores, shapes, structure)
    if group == "per_row" and (structure.rows is None or structure.columns is None):
        raise UserError(f"scope per_row must have several units in a row, got {structure.slug}; use per_matrix or global.")
    if counts_otherwise(structure, group):
        return Cuts(lambda i: scores(i).float(), shapes, group == "global", variant)
    return Ranked(lambda i: scores(i).float(), shapes, structure, group)


def counts_otherwise(structure: Structure, group: ScopeGroup) -> bool:
    """Whether ``code`` selects other weights than ``text``: only where a threshold is cut at (`cuts`)."""
    return structure.is_unstructured and group != "per_row"


# ---------------------------------------------------------------------------------------------------------------------
# Single weights of each row, and tiles


class Ranked:
    """For each unit the weights that are gone once it goes, itself included: it goes where they fit into the level."""

    def __init__(self, scores: Scores, shapes: Shapes, structure: Structure, group: ScopeGroup) -> None:
        self._shapes, self._structure, self._group = shapes, structure, group
        units = (unit_scores(scores(i), structure) for i in range(len(shapes)))
        sizes = [unit_sizes(*shape, structure) for shape in shapes]
        if group == "global":
            flat = _used_up(_joined(list(units))[None], _joined(sizes)[None])[0]
            parts = flat.split([size.numel() for size in sizes])
            self._used = [part.view(size.shape) for part, size in zip(parts, sizes)]
        else:
            rows = (lambda t: t.reshape(1, -1)) if group == "per_matrix" else (lambda t: t)
            self._used = [_used_up(rows(u), rows(size)).view(size.shape) for u, size in zip(units, sizes)]

    def removed(self, levels: Levels) -> list[int]:
        """See `Selection`."""
        return [d_out * d_in - int(self.keep(i, levels).sum()) for i, (d_out, d_in) in enumerate(self._shapes)]

    def keep(self, i: int, levels: Levels) -> Tensor:
        """See `Selection`."""
        return spread(self._used[i] > self._room(i, levels[i]), *self._shapes[i], self._structure)

    def _room(self, i: int, level: float) -> int | Tensor:
        """Weights that may go of the group; or of each row of units, [R, 1], of which the last may be less tall."""
        import torch

        d_out, d_in = self._shapes[i]
        if self._group == "global":
            return removed_of(sum(rows * columns for rows, columns in self._shapes), level)
        if self._group == "per_matrix":
            return removed_of(d_out * d_in, level)
        tall = self._structure.tile(d_out, d_in)[0]
        room = torch.full((len(self._used[i]), 1), removed_of(tall * d_in, level), device=self._used[i].device)
        room[-1] = removed_of((d_out - tall * (len(room) - 1)) * d_in, level)
        return room


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """All entries, flat, in order."""
    import torch

    return torch.cat([part.reshape(-1) for part in parts])


def _used_up(units: Tensor, sizes: Tensor) -> Tensor:
    """Sizes summed up to each unit in the ascending order of its row, ties by lowest index: [rows, units], as small ints as will do."""
    import torch

    order = stable_order(units)
    largest = int(sizes.sum(-1).max())
    kind = torch.int16 if largest < 2**15 else torch.int32 if largest < 2**31 else torch.int64
    if bool((sizes == sizes[0, 0]).all()):
        sums = (torch.arange(1, sizes.shape[-1] + 1) * sizes[0, 0]).to(kind).to(units.device).expand_as(order)
    else:
        sums = sizes.to(units.device).gather(-1, order).cumsum(-1).to(kind)
    return torch.empty(units.shape, dtype=kind, device=units.device).scatter_(-1, order, sums)


# ---------------------------------------------------------------------------------------------------------------------
# N of M


class Patterned:
    """N kept of M inputs, the same everywhere or as many as the level asks for."""

    def __init__(self, scores: Scores, shapes: Shapes, structure: Structure) -> None:
        self._scores, self._shapes, self._structure = scores, shapes, structure

    def removed(self, levels: Levels) -> list[int]:
        """See `Selection`."""
        return [self._removed(*shape, level) for shape, level in zip(self._shapes, levels)]

    def keep(self, i: int, levels: Levels) -> Tensor:
        """See `Selection`."""
        import torch

        pattern, scores = self._structure.pattern_at(levels[i]), self._scores(i)
        if pattern is None or levels[i] <= 0:
            return torch.ones_like(scores, dtype=torch.bool)
        return keep_n_of_m(scores, *pattern)

    def _removed(self, d_out: int, d_in: int, level: float) -> int:
        pattern = self._structure.pattern_at(level)
        return 0 if pattern is None or level <= 0 else d_out * (d_in // pattern[1]) * (pattern[1] - pattern[0])
