"""A dense model and a copy of it with planted holes, each with sealed runs of every question that the page of comparisons shows.

Planted: the down projection of layer 1 has lost 90 % of its weights, neuron `DEAD` of layer 0 its gate and up rows, and head `HEAD` of
layer 1 its queries, so that it attends evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis import find_analysis
from analysis.models import TextWindows, subject_from
from analysis.spec import make_config
from store import RunInfo, Store
from tests import zoo
from tests.once import run_once

DEAD, HEAD = 5, 2
PRUNED_TENSOR = "model.layers.1.mlp.down_proj.weight"
SLUGS = ("weight_sparsity", "neuron_activity", "head_sparsity", "task_loss", "essential_sparsity")
_SETTINGS: dict[str, dict[str, Any]] = {
    "neuron_activity": {"window": 16},
    "head_sparsity": {"window": 16},
    "essential_sparsity": {"levels": "0.3, 0.6, 0.9", "eps": "0.01", "kl_positions": 16, "window": 16},
}


@dataclass
class Compared:
    """What was made."""

    store: Store
    dense: dict[str, RunInfo]
    pruned: dict[str, RunInfo]
    twin: dict[str, RunInfo]
    """The dense model but for the embedding of a token that no text holds: neurons and heads do exactly the same."""
    other_data: RunInfo
    """`neuron_activity` of the pruned model on other text."""


def dense_model() -> Any:
    """A seeded llama whose layers do something."""
    model = zoo.llama()[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(6)
    return model


def pruned_model() -> Any:
    """The same with what is planted."""
    model = dense_model()
    with torch.no_grad():
        down = model.get_parameter(PRUNED_TENSOR)
        down[down.abs() <= down.abs().flatten().quantile(0.9)] = 0
        for part in ("gate_proj", "up_proj"):
            model.get_parameter(f"model.layers.0.mlp.{part}.weight")[DEAD] = 0
        width = 16 // 4
        model.get_parameter("model.layers.1.self_attn.q_proj.weight")[HEAD * width : (HEAD + 1) * width] = 0
    return model


def twin_model() -> Any:
    """Other weights, the same numbers."""
    model = dense_model()
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[0] += 1
    return model


def text(seed: int = 0) -> TextWindows:
    """Seeded tokens in forty documents."""
    ids = np.random.default_rng(seed).integers(3, 60, (80, 16))
    return TextWindows.from_ids(ids, document=np.arange(80) // 2)


def sealed(store: Store, model: Any, name: str, slug: str, seed: int = 0, **settings: Any) -> RunInfo:
    """One run of one question."""
    analysis = find_analysis(slug)
    config = make_config(analysis.config, {**_SETTINGS.get(slug, {}), **settings})
    return run_once(analysis, {"model": subject_from(model, name=name, data=text(seed))}, config, store)


def make_compared(store: Store) -> Compared:
    """All of them, in some seconds."""
    dense, pruned = ({slug: sealed(store, model(), name, slug) for slug in SLUGS} for name, model in MODELS.items())
    twin = {slug: sealed(store, twin_model(), "twin", slug) for slug in ("weight_sparsity", "neuron_activity", "head_sparsity")}
    return Compared(store, dense, pruned, twin, sealed(store, pruned_model(), "pruned", "neuron_activity", seed=1))


MODELS = {"dense": dense_model, "pruned": pruned_model}


def make_judged(store: Store, folder: Any) -> list[RunInfo]:
    """`sae_quality` of one SAE in two models that differ in one matrix behind the place it reads, and of another SAE in the first."""
    from sae_lens.saes.sae import SAEMetadata

    from analysis.given_sae import SAE
    from analysis.latents.dictionary import open_dictionary
    from analysis.latents.sae_quality import SAE_QUALITY, SaeQualityConfig
    from tests.latents.saes import made

    config = SaeQualityConfig(window=16, baselines=False, kl_positions=64, split="all")
    judged = []
    for name, model, more in (("dense", dense_model, 0.0), ("pruned", pruned_model, 0.0), ("dense", dense_model, 0.1)):
        sae = made("topk", d_in=16, d_sae=40)
        with torch.no_grad():
            sae.W_enc.add_(more)
        sae.cfg.metadata = SAEMetadata(hook_name="blocks.1.hook_resid_post", context_size=16)
        sae.save_model(folder / f"sae-{more}")
        inputs = {"model": subject_from(model(), name=name, data=text()), SAE: open_dictionary(folder / f"sae-{more}")}
        judged.append(run_once(SAE_QUALITY, inputs, config, store))
    return judged
