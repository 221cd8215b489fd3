"""The really smaller model: a copy whose tensors go without the heads and FFN neurons, or whose lists go without the blocks, that are gone.

What it computes is what the model with these units ablated does, up to the order of sums; what it costs can be timed. Linear layers only.
Ranks and dimensions of the stream: `factored`, `sliced_model`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.structure.base import Plan, Spot
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import nn

    from analysis.interventions.structure.base import Part

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "num_key_value_heads")
"""Attributes of attention modules that say how many heads there are."""


def smaller(model: nn.Module, plan: Plan, gone: np.ndarray) -> nn.Module:
    """A new model without these units [units]; the given one stays as it is. Raises `IncompatibleSubject` for other units and layers."""
    made = copy.deepcopy(model)
    for spot in plan.spots:
        if spot.site is None:
            continue
        own = gone[spot.first : spot.first + spot.n]
        if plan.noun == "heads":
            _cut_heads(made, spot, [part for part in plan.parts if spot.first <= part.first < spot.first + spot.n], own)
        elif spot.site.kind == "ffn" and spot.site.expert is None:
            _cut_neurons(made, spot, own)
        else:
            raise IncompatibleSubject(
                f"units to be cut out must be heads, neurons of plain FFNs or blocks, got {plan.noun}; ablate them instead."
            )
    _cut_blocks(made, [spot.block for spot in plan.spots if spot.block is not None and gone[spot.first]])
    return made


def _cut_neurons(model: nn.Module, spot: Spot, gone: np.ndarray) -> None:
    """Rows of the matrices before the activation, and columns of the one behind."""
    assert spot.site is not None
    kept = np.flatnonzero(~gone)
    for name in dict.fromkeys(spot.site.producers):
        layer = linear_of(model, name)
        if layer.out_features != spot.n:
            raise IncompatibleSubject(f"matrices before the activation must have a row per neuron, got {name}; ablate its neurons instead.")
        _keep_rows(layer, kept)
    _keep_columns(linear_of(model, spot.site.weight or ""), kept)


def _cut_heads(model: nn.Module, spot: Spot, parts: list[Part], gone: np.ndarray) -> None:
    """Rows of queries, keys and values, and columns of what reads the heads; heads that share keys and values go together."""
    assert spot.site is not None
    groups = [part for part in parts if part.together]
    shared = gone.reshape(len(groups), -1)
    if (shared != shared[:, :1]).any() or gone.all():
        raise IncompatibleSubject(
            f"heads to be cut out must be all that share their keys and values, and not all of a layer, got others in {spot.label}; "
            "ablate them instead."
        )
    own = {name: 1.0 for part in parts if not part.together for name, share in part.saves.items() if share == 1.0}
    every = {name for part in parts for name in part.saves}
    keys = {name for part in groups for name, share in part.saves.items() if np.isclose(share, 1 / len(groups))}
    if every != set(own) | keys:
        raise IncompatibleSubject(f"queries, keys and values must have matrices of their own, got one of several in {spot.label}; ablate.")
    width = linear_of(model, spot.site.weight or "").in_features // len(gone)
    for name in every:
        layer, units = linear_of(model, name), ~gone if name in own else ~shared[:, 0]
        reads = name == spot.site.weight
        if (layer.in_features if reads else layer.out_features) != len(units) * width:
            raise IncompatibleSubject(f"heads must lie side by side, all equally wide, got others in {name}; ablate them instead.")
        kept = np.flatnonzero(np.repeat(units, width))
        (_keep_columns if reads else _keep_rows)(layer, kept)
    counts = {len(gone): int((~gone).sum()), len(groups): int((~shared[:, 0]).sum())}
    for path in {name.rpartition(".")[0].rpartition(".")[0] for name in every - {spot.site.weight}}:
        module = model.get_submodule(path)
        for name in COUNTS:
            n = getattr(module, name, None)
            if isinstance(n, int) and n in counts:
                setattr(module, name, counts[n])


def linear_of(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer that a parameter is the weight of. Raises `IncompatibleSubject` for another layer."""
    from torch import nn

    layer = model.get_submodule(name.rpartition(".")[0])
    if type(layer) is not nn.Linear:
        raise IncompatibleSubject(
            f"matrices to be cut must be linear layers, got a {type(layer).__name__} at {name}; ablate units instead."
        )
    return layer


def _keep_rows(layer: nn.Linear, kept: np.ndarray) -> None:
    set_values(layer, "weight", layer.weight[kept])
    if layer.bias is not None:
        set_values(layer, "bias", layer.bias[kept])
    layer.out_features = len(kept)


def _keep_columns(layer: nn.Linear, kept: np.ndarray) -> None:
    set_values(layer, "weight", layer.weight[:, kept])
    layer.in_features = len(kept)


def set_values(layer: nn.Module, name: str, values: Any) -> None:
    """A parameter of its own with these values."""
    from torch import nn

    setattr(layer, name, nn.Parameter(values.detach().clone(), requires_grad=False))


def _cut_blocks(model: nn.Module, paths: list[str]) -> None:
    """Out of their list; the ones left are numbered anew, for caches go by number."""
    for where in dict.fromkeys(path.rpartition(".")[0] for path in paths):
        blocks: Any = model.get_submodule(where)
        left = [i for i in range(len(blocks)) if f"{where}.{i}" not in paths]
        for i in reversed(range(len(blocks))):
            if i not in left:
                del blocks[i]
        for i, block in enumerate(blocks):
            for part in block.modules():
                if hasattr(part, "layer_idx"):
                    part.layer_idx = i
        config = getattr(model, "config", None)
        if config is not None and getattr(config, "num_hidden_layers", None) is not None:
            types = getattr(config, "layer_types", None)
            config.num_hidden_layers = len(left)
            if types:
                config.layer_types = [types[i] for i in left]
