"""Where a model's units are, and which parameters they stand for: heads, neurons, sublayers, blocks; found by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.structure.base import Part, Plan, Spot, stream_of

if TYPE_CHECKING:
    from torch import nn

    from analysis.capture import Site
    from analysis.capture.attention_places import AttentionPlace
    from analysis.interventions.scope import Member


@dataclass(frozen=True)
class Attention:
    """One attention whose heads a stored matrix reads side by side."""

    place: AttentionPlace
    site: Site | None
    """What that matrix reads; None inside of torch's own attention, whose heads cannot be held."""
    reads: str
    others: tuple[Member, ...]
    """Matrices of the scope inside its module, that matrix left out."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """All of them."""
        return (*(member.name for member in self.others), self.reads)


def attentions(model: nn.Module, example: Any) -> list[Attention]:
    """In order of execution; without those whose output matrix or heads cannot be told apart."""
    from analysis.capture import find_sites
    from analysis.capture.attention_places import find_attention
    from analysis.interventions.scope import weight_scope

    members = weight_scope(model).members
    readers = {site.weight: site for site in find_sites(model, example) if site.role == "input" and site.expert is None}
    found = []
    for place in find_attention(model, example):
        reads = None if place.projection is None else place.projection.weight
        site = readers.get(reads) if reads is not None else None
        if reads is None or place.turn or (site is not None and (not site.width or site.width % place.heads)):
            continue
        inside = f"{place.site.module}."
        others = tuple(m for m in members if m.name != reads and m.name.startswith(inside))
        found.append(Attention(place, site, reads, others))
    return found


def head_plan(model: nn.Module, example: Any) -> Plan:
    """All heads. A head's rows of queries and columns of the output go with it; keys and values once all heads that share them are gone.

    Matrices whose rows cannot be told apart (by their number) are counted as kept.
    """
    every = attentions(model, example)
    total, stored = _sizes(every)
    spots, parts, first = [], [], 0
    for one in every:
        heads = one.place.heads
        if one.site is None:
            continue
        spots.append(Spot(first, heads, label_of(one.site), one.site))
        own, shared = _rows(one)
        parts.append(Part(first, heads, {one.reads: 1.0, **own}, pairs=heads / total))
        size, groups = heads // one.place.groups, one.place.groups
        keys = _stored(one) / max(1, stored)
        saves = {name: share / groups for name, share in shared.items()}
        parts += [Part(first + g * size, size, saves, together=True, keys=keys / groups) for g in range(groups)]
        first += heads
    return Plan(tuple(spots), tuple(parts), "heads")


def _rows(one: Attention) -> tuple[dict[str, float], dict[str, float]]:
    """Share of each matrix that belongs to all queries, and to all keys and values."""
    place = one.place
    queries, keys = place.heads * (place.width or 0), place.groups * (place.width or 0)
    own: dict[str, float] = {}
    shared: dict[str, float] = {}
    for member in one.others:
        n, rows, _ = member.matrix_shape
        if n != 1 or not rows:
            continue
        if rows == queries + 2 * keys:
            own[member.name], shared[member.name] = queries / rows, 2 * keys / rows
        elif rows == queries:  # where each head has its own keys and values they look the same, and go the same way
            own[member.name] = 1.0
        elif rows in (keys, 2 * keys):
            shared[member.name] = 1.0
    return own, shared


def neuron_plan(model: nn.Module, example: Any) -> Plan:
    """All FFN neurons: their rows of the matrices before the activation, and their columns of the one behind."""
    from analysis.capture import find_sites

    sites = [s for s in find_sites(model, example) if s.kind == "ffn" and s.role == "input" and s.width]
    experts: dict[str, int] = {}
    for site in sites:
        for name in {site.weight or "", *site.producers}:
            experts[name] = experts.get(name, 0) + 1
    spots, parts, first = [], [], 0
    for site in sites:
        assert site.width is not None
        spots.append(Spot(first, site.width, label_of(site), site))
        parts.append(Part(first, site.width, {name: 1.0 / experts[name] for name in {site.weight or "", *site.producers} if name}))
        first += site.width
    return Plan(tuple(spots), tuple(parts), "FFN neurons")


def sublayer_plan(model: nn.Module, example: Any, kind: str) -> Plan:
    """Each ``attention`` or ``ffn`` that adds to the stream, as a unit: nothing is added where it is gone."""
    from analysis.latents.places import places

    wanted = "attention_out" if kind == "attention" else "mlp_out"
    found = {place.site.name: place for place in places(model, example) if place.kind == wanted}
    of = _attention_parts(model, example) if kind == "attention" else _ffn_parts(model, example)
    modules = [place.module for place in found.values()]
    spots = tuple(Spot(i, 1, label_of(place.site), place.site) for i, place in enumerate(found.values()))
    parts = tuple(_merged(i, _belonging(model, module, modules, of)) for i, module in enumerate(modules))
    return Plan(spots, parts, f"{kind} sublayers" if kind == "attention" else "FFN sublayers")


def _belonging(model: nn.Module, module: str, modules: Sequence[str], parts: Sequence[Owned]) -> list[Part]:
    """What goes with the sublayer that ``module`` gives the output of: what lies in it; behind a norm, all of its block, where it is the
    only sublayer of its kind there; else nothing, so that nothing is counted twice."""
    inside = [part for paths, part in parts if any(path == module or path.startswith(f"{module}.") for path in paths)]
    block = block_around(model, module)
    if inside or sum(block_around(model, other) == block for other in modules) > 1:
        return inside
    return [part for paths, part in parts if block_around(model, paths[0]) == block]


def _merged(unit: int, parts: Sequence[Part], saves: Mapping[str, float] | None = None) -> Part:
    """As one part of one unit."""
    all_saved = {name: share for part in parts for name, share in part.saves.items()} if saves is None else saves
    return Part(unit, 1, all_saved, pairs=sum(part.pairs for part in parts), keys=sum(part.keys for part in parts))


def block_plan(model: nn.Module, example: Any) -> Plan:
    """Each repeated block that returns a stream of the form it is given, as a unit: the identity where it is gone."""
    from analysis.interventions.scope import weight_scope
    from analysis.interventions.skipping import block_of, blocks_around

    members = weight_scope(model).members
    blocks = _same_form(model, example, blocks_around(model, members))
    attention = _attention_parts(model, example)
    spots, parts = [], []
    for i, path in enumerate(blocks):
        spots.append(Spot(i, 1, path, block=path))
        inside = {member.name: 1.0 for member in members if block_of(member) == path}
        parts.append(_merged(i, [part for (module, *_), part in attention if block_around(model, module) == path], inside))
    return Plan(tuple(spots), tuple(parts), "blocks")


Owned = tuple[tuple[str, ...], Part]
"""Modules that something runs in, and what goes with it."""


def _attention_parts(model: nn.Module, example: Any) -> list[Owned]:
    """Of every attention."""
    every = attentions(model, example)
    total, stored = _sizes(every)
    return [
        (
            (one.place.site.module, one.reads.rpartition(".")[0]),
            Part(0, 1, dict.fromkeys(one.parameters, 1.0), pairs=one.place.heads / total, keys=_stored(one) / max(1, stored)),
        )
        for one in every
    ]


def _sizes(every: Sequence[Attention]) -> tuple[int, int]:
    """Heads of all, and numbers stored of one position."""
    return sum(one.place.heads for one in every), sum(_stored(one) for one in every)


def _stored(one: Attention) -> int:
    return one.place.groups * (one.place.width or 0)


def _ffn_parts(model: nn.Module, example: Any) -> list[Owned]:
    from analysis.capture import find_sites

    sites = [site for site in find_sites(model, example) if site.kind == "ffn" and site.role == "input"]
    return [((site.module,), Part(0, 1, {name: 1.0 for name in (site.weight, *site.producers) if name})) for site in sites]


def block_around(model: nn.Module, path: str) -> str:
    """Path of the block that a module is in: the outermost entry of a list around it; the path itself where there is none."""
    from analysis.capture.naming import block_of

    return block_of(model, path)[1]


def label_of(site: Site) -> str:
    """For people."""
    return site.module if site.expert is None else f"{site.module}[{site.expert}]"


def _same_form(model: nn.Module, example: Any, blocks: Sequence[str]) -> list[str]:
    """Those that run once and return a tensor of the shape and type they are given."""
    import torch

    from analysis.capture.running import hooked, observable, run

    seen: dict[str, list[bool]] = {}

    def hook(path: str) -> Any:
        def look(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
            del module
            given: Any = stream_of(args, kwargs)
            made: Any = output[0] if isinstance(output, tuple) and output else output
            alike = isinstance(given, torch.Tensor) and isinstance(made, torch.Tensor)
            seen.setdefault(path, []).append(alike and (given.shape, given.dtype) == (made.shape, made.dtype))

        return look

    handles = [model.get_submodule(path).register_forward_hook(hook(path), with_kwargs=True) for path in blocks]
    with hooked(handles), observable(model):
        run(model, example)
    return [path for path in blocks if seen.get(path) == [True]]
