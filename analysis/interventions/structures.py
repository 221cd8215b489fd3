"""How the weights that go must lie: one by one, N of M, tiles, rows or columns; and masks of one matrix from its scores.

1. Scores [.., d_out, d_in] become scores of units: a weight, or a tile of them (sum of |score|, or root of the sum of squares).
2. Units are ranked, the lowest first, ties by lowest flat index; what goes is a number of units from the start of that order.
3. N of M keeps the N highest of each M consecutive inputs of a row. Columns that fill no group of M stay dense.

Sources: METHODS A5 (N of M, tiles), 0.4 (ties, counts). N:M is written kept of M, as hardware does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from analysis.spec import UserError
from analysis.stats.ratios import n_removed

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["l1", "l2"]
Within = Literal["per_matrix", "per_row"]
_SMALL_GROUP = 16
"""Up to this M, ranks are counted by comparing all pairs, which is faster than sorting."""


def removed_of(n: int, level: float) -> int:
    """floor(n level): how many of n go at a level, where 0.29 of 100 is 29 in spite of rounding (METHODS 0.4)."""
    return n_removed(n, 1.0 - level)


@dataclass(frozen=True)
class Structure:
    """Tiles of ``rows`` x ``columns`` weights that go or stay together; None: as long as the matrix. 1 x 1 is unstructured."""

    rows: int | None = 1
    columns: int | None = 1
    norm: Norm = "l1"
    """Of a tile's scores."""
    n: int | None = None
    """Kept of each M; None with an M: as many as the level asks for."""
    m: int | None = None
    """Consecutive inputs of a group; None: no groups."""

    def __post_init__(self) -> None:
        for size in (self.rows, self.columns):
            if size is not None and size < 1:
                raise UserError(f"a tile must be at least 1 x 1, got {self.rows} x {self.columns}; give whole numbers above 0.")
        if self.m is not None and not (self.m >= 2 and (self.n is None or 0 < self.n < self.m)):
            raise UserError(f"N of M must have 0 < N < M, got {self.n} of {self.m}; give the kept number first, as in 2:4.")
        if self.rows is None and self.columns is None:
            raise UserError("a tile must be smaller than the matrix, got the whole matrix; use rows or columns.")

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N kept, M) where it is fixed; else None."""
        return None if self.n is None or self.m is None else (self.n, self.m)

    def pattern_at(self, level: float) -> tuple[int, int] | None:
        """(N kept, M) at a level; None without groups. A pattern that is fixed does not depend on the level."""
        if self.m is None:
            return None
        return (self.m - removed_of(self.m, level) if self.n is None else self.n), self.m

    @property
    def levels(self) -> tuple[float, ...] | None:
        """Shares removed by the only patterns there are, ascending from 0: at least one of each M is kept; None without groups."""
        if self.m is None:
            return None
        return tuple(1.0 - kept / self.m for kept in (range(self.m, 0, -1) if self.n is None else (self.m, self.n)))

    @property
    def is_unstructured(self) -> bool:
        """Whether every weight goes by itself."""
        return self.m is None and (self.rows, self.columns) == (1, 1)

    @property
    def slug(self) -> str:
        """``unstructured``, ``2:4``, ``n:4``, ``block 4x4``, ``rows``, ``columns``; with the norm where it is not L1."""
        if self.m is not None:
            return f"{'n' if self.n is None else self.n}:{self.m}"
        if self.is_unstructured:
            return "unstructured"
        base = {(1, None): "rows", (None, 1): "columns"}.get((self.rows, self.columns))
        base = base or f"block {self.rows or 'all'}x{self.columns or 'all'}"
        return base if self.norm == "l1" else f"{base} {self.norm}"

    def tile(self, d_out: int, d_in: int) -> tuple[int, int]:
        """Rows and columns of a tile in a matrix."""
        return self.rows or d_out, self.columns or d_in


UNSTRUCTURED = Structure()
ROWS = Structure(1, None)
"""Output units: neurons of an up projection."""
COLUMNS = Structure(None, 1)
"""Inputs of a matrix."""


def n_of_m(n: int | None, m: int) -> Structure:
    """N kept of each M consecutive inputs; n None: as many as the level asks for."""
    return Structure(n=n, m=m)


def blocks(rows: int, columns: int | None = None, norm: Norm = "l1") -> Structure:
    """Tiles of rows x columns (square where only one is given); those at the edge are smaller."""
    return Structure(rows, rows if columns is None else columns, norm)


def structure_of(words: str) -> Structure:
    """A structure from its slug. Raises `UserError`."""
    simple = {"unstructured": UNSTRUCTURED, "rows": ROWS, "columns": COLUMNS}
    if words in simple:
        return simple[words]
    pattern = re.fullmatch(r"(\d+|n):(\d+)", words)
    if pattern:
        return n_of_m(None if pattern[1] == "n" else int(pattern[1]), int(pattern[2]))
    tile = re.fullmatch(r"block (\d+)x(\d+)( l2)?", words)
    if tile:
        return blocks(int(tile[1]), int(tile[2]), "l2" if tile[3] else "l1")
    raise UserError(f"a structure must be unstructured, rows, columns, N:M (as 2:4) or block RxC (as block 4x4), got {words!r}.")


# ---------------------------------------------------------------------------------------------------------------------
# Units


def unit_scores(scores: Tensor, structure: Structure) -> Tensor:
    """Scores [.., d_out, d_in] -> of tiles [.., R, C]: sum of |s|, or root of the sum of s^2; edges count as padded with zeros.

    A tile of one weight keeps its score, sign included.
    """
    from torch.nn.functional import pad

    d_out, d_in = scores.shape[-2:]
    r, c = structure.tile(d_out, d_in)
    if (r, c) == (1, 1):
        return scores
    sizes = pad(scores.abs(), (0, -d_in % c, 0, -d_out % r))
    tiles = sizes.unflatten(-1, (-1, c)).unflatten(-3, (-1, r))  # [.., R, r, C, c]
    return tiles.sum((-3, -1)) if structure.norm == "l1" else tiles.square().sum((-3, -1)).sqrt()


def unit_sizes(d_out: int, d_in: int, structure: Structure) -> Tensor:
    """Weights in each tile, int64 [R, C]."""
    import torch

    r, c = structure.tile(d_out, d_in)
    if not (d_out % r or d_in % c):
        return torch.tensor(r * c).expand(d_out // r, d_in // c)
    tall = torch.full((-(-d_out // r),), r)
    wide = torch.full((-(-d_in // c),), c)
    tall[-1], wide[-1] = d_out - r * (len(tall) - 1), d_in - c * (len(wide) - 1)
    return tall[:, None] * wide[None]


def spread(units: Tensor, d_out: int, d_in: int, structure: Structure) -> Tensor:
    """What holds for tiles [R, C], for each of their weights [d_out, d_in]."""
    r, c = structure.tile(d_out, d_in)
    if (r, c) == (1, 1):
        return units
    return units.repeat_interleave(r, 0)[:d_out].repeat_interleave(c, 1)[:, :d_in]


def ranks(values: Tensor) -> Tensor:
    """Place of each entry in the ascending order of its last axis, from 0, ties by lowest index; int16 or int32, same shape."""
    import torch

    size = values.shape[-1]
    kind = torch.int16 if size <= 2**15 else torch.int32
    order = values.argsort(dim=-1, stable=True)
    places = torch.arange(size, dtype=kind, device=values.device).expand_as(order)
    return torch.empty(values.shape, dtype=kind, device=values.device).scatter_(-1, order, places)


# ---------------------------------------------------------------------------------------------------------------------
# Masks of one matrix


def keep_n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """bool, True where kept: the n highest of each m consecutive entries of the last axis; of equals the first goes first.

    scores [.., d_in]; entries behind the last whole group are kept.
    """
    import torch

    whole = scores.shape[-1] // m * m
    keep = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    if whole:
        groups = scores[..., :whole].unflatten(-1, (-1, m))
        places = _places_by_pairs(groups) if m <= _SMALL_GROUP else ranks(groups)
        keep[..., :whole] = (places >= m - n).flatten(-2)
    return keep


def _places_by_pairs(groups: Tensor) -> Tensor:
    """As `ranks`, int8: entry j comes behind every earlier one that is not larger, and every later one that is smaller."""
    import torch

    entries = groups.unbind(-1)
    places = [torch.zeros(entries[0].shape, dtype=torch.int8, device=groups.device) for _ in entries]
    for j in range(len(entries)):
        for i in range(j):
            behind = entries[j] >= entries[i]
            places[j] += behind
            places[i] += ~behind
    return torch.stack(places, -1)


def keep_mask(scores: Tensor, level: float, structure: Structure = UNSTRUCTURED, within: Within = "per_matrix") -> Tensor:
    """bool [d_out, d_in], True where kept: a matrix' mask at a level, from scratch (`selecting` keeps what levels have in common).

    floor(level x units) units go, of the matrix or of each row of units; whole tiles as long as they fit into the level.
    """
    import torch

    d_out, d_in = scores.shape
    pattern = structure.pattern_at(level)
    if pattern is not None:
        return keep_n_of_m(scores, *pattern) if level > 0 else torch.ones_like(scores, dtype=torch.bool)
    units = unit_scores(scores, structure)
    rows = units.reshape(1, -1) if within == "per_matrix" else units
    sizes = unit_sizes(d_out, d_in, structure).to(scores.device).reshape(rows.shape)
    order = rows.argsort(dim=-1, stable=True)
    room = torch.tensor([removed_of(int(row.sum()), level) for row in sizes], device=scores.device)
    goes = sizes.gather(-1, order).cumsum(-1) <= room[:, None]
    keep = torch.empty_like(rows, dtype=torch.bool).scatter_(-1, order, ~goes)
    return spread(keep.reshape(units.shape), d_out, d_in, structure)


def conformance(values: Tensor, n: int, m: int) -> float:
    """Share of groups of m consecutive inputs with at most n non-zeros, 0 to 1; values [.., d_in] with at least one whole group.

    Groups that were zero already conform. Source: METHODS A5.
    """
    whole = values.shape[-1] // m * m
    if not whole:
        raise ValueError(f"values must have at least {m} inputs, got {values.shape[-1]}; there is no group to look at.")
    groups = (values[..., :whole] != 0).unflatten(-1, (-1, m))
    return float((groups.sum(-1) <= n).double().mean())
