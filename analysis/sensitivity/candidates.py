"""What is pruned alone: matrices, attention heads, groups of FFN neurons, sublayers, blocks; each with its weights at a level.

- matrix: a parameter of the scope, pruned by the method among its own weights.
- head: its rows of query, key and value (of keys and values where each head has its own) and its columns of the matrix that reads the
  heads; where query, key and value are one fused matrix, its columns alone. The smallest magnitudes among them go; at 1, the head.
- ffn group: consecutive neurons of one FFN; their rows of the matrices before the activation, and their columns of the one behind.
- sublayer, block: all matrices of an attention or an FFN, of a block (`wholes`).

Heads and groups come from what capture sees in a pass (`find_attention`, `find_sites`), never from a model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.spec import UnknownName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.interventions.pruning import HeldPruning
    from analysis.interventions.scope import Member, Scope

MATRICES, HEADS, FFN, SUBLAYERS, BLOCKS = "matrices", "heads", "ffn", "sublayers", "blocks"
UNITS = (MATRICES, HEADS, FFN, SUBLAYERS, BLOCKS)
Part = tuple[str, int, int, int]
"""A piece of a matrix [d_out, d_in]: parameter, axis (0 rows, 1 columns), first, end."""


@dataclass(frozen=True)
class Candidate:
    """One thing that is pruned alone."""

    kind: str
    tensor: str
    layer: int | None
    role: str
    n: int
    n_already_zero: int
    block: str | None
    """Path of the repeated block that all of it lies in; None where it lies in none."""
    at: Callable[[float], tuple[dict[str, Tensor], int]] = field(repr=False, compare=False)
    """The parameters at a level, and how many of its own weights are then zero."""

    @property
    def unit(self) -> str:
        """Name of its unit of work."""
        return f"{self.kind}: {self.tensor}"


def candidates(units: Sequence[str], held: HeldPruning, model: nn.Module, batch: Any, n_groups: int) -> Iterator[Candidate]:
    """All that is asked for, in order of the scope. ``batch`` is run to see heads and neurons; not where matrices alone are asked for."""
    for unit in units:
        if unit not in UNITS:
            raise UnknownName(f"units must be of {', '.join(UNITS)}, got {unit!r}; separate several by commas.")
    if MATRICES in units:
        without = {name.partition("[")[0] for name in held.facts["left_dense"]}
        yield from (_matrix(member, held) for member in held.scope.members if member.name not in without)
    if HEADS in units:
        yield from _heads(model, batch, held.scope)
    if FFN in units:
        yield from _ffn_groups(model, batch, held.scope, n_groups)
    yield from _wholes(units, model, batch, held.scope)


def _wholes(units: Sequence[str], model: nn.Module, batch: Any, scope: Scope) -> Iterator[Candidate]:
    from analysis.sensitivity import wholes

    if SUBLAYERS in units:
        yield from wholes.sublayers(model, batch, scope)
    if BLOCKS in units:
        yield from wholes.blocks(model, batch, scope)


def _matrix(member: Member, held: HeldPruning) -> Candidate:
    from analysis.interventions.ordering import count_zeros
    from analysis.interventions.skipping import block_of

    def at(level: float) -> tuple[dict[str, Tensor], int]:
        values = held.weights(member.name, level)
        return {member.name: values}, count_zeros(values)

    n_zero = count_zeros(member.parameter)
    return Candidate("matrix", member.name, member.layer, member.role, member.n, n_zero, block_of(member), at)


# ---------------------------------------------------------------------------------------------------------------------
# Heads and groups


def _heads(model: nn.Module, batch: Any, scope: Scope) -> Iterator[Candidate]:
    from analysis.capture.attention_places import find_attention

    members = {member.name: member for member in scope.members}
    for place in find_attention(model, batch):
        reads = None if place.projection is None else members.get(place.projection.weight)
        if reads is None or place.width is None or place.turn or reads.matrix_shape[2] % place.heads:
            continue
        width = reads.matrix_shape[2] // place.heads
        homes = (place.site.module, reads.module.rpartition(".")[0])  # BERT has what reads the heads in a module of its own
        near = [m for m in scope.members if m.name != reads.name and m.module.rpartition(".")[0] in homes]
        own = [m for m in near if m.matrix_shape[:2] == (1, place.heads * place.width)] if len(near) == 3 else []  # noqa: PLR2004 - q, k, v
        for head in range(place.heads):
            parts = [(m.name, 0, head * place.width, (head + 1) * place.width) for m in own]
            parts.append((reads.name, 1, head * width, (head + 1) * width))
            yield _of_parts("head", f"{place.site.module} head {head}", f"{_inside(reads, place.site.module)} head", parts, members)


def _ffn_groups(model: nn.Module, batch: Any, scope: Scope, n_groups: int) -> Iterator[Candidate]:
    from analysis.capture.discovery import find_sites

    members = {member.name: member for member in scope.members}
    for site in find_sites(model, batch):
        reads = members.get(site.weight or "")
        fused = len(set(site.producers)) != len(site.producers)
        if site.kind != "ffn" or reads is None or reads.matrix_shape[0] != 1 or not site.producers or fused or site.width is None:
            continue
        before = [members[name] for name in site.producers if name in members]
        if len(before) < len(site.producers) or any(m.matrix_shape[:2] != (1, site.width) for m in before):
            continue
        edges = np.linspace(0, site.width, min(n_groups, site.width) + 1).astype(int)
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist()):
            parts = [(m.name, 0, first, end) for m in before] + [(reads.name, 1, first, end)]
            role = f"{_inside(reads, reads.module.rpartition('.')[0])} neurons"
            yield _of_parts("ffn group", f"{reads.module.rpartition('.')[0]} neurons {first} to {end - 1}", role, parts, members)


def _inside(member: Member, path: str) -> str:
    """The path of a module inside the block that a member of it is in."""
    from analysis.interventions.skipping import block_of

    return path.removeprefix(block_of(member) or "").strip(".") or path


def _of_parts(kind: str, name: str, role: str, parts: Sequence[Part], members: Mapping[str, Member]) -> Candidate:
    """Pruned by magnitude among all its weights together; of equal ones the first go."""
    from analysis.interventions.skipping import block_of
    from analysis.interventions.structures import removed_of

    last = members[parts[-1][0]]
    pieces = [_piece(members[part[0]], members[part[0]].parameter.detach(), part) for part in parts]
    n = sum(piece.numel() for piece in pieces)
    n_zero = sum(int((piece == 0).sum()) for piece in pieces)

    def at(level: float) -> tuple[dict[str, Tensor], int]:
        made = {part[0]: members[part[0]].parameter.detach().clone() for part in parts}
        flat = np.concatenate([_piece(members[part[0]], made[part[0]], part).float().cpu().numpy().ravel() for part in parts])
        order = np.argsort(np.abs(flat), kind="stable")
        keep = np.ones(n, dtype=bool)
        keep[order[: removed_of(n, level)]] = False
        start = 0
        for part in parts:
            _multiply(members[part[0]], made, part, keep, start)
            start += _piece(members[part[0]], made[part[0]], part).numel()
        return made, int((~keep | (flat == 0)).sum())

    return Candidate(kind, name, last.layer, role, n, n_zero, block_of(last), at)


def _piece(member: Member, values: Tensor, part: Part) -> Tensor:
    _, axis, first, end = part
    return member.matrix(values)[0].narrow(axis, first, end - first)


def _multiply(member: Member, made: dict[str, Tensor], part: Part, keep: np.ndarray, start: int) -> None:
    """Write zeros where a piece is not kept; through a copy where the matrix is no view of its parameter."""
    import torch

    matrices = member.matrix(made[part[0]])
    piece = matrices[0].narrow(part[1], part[2], part[3] - part[2])
    mask = torch.from_numpy(keep[start : start + piece.numel()].reshape(tuple(piece.shape))).to(piece.device)
    piece.mul_(mask)
    if matrices.data_ptr() != made[part[0]].data_ptr():
        made[part[0]] = member.back(matrices)
