"""What one pass of the playground looks at: sparsity layer by layer, and what a neuron or head does at every token. Part of the worker.

Active is decided by the rule of `neuron_activity`; the share of keys that hold 90 % of a query's attention is that of `head_sparsity`,
by the same tally. Neither depends on the data a run was made on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.live.playing import UnitRef
from analysis.spec import UserError
from analysis.stats.attention import HeadTally, Queries
from analysis.stats.attention_measures import ROW, ROWS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site
    from analysis.capture.attention import AttentionCall
    from analysis.capture.attention_places import AttentionPlace
    from analysis.stats.activity import ActiveRule

LOOKS = 8
"""Keys kept of each token of a head that tokens are coloured by."""


@dataclass
class NeuronsSeen:
    """The observer of FFN sites: counts active neurons by site, and keeps one neuron's activations."""

    rule_of: Callable[[Site], ActiveRule]
    """What active means at a site, for the weights as they are now."""
    unit: UnitRef | None = None
    place: Site | None = None
    """Where that neuron is."""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By hook name: active pairs of neuron and token, and all."""
    values_of_unit: dict[int, float] = field(default_factory=dict)
    """By token."""

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """Sites whose FFN output is not at hand."""
        if not site.product:
            self._take(site, values, rows, None)

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:  # noqa: ARG002 - contract
        """The others: what they give, beside what the FFN gives."""
        self._take(site, values, rows, output)

    def _take(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor | None) -> None:
        from analysis.stats.activity import is_active

        scale = None if output is None else output.float().norm(dim=1).cpu().numpy()
        kept = values.detach().float().cpu().numpy()
        found = is_active(kept, self.rule_of(site), scale)
        before = self.counts.get(site.hook_name, (0, 0))
        self.counts[site.hook_name] = (before[0] + int(found.sum()), before[1] + found.size)
        if self.place is not None and self.unit is not None and site.name == self.place.name:
            tokens = range(len(kept)) if rows is None else rows.tolist()
            self.values_of_unit.update(zip(tokens, kept[:, self.unit.index].tolist(), strict=True))

    def shares(self, sites: Sequence[Site]) -> list[list[Any]]:
        """[layer, hook name, share of neurons active in the mean over tokens] of each site; experts of a layer together."""
        grouped: dict[tuple[int, str], tuple[int, int]] = {}
        for site in sites:
            active, n = self.counts.get(site.hook_name, (0, 0))
            key = (site.layer, site.hook_name.partition("[")[0])
            before = grouped.get(key, (0, 0))
            grouped[key] = (before[0] + active, before[1] + n)
        return [[layer, name, active / n] for (layer, name), (active, n) in grouped.items() if n]


class AttentionSeen:
    """The observer of attention: tallies every call, and keeps what one head does."""

    def __init__(self, model: nn.Module, places: Sequence[AttentionPlace], unit: UnitRef | None, chosen: AttentionPlace | None) -> None:
        from analysis.attention.lengths import Lengths

        self._places = {(place.site.name, place.turn): place for place in places}
        self._tallies = {key: HeadTally(place.heads) for key, place in self._places.items()}
        self._unit, self._chosen = unit, chosen
        self._lengths = Lengths(model)
        self.received: list[float] | None = None
        """Of the chosen head: mean weight that each token gets, over the queries that may look at it."""
        self.norms: list[float] | None = None
        """|z W_O| of the chosen head at each token, where its projection can be told apart; else |z|."""
        self.looks: list[list[list[float]]] | None = None

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        key = (call.site.name, call.turn)
        place = self._places.get(key)
        if place is None or call.shape[0] != 1 or call.shape[1] != place.heads:
            return
        _, _, queries, keys = call.shape
        ones, zero = np.ones((1, queries), bool), np.zeros(1, np.int64)
        told = Queries(keep=ones, origin=zero, first=zero, document=zero, n_keys=keys, is_self=not place.crosses)
        self._tallies[key].update(told, ((start, block.clone()) for start, block in call.blocks()))
        if place is self._chosen and self._unit is not None:
            self._look(place, call, self._unit.index)

    def _look(self, place: AttentionPlace, call: AttentionCall, head: int) -> None:
        import torch

        from analysis.capture.attention import EXCLUDED
        from analysis.stats.attention_examples import top_keys

        _, _, queries, keys = call.shape
        weights, may = torch.zeros(queries, keys), torch.zeros(queries, keys, dtype=torch.bool)
        for start, block in call.blocks():
            rows, width = block[head].cpu(), block.shape[2]
            weights[start : start + len(rows), :width] = rows.softmax(-1)
            may[start : start + len(rows), :width] = rows > EXCLUDED / 10
        weights = weights * may
        self.received = (weights.sum(0) / may.sum(0).clamp(min=1)).tolist()
        share, key = top_keys(weights, min(LOOKS, keys))
        self.looks = [[[k, v] for k, v in zip(ks, vs, strict=True) if v > 0] for ks, vs in zip(key.tolist(), share.tolist(), strict=True)]
        _, plain, projected = self._lengths.of(place, call)
        norms = plain if projected is None else projected
        if norms is not None and bool(norms[0, head].isfinite().all()):
            self.norms = norms[0, head].tolist()

    def shares(self) -> list[list[Any]]:
        """[layer, hook name, keys that hold 90 % of a query's attention / its valid keys, mean over heads and queries] of each call.

        Queries with a single valid key are left out, as in `head_sparsity`; a call without any other is left out.
        """
        found = []
        for key, place in self._places.items():
            tally = self._tallies[key]
            n, total = int(tally.counts[..., ROWS].sum()), float(tally.sums[..., ROW.share_90].sum())
            if n and np.isfinite(total):
                found.append([place.site.layer, place.site.hook_name, total / n])
        return found


def neuron_place(sites: Mapping[str, Site], unit: UnitRef) -> Site:
    """The site of a neuron given by layer. Raises `UserError` with what there is."""
    layers = sorted({site.layer for site in sites.values()})
    here = [site for site in sites.values() if site.layer == unit.layer]
    if not here:
        raise UserError(f"the layer of a neuron must be from {layers[0]} to {layers[-1]}, got {unit.layer}; choose one of them.")
    plain = [site for site in here if site.expert is None]
    if not plain:
        raise UserError(f"a neuron must not be one of experts, got layer {unit.layer} with {len(here)}; choose another layer.")
    width = plain[0].width or 0
    if unit.index >= width:
        raise UserError(f"the neuron must be from 0 to {width - 1} in layer {unit.layer}, got {unit.index}; choose one of them.")
    return plain[0]


def head_place(places: Sequence[AttentionPlace], unit: UnitRef) -> AttentionPlace:
    """The attention of a head given by layer. Raises `UserError` with what there is."""
    layers = sorted({place.site.layer for place in places})
    if not layers:
        raise UserError("a head must be one of a model with attention that can be seen, got a model without; choose a neuron.")
    here = next((place for place in places if place.site.layer == unit.layer), None)
    if here is None:
        raise UserError(f"the layer of a head must be one of {layers[0]} to {layers[-1]}, got {unit.layer}; choose one of them.")
    if unit.index >= here.heads:
        raise UserError(f"the head must be from 0 to {here.heads - 1} in layer {unit.layer}, got {unit.index}; choose one of them.")
    return here
