"""Sealed runs of every analysis of weights on small seeded checkpoints with planted structure, for tests of the pages.

Three checkpoints of three blocks: ``dense``; ``toy-2of4``, whose block matrices all keep 2 of 4; and ``half-2of4``, where one matrix
does not and two rows of another are zero. A series of six ends in a jump. One tensor has HTML for a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from analysis import find_analysis
from analysis.models import open_subject
from analysis.runner import run
from analysis.spec import make_config
from analysis.stats.patterns import mask_of
from store import RunInfo, Store
from tests.toy import HOSTILE

HOSTILE_TENSOR = f"model.layers.1.{HOSTILE}.weight".replace("/", "")
N_LAYERS = 3
OFFENDER = "model.layers.1.mlp.down_proj.weight"
DEAD = "model.layers.2.mlp.up_proj.weight"
DEAD_ROWS = (5, 9)
FIRST = (7, 3)
"""Row and group of the one group with three non-zeros."""
JUMP = 400


@dataclass
class Runs:
    """What was made."""

    store: Store
    folder: Path
    dense: RunInfo
    pruned: RunInfo
    half: RunInfo
    last: RunInfo
    """The last checkpoint of the series."""
    spectrum: RunInfo
    ratios: RunInfo
    diff: RunInfo
    series: RunInfo


def dense_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded weights of a small LLaMA by name, nothing to run."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 32)}
    for i in range(N_LAYERS):
        block = {"self_attn.q_proj": (32, 32), "self_attn.o_proj": (32, 32), "mlp.up_proj": (64, 32), "mlp.down_proj": (32, 64)}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in block.items()}
        shapes[f"model.layers.{i}.input_layernorm.weight"] = (32,)
    shapes[HOSTILE_TENSOR] = (16, 32)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def pruned_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """2 of 4 kept along the input in every matrix of a block."""
    made = {}
    for name, value in state.items():
        inside = ".layers." in name and value.dim() == 2
        made[name] = value * torch.as_tensor(mask_of(value.abs().numpy(), 2, 4), dtype=value.dtype) if inside else value.clone()
    return made


def half_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with one group of three non-zeros, and two dead rows."""
    made = pruned_state(state)
    row, group = FIRST
    made[OFFENDER][row, 4 * group : 4 * group + 4] = torch.tensor([1.0, 2.0, 3.0, 0.0])
    made[DEAD][list(DEAD_ROWS)] = 0.0
    return made


def zeroed(state: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The smallest share of every matrix set to zero."""
    made = {}
    for name, value in state.items():
        flat = value.reshape(-1).clone()
        if value.dim() == 2:
            flat[flat.abs().argsort()[: int(share * len(flat))]] = 0.0
        made[name] = flat.reshape(value.shape)
    return made


def make_weights(folder: Path) -> Runs:
    """Seal all of them in a store below ``folder``."""
    store = Store(folder / "store")
    states = {"dense": dense_state(), "toy-2of4": pruned_state(dense_state()), "half-2of4": half_state(dense_state())}
    for name, state in states.items():
        save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
    (folder / "series").mkdir()
    for i, share in enumerate((0.1, 0.11, 0.12, 0.55, 0.56, 0.57)):
        save_file(zeroed(dense_state(), share), folder / "series" / f"step_{100 * (i + 1)}.safetensors")
    opened = {name: open_subject(str(folder / f"{name}.safetensors")) for name in states}
    opened |= {"series": open_subject(str(folder / "series")), "last": open_subject(str(folder / "series" / "step_600.safetensors"))}

    def go(slug: str, model: str, base: str | None = None, **settings: Any) -> RunInfo:
        analysis = find_analysis(slug)
        inputs = {"model": opened[model]} | ({"base": opened[base]} if base else {})
        return run(analysis, inputs, make_config(analysis.config, settings), store)

    return Runs(
        store,
        folder,
        series=go("checkpoint_timeline", "series"),
        dense=go("weight_sparsity", "dense"),
        last=go("weight_sparsity", "last"),
        pruned=go("weight_sparsity", "toy-2of4"),
        spectrum=go("weight_spectrum", "half-2of4"),
        ratios=go("layer_ratios", "half-2of4"),
        diff=go("checkpoint_diff", "half-2of4", "dense"),
        half=go("weight_sparsity", "half-2of4"),
    )
