"""One store with a unit of every kind: a neuron, a head, a tensor and a latent, each on a model made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from store import RunInfo, Store
from tests.attention_run import make_heads
from tests.latent_run import make_doubled
from tests.neuron_run import make_neurons


def make_units(store: Store, folder: Path) -> dict[str, tuple[str, RunInfo, Mapping[str, str]]]:
    """By kind of unit: its page, the run it is in, and the rest of its address."""
    from safetensors.torch import save_file

    from analysis import find_analysis
    from analysis.models import open_subject
    from analysis.runner import run
    from tests.weight_runs import dense_state

    weights = find_analysis("weight_sparsity")
    path = folder / "dense.safetensors"
    save_file({key: value.contiguous() for key, value in dense_state().items()}, path)
    tensors = run(weights, {"model": open_subject(str(path))}, weights.config(), store)
    neurons, heads = make_neurons(store), make_heads(store)
    place = heads.summaries["attention_layers"][0]
    return {
        "neuron": ("neuron", neurons, {"layer": "1", "neuron": "7"}),
        "head": ("head", heads, {"layer": str(place["layer"]), "head": "1"}),
        "tensor": ("tensor", tensors, {"tensor": str(store.read(tensors, "tensors")["tensor"].iloc[0])}),
        "latent": ("latent", make_doubled(store, folder / "sae"), {"latent": "1"}),
    }
